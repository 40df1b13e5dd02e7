import type {PreparedFileSystem} from '../dm/prepare.js'
import {eitherOf} from '../edge/either-signal.js'
import type {Log} from '../edge/journal.js'
import {causeText, FailedError, PermafrostError} from '../errors.js'
import {SnapshotImage, type FrozenProcesses} from '../kernel-api/freezer.js'
import type {Machine} from '../machine.js'
import type {ImageSession} from '../sinks/sink.js'
import {Attempt} from './attempt.js'
import {watchSlices} from './cow-watch.js'
import type {Figures} from './figures.js'
import {refuseUnlessReady} from './preflight.js'
import {reportAttempt} from './report.js'
import {reportProgress, type Progress} from './progress.js'
import {giveUpImage, leaveSnapshot, restoreTables} from './rollback.js'
import {freezeEverybody, makeValid, powerOffAlone, prepareFileSystems, saveImage} from './steps.js'

export type StoryState =
  | 'idle'
  | 'checking'
  | 'preparing'
  | 'freezing'
  | 'snapshot'
  | 'saving'
  | 'powering-off'
  | 'rolling-back'
  | 'resuming'

export interface HibernateRequest {
  readonly signal: AbortSignal
  readonly onState: (state: StoryState) => void
  readonly onProgress: (progress: Progress) => void
  /** Right after the freeze: who goes on running beside the service. */
  readonly onNeeded: (pids: readonly number[]) => void
}

export type HibernateOutcome =
  | {readonly kind: 'resumed'; readonly figures: Figures}
  | {readonly kind: 'rolled-back'; readonly cause: Error; readonly figures: Figures}

/**
 * The whole story. It throws a RefusedError when nothing was changed. Otherwise it returns in the
 * resumed system, or in this one when something failed and everything is as before; where all
 * goes well it does not return in this one at all, since the machine is off.
 *
 * Between the freeze and the thaw nothing may wait for another process: no bus, no journal, no udev.
 */
export async function hibernate(request: HibernateRequest, machine: Machine): Promise<HibernateOutcome> {
  return machine.exclusive.run('a hibernation is already under way', async () => {
    await refuseUnlessReady(request, machine)
    machine.log.info("Entering sleep state 'hibernate'...", {MESSAGE_ID: SLEEP_START, SLEEP: 'hibernate'})
    const outcome = await tryOnce(request, machine)
    reportEnd(machine.log, outcome)
    return outcome
  })
}

async function tryOnce(request: HibernateRequest, machine: Machine): Promise<HibernateOutcome> {
  const attempt = new HibernateAttempt(request, machine)
  const outcome = await goOrReturn(attempt, {request, machine, what: 'hibernate'})
  reportAttempt(machine.log, outcome, attempt.needed)
  return outcome
}

/** An attempt that ends in the resumed system, or is rolled back. `what` is a clause behind "Cannot". */
export async function goOrReturn(
  attempt: {readonly prepareAndGo: () => Promise<Figures>; readonly figures: Figures},
  {request, machine, what}: {readonly request: HibernateRequest; readonly machine: Machine; readonly what: string},
): Promise<HibernateOutcome> {
  try {
    return {kind: 'resumed', figures: await attempt.prepareAndGo()}
  } catch (error) {
    request.onState('rolling-back')
    await restoreTables(machine)
    const {aborted, reason} = request.signal
    return {kind: 'rolled-back', cause: explain(aborted ? reason : error, what), figures: attempt.figures}
  } finally {
    machine.log.flush()
  }
}

// SD_MESSAGE_SLEEP_START and _STOP of systemd's sd-messages.h: what other programs look for.
const SLEEP_START = '6bbd95ee977941e497c48be27c254128'
const SLEEP_STOP = '8811e6df2a8e40f58a94cea26f8ebf14'

function reportEnd(log: Log, outcome: HibernateOutcome): void {
  const fields = {MESSAGE_ID: SLEEP_STOP, SLEEP: 'hibernate'}
  if (outcome.kind === 'resumed') log.info('System returned from sleep state.', fields)
  else log.error(`Failed to put system to sleep. System resumed again: ${causeText(outcome.cause)}`, fields)
}

