import {type Explanation, type FigureTable, type Manager, type ManagerProperties, type CheckRow, type NeededRow, type SnapshotOrder} from './bus/interface.js'
import {type Console} from './edge/console.js'
import {type Log} from './edge/journal.js'
import {type Keyboards} from './edge/keyboard.js'
import {formatProgress, percent} from './edge/progress.js'
import {AbortedError, BusyError, causeText, FailedError, NothingToAbortError, PermafrostError, RefusedError} from './errors.js'
import {type HibernateOutcome, type HibernateRequest, type StoryState} from './stories/hibernate.js'
import {type Progress} from './stories/progress.js'
import {type SnapshotOutcome, type SnapshotRequest} from './stories/snapshot.js'

export interface AttemptParts {
  /** Throws a refusal when nothing was changed. */
  readonly hibernate: (request: HibernateRequest) => Promise<HibernateOutcome>
  /** Throws a refusal when nothing was changed. */
  readonly snapshot: (request: SnapshotRequest, order: SnapshotOrder) => Promise<SnapshotOutcome>
  /** Throws a refusal when nothing was changed. */
  readonly selfTest: (request: HibernateRequest) => Promise<HibernateOutcome>
  /** Ends when nothing of an earlier attempt is left, with a sentence where there was something. */
  readonly recover: () => Promise<string | null>
  readonly check: () => Promise<readonly CheckRow[]>
  readonly listNeeded: () => Promise<readonly NeededRow[]>
  readonly explainNeeded: (pid: number) => Promise<Explanation>
  readonly log: Log
  readonly openConsole: () => Console
  readonly openKeyboards: (onEscape: () => void) => Keyboards
}

/** Who is told of changes, and holds them back while everybody else is frozen. */
export interface Presenter {
  changed(...names: readonly (keyof ManagerProperties)[]): void
  signal(member: 'Hibernating'): void
  signal(member: 'Resumed', figures: FigureTable): void
  pause(): void
  resume(): void
  /** The process that carries it all. */
  readonly busPid: number | null
}

/** The check whose failure means that this kernel will never do it. */
const KERNEL_CHECK = 'kernel'
/** States in which there is no way back, or nothing to go back from. */
const TOO_LATE: Readonly<Record<string, string>> = {
  'powering-off': 'the image is complete and the machine is switching off',
  resuming: 'the machine has been resumed already',
}
const UNDER_WAY = 'a hibernation is already under way'
const SNAPSHOT_UNDER_WAY = 'a snapshot is already being taken'
const SELFTEST_UNDER_WAY = 'a self-test is already under way'

/**
 * One hibernation or snapshot at a time, and what can be seen of it from outside.
 * - From `freezing` until the story has ended nothing is written to the bus, unless the bus is kept running.
 * - Esc on a keyboard aborts from `freezing` on, until everybody runs again: then other programs have uses for it.
 * - A story that has begun is always waited for, whatever becomes of the caller or the bus.
 */
