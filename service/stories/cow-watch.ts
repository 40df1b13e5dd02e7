import type {DeviceMapper} from '../dm/device-mapper.js'
import type {PreparedFileSystem} from '../dm/prepare.js'
import {eitherOf} from '../edge/either-signal.js'
import {keepLooking} from './keep-looking.js'
import {SliceJudge} from './slice-judge.js'

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
  const failed = new AbortController()
  const either = eitherOf([request.signal, failed.signal])
  const judges = request.fileSystems.map((fileSystem) => new SliceJudge(fileSystem))
  const looking = keepLooking({
    look: async () => {
      for (const judge of judges) await judge.look(request.dm)
    },
    intervalMs: request.intervalMs ?? INTERVAL_MS,
    onFailure: (error) => failed.abort(error),
    signal: either.signal,
  })
  return {
    signal: either.signal,
    async [Symbol.asyncDispose]() {
      either[Symbol.dispose]()
      await looking[Symbol.asyncDispose]()
    },
  }
}

/** Whoever writes 500 MB a second uses up 50 MB between two looks; a look is one call of the kernel. */
const INTERVAL_MS = 100
