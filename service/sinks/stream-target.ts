import type {ByteOutput} from '../edge/pipe.js'
import type {Lines} from '../image/records.js'

/** Somebody outside who takes an image in order: a pipeline, a server, a command. */
export interface StreamTarget {
  /** For messages. */
  readonly name: string
  /** Finds out whether it would take an image, as far as that can be told without beginning. Throws RefusedError. */
  inspect(): Promise<TargetSummary>
  /** `signal` ends a connection even in the middle of a write. Throws SinkError. */
  open(signal: AbortSignal, imageId: string): Promise<TargetConnection>
}

export interface TargetSummary {
  /** Infinite where nobody knows. */
  readonly freeBytes: number
}

/** One image on its way there. Disposed before `finish` has returned, the image is given up. */
export interface TargetConnection extends ByteOutput, AsyncDisposable {
  /** How the next boot gets the image back without being told by anybody: the record WAY_BACK of FORMAT.md. */
  readonly wayBack?: Lines
  /** Ends the stream, and returns when the other side has said that it has all of it for good. Throws what it said else. */
  finish(): Promise<void>
}