class HibernateAttempt extends Attempt<HibernateRequest> {
  /** Aborted with the watch over the slices, which begins later than the session with the target. */
  readonly #watched = new AbortController()

  /** Returns in the resumed system only. */
  async prepareAndGo(): Promise<Figures> {
    const {onState, signal} = this.request
    const {sink, faults} = this.machine
    onState('preparing')
    const startedMs = performance.now()
    const fileSystems = await prepareFileSystems(this.machine)
    faults.hit('tables-loaded')
    signal.throwIfAborted()
    using stop = eitherOf([signal, this.#watched.signal])
    await using session = await sink.begin({signal: stop.signal})
    return await this.#goWhileFrozen(fileSystems, session, startedMs)
  }

  /** However it ends, everybody is thawed; when it fails, only after the snapshots have been left. */
  async #goWhileFrozen(
    fileSystems: readonly PreparedFileSystem[],
    session: ImageSession,
    startedMs: number,
  ): Promise<Figures> {
    const {faults} = this.machine
    let frozen: FrozenProcesses | null = null
    try {
      faults.hit('image-begun')
      this.note({prepare_ms: Math.round(performance.now() - startedMs)})
      this.request.onState('freezing')
      frozen = freezeEverybody(this.machine)
      await this.#snapshotAndSave(frozen, fileSystems, session)
    } catch (error) {
      this.request.onState('rolling-back')
      await leaveSnapshot(this.machine)
      const {aborted, reason} = this.#watched.signal
      throw aborted ? reason : error
    } finally {
      frozen?.thaw()
    }
    return this.figures
  }

  async #snapshotAndSave(
    frozen: FrozenProcesses,
    fileSystems: readonly PreparedFileSystem[],
    session: ImageSession,
  ): Promise<void> {
    const result = this.takeSnapshot(frozen, fileSystems)
    if (result.side === 'created') await this.#saveAndPowerOff(result.imageFd, fileSystems, session)
    else await this.welcomeBack(frozen)
  }

  async #saveAndPowerOff(
    imageFd: number,
    fileSystems: readonly PreparedFileSystem[],
    session: ImageSession,
  ): Promise<never> {
    const {onState, onProgress} = this.request
    const {syscalls, faults, dm} = this.machine
    await using image = new SnapshotImage(syscalls, imageFd)
    await using watch = watchSlices({dm, fileSystems, signal: this.request.signal})
    const {signal} = watch
    signal.addEventListener('abort', () => this.#watched.abort(signal.reason))
    faults.hit('snapshot-taken')
    this.checkLoadable()
    onState('saving')
    const startedMs = performance.now()
    const streamBytes = Number(this.figures['image_bytes'] ?? 0)
    const saved = await saveImage(this.machine, {image, streamBytes, fileSystems, session, signal, onProgress: reportProgress(onProgress)})
    faults.hit('stream-written')
    const peakBytes = readPeakMemory(this.machine.files.readText('/proc/self/status') ?? '')
    this.note({service_peak_bytes: peakBytes, save_ms: Math.round(performance.now() - startedMs)})
    try {
      await makeValid(this.machine, session, {...saved, swaps: this.swaps, figures: this.figures, signal})
      faults.hit('image-valid')
      signal.throwIfAborted()
      onState('powering-off')
      return powerOffAlone(this.machine, this.needed)
    } catch (error) {
      // Before what it has in memory and on swap devices is let go.
      await giveUpImage(this.machine)
      throw error
    }
  }
}

/** proc(5): VmHWM, the most of this process that was ever resident. */
function readPeakMemory(status: string): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024
}

/** `attempt` is a clause behind "Cannot". */
export function explain(error: unknown, attempt: string): Error {
  if (error instanceof PermafrostError) return error
  return new FailedError(`Cannot ${attempt}: ${causeText(error)}`, {cause: error})
}
