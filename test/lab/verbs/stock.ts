// stock NAME: the same through the unmodified in-kernel path, for comparison. The machine needs --swap.
import {UsageError} from '../errors.js'
import {figuresOfConsole, NO_FIGURES} from '../figures.js'
import type {Machine} from '../machine.js'
import {askAndWait, secondsSince, type Report} from './hibernate.js'

export type Compressor = 'lz4' | 'lzo'

/** What systemd-sleep does when nobody replaces it: name the device, choose how to go off, write 'disk'. */
const SCRIPT = `
swap=$(readlink -f /dev/disk/by-id/virtio-swap)
echo "$1" > /sys/module/hibernate/parameters/compressor
echo shutdown > /sys/power/disk
cat "/sys/class/block/\${swap##*/}/dev" > /sys/power/resume
sync
echo disk > /sys/power/state
`

export async function stock(machine: Machine, compressor: Compressor): Promise<Report> {
  using _held = await machine.lock()
  if (!machine.state.disks.some(disk => disk.role === 'swap'))
    throw new UsageError(`Machine '${machine.name}' has no swap; 'up ${machine.name} --swap SIZE' makes one`)
  const started = performance.now()
  const reason = await askAndWait(machine, ['sh', '-euc', SCRIPT, 'sh', compressor], null)
  const seconds = secondsSince(started)
  if (reason !== null)
    return {ok: false, seconds, ...NO_FIGURES, bootToUserMs: null, reason}
  const figures = figuresOfConsole(machine.consoleOfLastBoot())
  machine.update({qemu: null, figures})
  return {ok: true, seconds, ...figures, bootToUserMs: null, reason: null}
}
