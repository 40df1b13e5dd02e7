import type {ByteOutput} from '../edge/pipe.js'

/** Somebody outside who takes an image in order: a pipeline, a server, a command. */
export interface StreamTarget {
  /** For messages. */
  readonly name: string
  /** Finds out whether it is there, as far as that can be told without beginning. Throws RefusedError. */
  inspect(): Promise<void>
  /** `signal` ends a connection even in the middle of a write. Throws SinkError. */
  open(signal: AbortSignal): Promise<TargetConnection>
}

/** One image on its way there. Disposed before `finish` has returned, the image is given up. */
export interface TargetConnection extends ByteOutput, AsyncDisposable {
  /** Ends the stream, and returns when the other side has said that it has all of it for good. Throws what it said else. */
  finish(): Promise<void>
}
