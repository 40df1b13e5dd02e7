import type {PreparedFileSystem} from '../dm/prepare.js'
import {causeText, FailedError, MemoryRunsOutError} from '../errors.js'
import type {Machine} from '../machine.js'
import {keepLooking} from './keep-looking.js'
import {readMeminfo} from './meminfo.js'
import {SliceJudge} from './slice-judge.js'

/** How things stand is looked at that often: a disk that writes 200 MB/s fills 10 MB meanwhile. */
const LOOK_EVERY_MS = 50
/** Less than this part of the memory, and the snapshot is given up before the kernel ends processes. */
const MEMORY_PART_MINIMUM = 1 / 20

/**
 * While everybody runs on beside a snapshot, what they write fills the copy-on-write slices, and each page of memory
 * they change takes another page. Both are watched, so that there is time to go back.
 */
export class RoomWatch implements AsyncDisposable {
  readonly #machine: Machine
  readonly #controller = new AbortController()
  #looking: AsyncDisposable | null = null
  #isImageHeld = true

  constructor(machine: Machine) {
    this.#machine = machine
  }

  /** Aborted, with the reason, when the snapshot has to be given up. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  begin(fileSystems: readonly PreparedFileSystem[]): void {
    const judges = fileSystems.map((fileSystem) => new SliceJudge(fileSystem))
    this.#looking = keepLooking({
      look: async () => {
        if (this.#isImageHeld) refuseLittleMemory(this.#machine)
        for (const judge of judges) await judge.look(this.#machine.dm)
      },
      intervalMs: LOOK_EVERY_MS,
      onFailure: (error) => this.#controller.abort(explain(error)),
      signal: this.#controller.signal,
    })
  }

  /** The image takes no memory any more. */
  imageReleased(): void {
    this.#isImageHeld = false
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#looking?.[Symbol.asyncDispose]()
  }
}

function explain(error: unknown): FailedError {
  return error instanceof FailedError ? error : new FailedError(`Cannot watch the snapshot: ${causeText(error)}`, {cause: error})
}

function refuseLittleMemory({files}: Machine): void {
  const read = readMeminfo(files.readText('/proc/meminfo') ?? '')
  if (read('MemAvailable') < read('MemTotal') * MEMORY_PART_MINIMUM) throw new MemoryRunsOutError(read('MemAvailable'))
}
