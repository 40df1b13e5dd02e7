import type {Duplex} from 'node:stream'
import {printable} from '../edge/printable.js'
import {StreamOutput} from '../edge/stream-output.js'
import type {TargetConnection} from './stream-target.js'

/** What the other side answers once it has the image for good; else `failed` and why, at any time. One line. */
export const KEPT = 'kept'
export const FAILED = 'failed '
/** Longer is no answer. */
const ANSWER_BYTES_MAXIMUM = 1024

/**
 * An image on its way through a connection whose other side answers. An answer that comes before the end, or no
 * answer, is a failure: only who says that it has kept all of it is believed.
 */
export class AnsweringConnection implements TargetConnection {
  readonly #stream: Duplex
  readonly #output: StreamOutput
  readonly #signal: AbortSignal
  readonly #answer: Promise<string>
  readonly #abort = (): void => void this.#stream.destroy(this.#signal.reason instanceof Error ? this.#signal.reason : new Error('aborted'))
  #isEnding = false

  readonly #gone: string

  /** `gone` says of an other side that goes without an answer that it has gone. */
  constructor(stream: Duplex, signal: AbortSignal, gone = 'whoever read it has gone') {
    this.#stream = stream
    this.#gone = gone
    this.#signal = signal
    this.#output = new StreamOutput(stream)
    this.#answer = this.#listen()
    signal.addEventListener('abort', this.#abort, {once: true})
    if (signal.aborted) this.#abort()
  }

  async append(bytes: Buffer): Promise<void> {
    await this.#output.append(bytes)
  }

  async finish(): Promise<void> {
    this.#isEnding = true
    this.#stream.end()
    const answer = await this.#answer
    if (this.#stream.errored instanceof Error) throw this.#stream.errored
    if (answer !== KEPT) throw this.#reasonOf(answer)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener('abort', this.#abort)
    this.#stream.destroy()
  }

  /** The other side's line, '' when it goes without one. */
  #listen(): Promise<string> {
    let heard = ''
    return new Promise((resolve) => {
      this.#stream.on('data', (piece: Buffer) => {
        heard += piece.toString('utf8')
        if (!heard.includes('\n') && heard.length < ANSWER_BYTES_MAXIMUM) return
        const [line = ''] = heard.split('\n')
        if (!this.#isEnding) this.#stream.destroy(this.#reasonOf(line))
        resolve(line)
      })
      this.#stream.on('close', () => resolve(heard))
    })
  }

  #reasonOf(answer: string): Error {
    return new Error(answer.startsWith(FAILED) ? printable(answer.slice(FAILED.length)) : this.#gone)
  }
}