export class Attempts implements Manager {
  readonly #parts: AttemptParts
  #presenter: Presenter | null = null
  #keyboards: Keyboards | null = null
  #running: {readonly controller: AbortController, readonly done: Promise<void>, readonly activity: string} | null = null
  /** The image is saved while everybody runs: the console is theirs. */
  #isRunningOn = false
  #recovery: Promise<void> = Promise.resolve()
  #checking: Promise<readonly CheckRow[]> | null = null
  #properties: ManagerProperties = {
    State: 'idle', Progress: 0, TimeLeftUSec: null, ImageBytes: 0, LastResult: '', LastOutcome: '', LastFigures: {},
  }

  constructor(parts: AttemptParts) {
    this.#parts = parts
  }

  present(presenter: Presenter): void {
    this.#presenter = presenter
  }

  properties(): ManagerProperties {
    return this.#properties
  }

  /** Undoes what an earlier life of the daemon left behind; a hibernation asked for meanwhile waits. */
  recover(): Promise<void> {
    this.#set({State: 'checking'})
    this.#recovery = this.#recoverAndSay()
    return this.#recovery
  }

  async hibernate(): Promise<void> {
    await this.#attempt(UNDER_WAY, (request) => this.#parts.hibernate(request))
  }

  async snapshot(order: SnapshotOrder): Promise<void> {
    await this.#attempt(SNAPSHOT_UNDER_WAY, (request) => this.#parts.snapshot({
      ...request,
      then: order.then,
      onThawed: () => {
        this.#isRunningOn = true
        this.#endPause()
      },
    }, order))
  }

  async selfTest(): Promise<FigureTable> {
    await this.#attempt(SELFTEST_UNDER_WAY, (request) => this.#parts.selfTest(request))
    return this.#properties.LastFigures
  }

  async #attempt(activity: string, tell: Story): Promise<void> {
    if (this.#running !== null) throw new BusyError(this.#running.activity)
    const controller = new AbortController()
    const outcome = this.#run(controller.signal, tell)
    this.#running = {controller, activity, done: outcome.then(() => undefined, () => undefined)}
    let end: SnapshotOutcome | null = null
    try {
      end = await outcome
      this.#conclude(end)
    } catch (error) {
      this.#parts.log.error(causeText(error))
      this.#set({LastResult: causeText(error), LastOutcome: end?.kind ?? (error instanceof RefusedError ? 'refused' : 'failed')})
      throw error instanceof PermafrostError ? error : new FailedError(`Cannot hibernate: ${causeText(error)}`, {cause: error})
    } finally {
      this.#running = null
      this.#set({State: 'idle', TimeLeftUSec: null})
    }
  }

  abort(): void {
    const refusal = this.#refusalToAbort()
    if (refusal !== null) throw refusal
    this.#running?.controller.abort(new AbortedError())
  }

  /** For when the daemon is told to end. */
  abortIfRunning(): void {
    this.#running?.controller.abort(new AbortedError())
  }

  /** Resolves when no story runs. */
  async settled(): Promise<void> {
    await this.#recovery
    await this.#running?.done
  }

  /** Several who ask at once get one answer. */
  async check(): Promise<readonly CheckRow[]> {
    if (this.#running !== null) throw new BusyError(this.#running.activity)
    this.#checking ??= this.#parts.check().finally(() => {
      this.#checking = null
    })
    return await this.#checking
  }

  async canHibernate(): Promise<{readonly answer: 'yes' | 'no' | 'na', readonly reason: string}> {
    try {
      const failed = (await this.check()).find(({passed}) => !passed)
      if (failed === undefined) return {answer: 'yes', reason: ''}
      return {answer: failed.id === KERNEL_CHECK ? 'na' : 'no', reason: failed.remedy === '' ? failed.title : failed.remedy}
    } catch (error) {
      return {answer: 'no', reason: causeText(error)}
    }
  }

  listNeeded(): Promise<readonly NeededRow[]> {
    return this.#parts.listNeeded()
  }

  explainNeeded(pid: number): Promise<Explanation> {
    return this.#parts.explainNeeded(pid)
  }

  async #recoverAndSay(): Promise<void> {
    try {
      const sentence = await this.#parts.recover()
      if (sentence !== null) this.#set({LastResult: sentence})
    } catch (error) {
      this.#parts.log.error(causeText(error))
      this.#set({LastResult: causeText(error)})
    } finally {
      this.#set({State: 'idle'})
    }
  }

  async #run(signal: AbortSignal, tell: Story): Promise<SnapshotOutcome> {
    await this.#recovery
    await this.#checking?.catch(() => undefined) // Only one at a time can look at the spare device.
    signal.throwIfAborted()
    using console = this.#parts.openConsole()
    let lastTenth = -1
    this.#isRunningOn = false
    try {
      this.#set({State: 'checking', Progress: 0, TimeLeftUSec: null, ImageBytes: 0})
      return await tell({
        signal,
        onState: (state) => {
          if (state === 'freezing') this.#keyboards = this.#parts.openKeyboards(() => this.#abortByKey(console))
          if (state === 'saving' && (this.#keyboards?.count ?? 0) > 0) console.write('permafrost: saving; Esc goes back')
          this.#enter(state)
        },
        onNeeded: (pids) => {
          const busPid = this.#presenter?.busPid ?? null
          if (busPid !== null && pids.includes(busPid)) this.#presenter?.resume()
        },
        onProgress: (progress) => {
          this.#set({Progress: progress.fraction, TimeLeftUSec: timeLeftUSec(progress), ImageBytes: progress.bytesTotal})
          const tenth = Math.floor(percent(progress.fraction) / 10)
          if (tenth > lastTenth && !this.#isRunningOn) console.write(`permafrost: ${formatProgress(progress)}`)
          lastTenth = Math.max(tenth, lastTenth)
        },
      })
    } finally {
      this.#endPause()
    }
  }

  /** Everybody runs again. */
  #endPause(): void {
    this.#keyboards?.[Symbol.dispose]()
    this.#keyboards = null
    this.#presenter?.resume()
    this.#parts.log.flush()
  }

  /** The second time it is pressed there is nothing more to abort. */
  #abortByKey(console: Console): void {
    if (this.#running?.controller.signal.aborted !== false || this.#refusalToAbort() !== null) return
    console.write('permafrost: Esc was pressed, going back')
    this.#running.controller.abort(new AbortedError())
  }

  #refusalToAbort(): NothingToAbortError | null {
    const cause = this.#running === null ? 'no hibernation is under way' : TOO_LATE[this.#properties.State]
    return cause === undefined ? null : new NothingToAbortError(cause)
  }

  #enter(state: StoryState): void {
    this.#set({State: state})
    if (state !== 'freezing') return
    this.#presenter?.signal('Hibernating')
    this.#presenter?.pause()
  }

  #conclude(outcome: SnapshotOutcome): void {
    this.#set({LastFigures: outcome.figures})
    if (outcome.kind === 'rolled-back') throw outcome.cause
    const LastResult = outcome.kind === 'merged' ? 'Merged; the image was saved and will not be resumed' : 'Resumed'
    this.#set({LastResult, LastOutcome: outcome.kind, Progress: 1, ImageBytes: Number(outcome.figures['image_bytes'] ?? 0)})
    if (outcome.kind === 'resumed') this.#presenter?.signal('Resumed', outcome.figures)
  }

  #set(changes: Partial<ManagerProperties>): void {
    this.#properties = {...this.#properties, ...changes}
    this.#presenter?.changed(...NAMES.filter((name) => name in changes))
  }
}

type Story = (request: HibernateRequest) => Promise<SnapshotOutcome>

function timeLeftUSec({secondsLeft}: Progress): bigint | null {
  return secondsLeft === null ? null : BigInt(Math.ceil(secondsLeft * 1e6))
}

const NAMES: readonly (keyof ManagerProperties)[] = ['State', 'Progress', 'TimeLeftUSec', 'ImageBytes', 'LastResult', 'LastOutcome', 'LastFigures']
