import type {PreparedFileSystem} from '../dm/prepare.js'
import {causeText, FailedError, MemoryRunsOutError, SliceRunsFullError} from '../errors.js'
import type {Machine} from '../machine.js'

/** How things stand is looked at that often: a disk that writes 200 MB/s fills 10 MB meanwhile. */
const LOOK_EVERY_MS = 50
/** A slice that is fuller is merged back: a slice that overflows takes its file system with it. */
const SLICE_PART_MAXIMUM = 0.5
/** Less than this part of the memory, and the snapshot is given up before the kernel ends processes. */
const MEMORY_PART_MINIMUM = 1 / 20

/**
 * While everybody runs on beside a snapshot, what they write fills the copy-on-write slices, and each page of memory
 * they change takes another page. Both are watched, so that there is time to go back.
 */
export class RoomWatch implements Disposable {
  readonly #machine: Machine
  readonly #controller = new AbortController()
  #lives: readonly string[] = []
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
    this.#lives = fileSystems.flatMap(({mounted: {mapping}}) => (mapping.kind === 'mapped' ? mapping.device.name : []))
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
      for (const live of this.#lives) refuseFullSlice(live, await this.#machine.dm.status(live))
      if (!this.#isOver) this.#timer = setTimeout(() => void this.#look(), LOOK_EVERY_MS)
    } catch (error) {
      if (this.#isOver) return
      const isOurs = error instanceof FailedError
      this.#controller.abort(isOurs ? error : new FailedError(`Cannot watch the snapshot: ${causeText(error)}`, {cause: error}))
    }
  }
}

/** Documentation/admin-guide/device-mapper/snapshot.rst: "<sectors used>/<sectors> <sectors for bookkeeping>", or a word. */
function refuseFullSlice(live: string, status: string): void {
  const [, used, all] = /^(\d+)\/(\d+)/.exec(status) ?? []
  if (used === undefined || all === undefined) throw new SliceRunsFullError(live, status)
  if (Number(used) > Number(all) * SLICE_PART_MAXIMUM) throw new SliceRunsFullError(live, `${used} of ${all} sectors`)
}

function refuseLittleMemory({files}: Machine): void {
  const meminfo = files.readText('/proc/meminfo') ?? ''
  const read = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(meminfo)?.[1] ?? 0) * 1024
  if (read('MemAvailable') < read('MemTotal') * MEMORY_PART_MINIMUM) throw new MemoryRunsOutError(read('MemAvailable'))
}
