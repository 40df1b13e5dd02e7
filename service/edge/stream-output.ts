import type {Writable} from 'node:stream'
import type {ByteOutput} from './pipe.js'

/**
 * A socket or pipe of Node's as something to append to. A write under way fails when the stream is destroyed, so
 * that nobody waits for a reader who has stopped reading.
 */
export class StreamOutput implements ByteOutput {
  readonly #stream: Writable
  #failure: Error | null = null

  constructor(stream: Writable) {
    this.#stream = stream
    stream.on('error', (error) => {
      this.#failure ??= error
    })
  }

  /** The buffer is free again when the promise is kept. */
  async append(bytes: Buffer): Promise<void> {
    if (this.#failure !== null) throw this.#failure
    await new Promise<void>((resolve, reject) => {
      this.#stream.write(bytes, (error) => {
        if (error) reject(this.#failure ?? this.#stream.errored ?? error)
        else resolve()
      })
    })
  }
}
