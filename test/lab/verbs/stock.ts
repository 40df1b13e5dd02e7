// stock NAME: the same through the unmodified in-kernel path, for comparison. The machine needs --swap.
import {UsageError} from '../errors.js'
import {figuresOfConsole, NO_FIGURES} from '../figures.js'
import type {Machine} from '../machine.js'
import {takeStockPath, type Compressor} from '../stock-path.js'
import {askAndWait, secondsSince, type Report} from './hibernate.js'

export async function stock(machine: Machine, compressor: Compressor): Promise<Report> {
  using _held = await machine.lock()
  if (!machine.state.disks.some(disk => disk.role === 'swap'))
    throw new UsageError(`Machine '${machine.name}' has no swap; 'up ${machine.name} --swap SIZE' makes one`)
  await takeStockPath(machine, compressor)
  const started = performance.now()
  const reason = await askAndWait(machine, ['systemctl', 'hibernate'], 'systemd-hibernate.service')
  const seconds = secondsSince(started)
  if (reason !== null)
    return {ok: false, seconds, ...NO_FIGURES, bootToUserMs: null, reason}
  const figures = figuresOfConsole(machine.consoleOfLastBoot())
  machine.update({qemu: null, figures})
  return {ok: true, seconds, ...figures, bootToUserMs: null, reason: null}
}
