import {setTimeout as sleep} from 'node:timers/promises'
import type {DeviceMapper} from '../dm/device-mapper.js'
import type {PreparedFileSystem} from '../dm/prepare.js'
import {parseSliceStatus} from '../dm/slice.js'
import {CowFullError, DeviceMapperError} from '../errors.js'

/**
 * Ends a save before a slice is full. Once a merge is under way a device uses up no more of its slice, so what is left has to
 * last from the look that finds too little until then: giving up the image, writing down the merges, exchanging a table.
 */
export interface CowWatch extends AsyncDisposable {
  /** Aborted with a CowFullError when a slice is nearly full, or for the reason of the signal that was passed in. */
  readonly signal: AbortSignal
}

export interface CowWatchRequest {
  readonly dm: DeviceMapper
  readonly fileSystems: readonly PreparedFileSystem[]
  readonly signal: AbortSignal
  readonly intervalMs?: number
}

/** Begins at once; disposing of it waits for the look that is under way. */
export function watchSlices(request: CowWatchRequest): CowWatch {
  const ended = new AbortController()
  const pass = (): void => ended.abort(request.signal.reason)
  request.signal.addEventListener('abort', pass)
  if (request.signal.aborted) pass()
  const done = new AbortController()
  const looking = lookUntilDone(request, ended, done.signal)
  return {
    signal: ended.signal,
    async [Symbol.asyncDispose]() {
      request.signal.removeEventListener('abort', pass)
      done.abort()
      await looking
    },
  }
}

/** Whoever writes 500 MB a second uses up 50 MB between two looks; a look is one call of the kernel. */
const INTERVAL_MS = 100

async function lookUntilDone(request: CowWatchRequest, ended: AbortController, done: AbortSignal): Promise<void> {
  const judges = request.fileSystems.map((fileSystem) => new SliceJudge(fileSystem))
  while (!done.aborted && !ended.signal.aborted) {
    try {
      for (const judge of judges) await judge.look(request.dm)
      await sleep(request.intervalMs ?? INTERVAL_MS, undefined, {signal: done})
    } catch (error) {
      if (!done.aborted) ended.abort(error)
    }
  }
}

/** It stays for what was already on its way, and for the store's own bookkeeping. */
const RESERVED_PART = 1 / 4
/** From too little being found until merges are under way: the writes of the image that are on their way, two flushes, some tables. */
const REACTION_MS = 1000
/** The pace is judged by what was written in this time, so that a single burst counts as one. */
const PACE_MS = 500

class SliceJudge {
  readonly #name: string
  readonly #mountPoint: string
  #looks: readonly {readonly atMs: number; readonly used: number}[] = []
  #totalBytes = 0

  constructor({mounted}: PreparedFileSystem) {
    this.#name = mounted.mapping.kind === 'mapped' ? mounted.mapping.device.name : mounted.mapping.device
    this.#mountPoint = mounted.mountPoint
  }

  /** Throws CowFullError when it has to end. */
  async look(dm: DeviceMapper): Promise<void> {
    const slice = parseSliceStatus(await dm.status(this.#name))
    switch (slice.kind) {
      case 'usable':
        this.#judge(slice.used, slice.total)
        return
      case 'overflowed':
        throw new CowFullError(this.#mountPoint, 0, this.#totalBytes)
      case 'broken':
        throw new DeviceMapperError('go on with', this.#name, `its state is '${slice.status}'`)
      default:
        slice satisfies never
    }
  }

  #judge(used: number, total: number): void {
    this.#totalBytes = total
    const atMs = performance.now()
    this.#looks = [...this.#looks.filter((look) => atMs - look.atMs <= PACE_MS), {atMs, used}]
    const grownBytes = used - (this.#looks[0]?.used ?? used)
    const neededBytes = Math.max(total * RESERVED_PART, (grownBytes / PACE_MS) * REACTION_MS)
    if (total - used < neededBytes) throw new CowFullError(this.#mountPoint, total - used, total)
  }
}
