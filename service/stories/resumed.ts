import {setTimeout as sleep} from 'node:timers/promises'
import {removeLeftovers} from '../dm/restore.js'
import {BusyError, causeText} from '../errors.js'
import type {FrozenProcesses} from '../kernel-api/freezer.js'
import type {Machine} from '../machine.js'
import {parseFigures, type Figures} from './figures.js'

/**
 * In the resumed system. The kernel has dropped the snapshot tables, so file systems are what they
 * were at the snapshot, and writable again; what was written after it is gone with the slices.
 *
 * The figures come from the image: what was measured after the snapshot is not in the memory that was saved.
 */
export async function welcomeBack(machine: Machine, frozen: FrozenProcesses, own: Figures): Promise<Figures> {
  await goOn(machine, frozen)
  let figures = own
  await tryTo(machine, `read the figures on '${machine.sink.name}'`, async () => {
    figures = {...own, ...parseFigures(await machine.sink.readFigures())}
  })
  try {
    machine.faults.hit('resumed-thawed')
    await machine.sink.mark('resumed')
  } catch (error) {
    machine.log.warning(`Cannot mark the image on '${machine.sink.name}' resumed yet: ${causeText(error)}`)
    void markLater(machine)
  }
  return figures
}

/**
 * Thaws everybody in the resumed system.
 *
 * The state of the random generator is in the image, which lies on a disk, and needed daemons have gone on drawing from
 * it while the image was saved: nobody is thawed before it has new keys. The kernel mixes in what it knows of the resume
 * but makes new keys only once a minute (drivers/char/random.c, random_pm_notification() and crng_reseed()).
 *
 * Nobody is kept frozen for anything that fails here: what is left over harms nothing and goes when
 * the daemon starts next.
 */
export async function goOn(machine: Machine, frozen: FrozenProcesses): Promise<void> {
  await tryTo(machine, 'reseed the random generator', async () => machine.syscalls.reseedRandom())
  await tryTo(machine, 'remove bases and slices', async () => {
    machine.faults.hit('resumed')
    await removeLeftovers(machine.dm)
  })
  frozen.thaw()
}

/**
 * A spare device on the network comes back a while after the resume: when whoever keeps its connection has found it broken. Until
 * then the image is one that is being resumed, which no boot resumes a second time.
 */
async function markLater(machine: Machine): Promise<void> {
  let cause: unknown
  for (let tries = 0; tries < MARK_TRIES; tries += 1) {
    await sleep(MARK_INTERVAL_MS, undefined, {ref: false})
    try {
      await machine.exclusive.run('the last image is being marked as resumed', async () => {
        // Another hibernation may have begun, and have ended, since.
        if ((await machine.sink.readState()) === 'resuming') await machine.sink.mark('resumed')
      })
      return
    } catch (error) {
      // The hibernation that is under way writes its own image over this one.
      if (error instanceof BusyError) return
      cause = error
    }
  }
  machine.log.error(`Cannot mark the image on '${machine.sink.name}' resumed: ${causeText(cause)}, ignoring`)
}

/** A network block device is given up after tens of seconds; then it has to be connected anew. */
const MARK_INTERVAL_MS = 2_000
const MARK_TRIES = 60

async function tryTo(machine: Machine, what: string, act: () => Promise<void>): Promise<void> {
  try {
    await act()
  } catch (error) {
    machine.log.error(`Cannot ${what} after the resume: ${causeText(error)}, ignoring`)
  }
}
