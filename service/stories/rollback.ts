import {beginMerges, findLeftovers, leaveLostSlices, finishMerges, type Leftover} from '../dm/restore.js'
import {causeText} from '../errors.js'
import type {Machine} from '../machine.js'
import type {ImageState} from '../image/superblock.js'
import {forgetMerges, noteMerges, settleOldMerges} from './merge-notes.js'

/**
 * The way back from a snapshot that is not to be resumed: the machine goes on as it is now.
 *
 * - The image is given up first, and flushed. Only then may a base be written: an image that were
 *   still valid beside a base that changed would be refused by its fingerprints at best.
 * - What will be merged is written down, and flushed, before the first merge begins: a base that is half merged
 *   is of no use without its slice, so after a power cut the loader finishes the merge before it mounts anything.
 *   Where it cannot be written down no merge begins before everybody runs and a second try has failed as well: a slice that
 *   is never merged would be lost whole, and fills up.
 * - Until then a power cut leaves bases as they were at the snapshot, and what needed daemons have written since
 *   is lost, as it is after a resume. Nobody else has run.
 * - Merges begin while everybody is frozen, because a slice that fills up is lost, and a device
 *   that is being merged uses no more of it. They end after the thaw, since they may take long.
 * - Where a slice is lost, because the spare device is, with something in it, the machine does not go on: its file systems are as
 *   at the snapshot, and only a restart keeps them so. With nothing in it no merge is needed, and none is written down.
 * - What fails here is logged and left for the next start of the daemon; everybody is thawed whatever happens.
 */
export async function leaveSnapshot(machine: Machine): Promise<void> {
  await giveUpImage(machine)
  await tryTo(machine, 'leave slices that are lost', () => restartIfLost(machine))
  const isNoted = await tryTo(machine, 'write down what is merged', async () => {
    machine.faults.hit('image-given-up')
    await noteMerges(machine)
  })
  if (!isNoted) return
  await tryTo(machine, 'begin merging', async () => {
    machine.faults.hit('merges-noted')
    await beginMerges(machine)
    machine.faults.hit('merge-begun')
  })
}

/** To be called before anything that the image may refer to is let go: memory, and slots of swap devices. */
export async function giveUpImage(machine: Machine): Promise<void> {
  await tryTo(machine, 'give up the image', () => machine.sink.mark('aborted'))
}

async function restartIfLost(machine: Machine): Promise<void> {
  const lost = await leaveLostSlices(machine)
  if (lost.length === 0) return
  machine.syscalls.restart(
    `Cannot go back: '${machine.configuration.spareDevice ?? machine.sink.name}' has failed, and with it what was written to '${lost.join("', '")}' since the snapshot; restarting, the file systems are as they were then`,
  )
}

/** The rest of it, once everybody runs again; what could not be begun before is tried once more. */
export async function restoreTables(machine: Machine): Promise<void> {
  await noteOrWarn(machine)
  await tryTo(machine, 'restore the tables', async () => {
    machine.faults.hit('thawed')
    await beginMerges(machine)
    await finishMerges(machine, MERGE_DEADLINE_MS)
    machine.faults.hit('merged')
    await forgetMerges(machine)
  })
}

/** Whether the list is on the spare device. */
export async function writeDownMerges(machine: Machine): Promise<boolean> {
  return await tryTo(machine, 'write down what is merged', () => noteMerges(machine))
}

async function noteOrWarn(machine: Machine): Promise<void> {
  if (await writeDownMerges(machine)) return
  machine.log.error('Merging although it could not be written down: should the power go before this has ended, file systems are damaged')
}

export interface RecoveryReport {
  /** Live devices that were found with something of ours, and what state they were in. */
  readonly restored: readonly Pick<Leftover, 'live' | 'state'>[]
  /** What the spare device said before, and says now; null where there is none that is ours. */
  readonly imageBefore: ImageState | null
  readonly imageAfter: ImageState | null
}

/**
 * Run when the daemon starts, before anything else. A daemon that died while it hibernated has left
 * everybody thawed, file systems possibly on snapshots, and an image in any state.
 */
export async function recover(machine: Machine): Promise<RecoveryReport> {
  return machine.exclusive.run('what an earlier hibernation left behind is being put back', async () => {
    const leftovers = await findLeftovers(machine.dm)
    const image = await recoverImage(machine, leftovers)
    if (image.imageBefore !== null) await tryTo(machine, 'look for merges that a power cut interrupted', () => settleOldMerges(machine))
    if (leftovers.length > 0) {
      await noteOrWarn(machine)
      await beginMerges(machine)
      await finishMerges(machine, MERGE_DEADLINE_MS)
      await forgetMerges(machine)
      machine.log.info(`Put ${leftovers.length} devices back on their own tables after an interrupted hibernation`)
    }
    return {restored: leftovers.map(({live, state}) => ({live, state})), ...image}
  })
}

/** A slice of some hundred MiB merges in seconds; a slow disk under load may need minutes. */
const MERGE_DEADLINE_MS = 10 * 60_000

/**
 * A valid image of a machine that runs on snapshots is given up before they are merged. One that
 * was being resumed when the daemon died has been resumed. One that was being written never will be.
 */
async function recoverImage(
  machine: Machine,
  leftovers: readonly Leftover[],
): Promise<{imageBefore: ImageState | null; imageAfter: ImageState | null}> {
  const before = await readState(machine)
  if (before === null) return {imageBefore: null, imageAfter: null}
  const after = decideState(before, leftovers.length > 0)
  if (after === null) return {imageBefore: before, imageAfter: before}
  await machine.sink.mark(after)
  machine.log.warning(`The image on '${machine.sink.name}' was in state '${before}' and is now '${after}'`)
  return {imageBefore: before, imageAfter: after}
}

/** What the image is to be marked; null when it stays what it is. */
function decideState(before: ImageState, hasLeftovers: boolean): 'resumed' | 'aborted' | null {
  switch (before) {
    case 'writing':
      return 'aborted'
    case 'resuming':
      return hasLeftovers ? 'resumed' : 'aborted'
    case 'valid':
      return hasLeftovers ? 'aborted' : null
    // Only the loader resumes it; here file systems are mounted, or even on snapshots.
    case 'away':
      return 'aborted'
    case 'empty':
    case 'resumed':
    case 'aborted':
      return null
    default:
      return before satisfies never
  }
}

/** No spare device, or none that is ours, is nothing to recover; the preflight will say so. */
async function readState({sink}: Machine): Promise<ImageState | null> {
  try {
    return await sink.readState()
  } catch {
    return null
  }
}

/** Whether it could be done. */
async function tryTo(machine: Machine, what: string, act: () => Promise<void>): Promise<boolean> {
  try {
    await act()
    return true
  } catch (error) {
    machine.log.error(`Cannot ${what} after a failed hibernation: ${causeText(error)}; the daemon tries again when it is started, ignoring`)
    return false
  }
}
