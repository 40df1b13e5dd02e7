import type {PreparedFileSystem} from '../dm/prepare.js'
import {causeText, FailedError, MemoryRunsOutError} from '../errors.js'
import type {Machine} from '../machine.js'
import {SliceJudge} from './slice-judge.js'

/** How things stand is looked at that often: a disk that writes 200 MB/s fills 10 MB meanwhile. */
const LOOK_EVERY_MS = 50
/** Less than this part of the memory, and the snapshot is given up before the kernel ends processes. */
const MEMORY_PART_MINIMUM = 1 / 20

/**
 * While everybody runs on beside a snapshot, what they write fills the copy-on-write slices, and each page of memory
 * they change takes another page. Both are watched, so that there is time to go back.
 */
export class RoomWatch implements Disposable {
  readonly #machine: Machine
  readonly #controller = new AbortController()
  #judges: readonly SliceJudge[] = []
  #isImageHeld = true
  #isOver = false
  #timer: NodeJS.Timeout | null = null

  constructor(machine: Machine) {
    this.#machine = machine
  }

  /** Aborted, with the reason, when the snapshot has to be given up. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  begin(fileSystems: readonly PreparedFileSystem[]): void {
    this.#judges = fileSystems.map((fileSystem) => new SliceJudge(fileSystem))
    void this.#look()
  }

  /** The image takes no memory any more. */
  imageReleased(): void {
    this.#isImageHeld = false
  }

  [Symbol.dispose](): void {
    this.#isOver = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  async #look(): Promise<void> {
    try {
      if (this.#isImageHeld) refuseLittleMemory(this.#machine)
      for (const judge of this.#judges) await judge.look(this.#machine.dm)
      if (!this.#isOver) this.#timer = setTimeout(() => void this.#look(), LOOK_EVERY_MS)
    } catch (error) {
      if (this.#isOver) return
      const isOurs = error instanceof FailedError
      this.#controller.abort(isOurs ? error : new FailedError(`Cannot watch the snapshot: ${causeText(error)}`, {cause: error}))
    }
  }
}

function refuseLittleMemory({files}: Machine): void {
  const meminfo = files.readText('/proc/meminfo') ?? ''
  const read = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(meminfo)?.[1] ?? 0) * 1024
  if (read('MemAvailable') < read('MemTotal') * MEMORY_PART_MINIMUM) throw new MemoryRunsOutError(read('MemAvailable'))
}
