import type {PreparedFileSystem} from '../dm/prepare.js'
import {eitherOf} from '../edge/either-signal.js'
import {SnapshotImage, type FrozenProcesses} from '../kernel-api/freezer.js'
import type {Machine} from '../machine.js'
import type {ImageSession} from '../sinks/sink.js'
import {Attempt} from './attempt.js'
import type {Figures} from './figures.js'
import {explain, type HibernateOutcome, type HibernateRequest} from './hibernate.js'
import {noteMerges} from './merge-notes.js'
import {refuseUnlessReady} from './preflight.js'
import {reportProgress} from './progress.js'
import {reportAttempt} from './report.js'
import {giveUpImage, leaveSnapshot, restoreTables, writeDownMerges} from './rollback.js'
import {freezeEverybody, keepNeededRunning, makeValid, powerOffAlone, prepareFileSystems, saveImage} from './steps.js'
import {RoomWatch} from './watch.js'

export interface SnapshotRequest extends HibernateRequest {
  /**
   * What follows when the image is complete. `halt`: the power goes, and the image may be resumed. `merge`: the machine
   * goes on for good, and the image may never be.
   */
  readonly then: 'halt' | 'merge'
  /** Everybody runs again, while the image is still to be saved. */
  readonly onThawed: () => void
}

export type SnapshotOutcome = HibernateOutcome | {readonly kind: 'merged'; readonly figures: Figures}

/**
 * Takes a snapshot and saves it while everybody runs on. It throws a RefusedError when nothing was changed. Otherwise
 * it returns in the resumed system, or in this one after a merge or a roll-back; after `halt` it does not return.
 *
 * - What is written after the snapshot is in the slices, and the list of merges is on the spare device before anybody
 *   runs: a power cut loses nothing of it, since the next boot merges it and resumes nothing.
 * - With `merge` the image is given up at that same instant. With `halt` the list goes after the image has become one
 *   that may be resumed, and what was written meanwhile is lost, as the person wants it.
 */
export async function snapshotRunning(request: SnapshotRequest, machine: Machine): Promise<SnapshotOutcome> {
  return machine.exclusive.run('a snapshot is already being taken', async () => {
    await refuseUnlessReady(request, machine)
    const attempt = new SnapshotAttempt(request, machine)
    const outcome = await goOrReturn(attempt, request, machine)
    reportAttempt(machine.log, outcome, attempt.needed)
    machine.log.flush()
    return outcome
  })
}

async function goOrReturn(attempt: SnapshotAttempt, request: SnapshotRequest, machine: Machine): Promise<SnapshotOutcome> {
  try {
    const end = await attempt.prepareAndGo()
    if (end === 'merge') await restoreTables(machine)
    return {kind: end === 'merge' ? 'merged' : 'resumed', figures: attempt.figures}
  } catch (error) {
    request.onState('rolling-back')
    await restoreTables(machine)
    return {kind: 'rolled-back', cause: explain(error, 'take a snapshot'), figures: attempt.figures}
  }
}

interface Saving {
  readonly imageFd: number
  readonly fileSystems: readonly PreparedFileSystem[]
  readonly session: ImageSession
  readonly watch: RoomWatch
  readonly signal: AbortSignal
}

class SnapshotAttempt extends Attempt<SnapshotRequest> {
  async prepareAndGo(): Promise<'merge' | 'resumed'> {
    const {onState, signal} = this.request
    const {sink, faults} = this.machine
    onState('preparing')
    const startedMs = performance.now()
    const fileSystems = await prepareFileSystems(this.machine)
    faults.hit('tables-loaded')
    signal.throwIfAborted()
    await using watch = new RoomWatch(this.machine)
    using stop = eitherOf([signal, watch.signal])
    const either = stop.signal
    await using session = await sink.begin({signal: either})
    try {
      faults.hit('image-begun')
      this.note({prepare_ms: Math.round(performance.now() - startedMs)})
      const imageFd = await this.#freezeAndTake(fileSystems)
      if (imageFd === null) return 'resumed'
      watch.begin(fileSystems)
      await this.#saveRunning({imageFd, fileSystems, session, watch, signal: either})
    } catch (error) {
      onState('rolling-back')
      await leaveSnapshot(this.machine)
      throw either.aborted ? either.reason : error
    }
    await leaveSnapshot(this.machine)
    return 'merge'
  }

  /** Everybody is frozen for as long as the snapshot takes. Gives null in the resumed system. */
  async #freezeAndTake(fileSystems: readonly PreparedFileSystem[]): Promise<number | null> {
    this.request.onState('freezing')
    let frozen: FrozenProcesses | null = null
    try {
      frozen = freezeEverybody(this.machine)
      return await this.#takeFrozen(frozen, fileSystems)
    } finally {
      frozen?.thaw()
      this.request.onThawed()
    }
  }

  async #takeFrozen(frozen: FrozenProcesses, fileSystems: readonly PreparedFileSystem[]): Promise<number | null> {
    const {faults, syscalls, sink} = this.machine
    const result = this.takeSnapshot(frozen, fileSystems)
    if (result.side === 'resumed') {
      await this.welcomeBack(frozen)
      return null
    }
    try {
      faults.hit('snapshot-taken')
      if (this.request.then === 'merge') await sink.mark('aborted')
      await noteMerges(this.machine)
      return result.imageFd
    } catch (error) {
      syscalls.close(result.imageFd)
      throw error
    }
  }

  async #saveRunning({imageFd, fileSystems, session, watch, signal}: Saving): Promise<void> {
    const {onState, onProgress, then} = this.request
    const {syscalls, faults, mergeNotes} = this.machine
    await using image = new SnapshotImage(syscalls, imageFd)
    if (then === 'halt') this.checkLoadable()
    onState('saving')
    const startedMs = performance.now()
    const streamBytes = Number(this.figures['image_bytes'] ?? 0)
    const saved = await saveImage(this.machine, {image, streamBytes, fileSystems, session, signal, onProgress: reportProgress(onProgress)})
    faults.hit('stream-written')
    // Nobody may swap out to where the image has something swapped out: one that is resumed is let go by the power-off only.
    // Of one that is not, the memory is everybody's again, while the other side may still be busy.
    if (then === 'merge') {
      image.release()
      watch.imageReleased()
    }
    this.note({save_ms: Math.round(performance.now() - startedMs)})
    let frozen: FrozenProcesses | null = null
    try {
      await makeValid(this.machine, session, {...saved, swaps: then === 'halt' ? this.swaps : [], figures: this.figures, signal})
      faults.hit('image-valid')
      signal.throwIfAborted()
      if (then === 'merge') return
      onState('powering-off')
      // From before the list goes nobody runs but whom the policy names, since the spare device may be behind one of them; and from
      // before the power goes nobody does: see powerOffAlone() in steps.ts.
      frozen = freezeEverybody(this.machine)
      const needed = keepNeededRunning(this.machine)
      await mergeNotes.clearMerges()
      return powerOffAlone(this.machine, needed)
    } catch (error) {
      // Before what it has in memory and on swap devices is let go, and before anybody runs. A list beside an image that may be
      // resumed is merged, and the image given up: at no time is there neither.
      await writeDownMerges(this.machine)
      await giveUpImage(this.machine)
      throw error
    } finally {
      frozen?.thaw()
    }
  }
}
