// stock NAME: the same through the unmodified in-kernel path, for comparison. The machine needs --swap.
import {UsageError} from '../errors.js'
import {figuresOfConsole, NO_FIGURES} from '../figures.js'
import type {Machine} from '../machine.js'
import {takeStockPath, type Compressor} from '../stock-path.js'
import {askAndMeasure, ASK_EVERY_MS, type Report} from './hibernate.js'

/** `quietMs` as for hibernate(). */
export async function stock(machine: Machine, compressor: Compressor, quietMs = ASK_EVERY_MS): Promise<Report> {
  using _held = await machine.lock()
  if (!machine.state.disks.some(disk => disk.role === 'swap'))
    throw new UsageError(`Machine '${machine.name}' has no swap; 'up ${machine.name} --swap SIZE' makes one`)
  await takeStockPath(machine, compressor)
  const {reason, seconds} = await askAndMeasure(machine, ['systemctl', 'hibernate'], 'systemd-hibernate.service', quietMs)
  if (reason !== null)
    return {ok: false, seconds, ...NO_FIGURES, bootToUserMs: null, reason}
  const figures = figuresOfConsole(machine.consoleOfLastBoot())
  machine.update({qemu: null, figures})
  return {ok: true, seconds, ...figures, bootToUserMs: null, reason: null}
}
