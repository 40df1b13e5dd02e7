import {removeLeftovers} from '../dm/restore.js'
import {causeText} from '../errors.js'
import type {FrozenProcesses} from '../kernel-api/freezer.js'
import type {Machine} from '../machine.js'
import {parseFigures, type Figures} from './figures.js'

/**
 * In the resumed system. The kernel has dropped the snapshot tables, so file systems are what they
 * were at the snapshot, and writable again; what was written after it is gone with the slices.
 *
 * The state of the random generator is in the image, which lies on a disk, and needed daemons have gone on drawing from
 * it while the image was saved: nobody is thawed before it has new keys. The kernel mixes in what it knows of the resume
 * but makes new keys only once a minute (drivers/char/random.c, random_pm_notification() and crng_reseed()).
 *
 * The figures come from the image: what was measured after the snapshot is not in the memory that was saved.
 * Nobody is kept frozen for anything that fails here: what is left over harms nothing and goes when
 * the daemon starts next.
 */
export async function welcomeBack(machine: Machine, frozen: FrozenProcesses, own: Figures): Promise<Figures> {
  await tryTo(machine, 'reseed the random generator', async () => machine.syscalls.reseedRandom())
  await tryTo(machine, 'remove bases and slices', async () => {
    machine.faults.hit('resumed')
    await removeLeftovers(machine.dm)
  })
  frozen.thaw()
  let figures = own
  await tryTo(machine, `read the figures on '${machine.sink.name}'`, async () => {
    figures = {...own, ...parseFigures(await machine.sink.readFigures())}
  })
  await tryTo(machine, `mark the image on '${machine.sink.name}' resumed`, async () => {
    machine.faults.hit('resumed-thawed')
    await machine.sink.mark('resumed')
  })
  return figures
}

async function tryTo(machine: Machine, what: string, act: () => Promise<void>): Promise<void> {
  try {
    await act()
  } catch (error) {
    machine.log.error(`Cannot ${what} after the resume: ${causeText(error)}, ignoring`)
  }
}
