import {spawn, type ChildProcess} from 'node:child_process'
import {once} from 'node:events'
import type {Writable} from 'node:stream'
import {setTimeout as delay} from 'node:timers/promises'
import type {CommandLine} from '../configuration/target.js'
import {printable} from '../edge/printable.js'
import {StreamOutput} from '../edge/stream-output.js'
import {SinkError} from '../errors.js'
import type {StreamTarget, TargetConnection} from './stream-target.js'

/** Enough of what it says last to be its reason. */
const WORDS_BYTES_MAXIMUM = 4096
/** What a command has to take within its patience. */
const PIECE_BYTES = 256 * 1024
/** From its no longer reading to its end, and what it says about it. */
const LAST_WORDS_MS = 2000
const IMAGE_ID = 'PERMAFROST_IMAGE_ID'

/**
 * A command that takes the image on its standard input, and has it for good when it ends with 0.
 *
 * One that is given up is killed, with all that it has started, before its input ends: it never takes a part of an image
 * for all of it. In the resumed system it is there as well, and is killed too.
 */
export function commandTarget({text, command}: CommandLine, patienceMs: number): StreamTarget {
  return {
    name: text,
    inspect: () => Promise.resolve({freeBytes: Number.POSITIVE_INFINITY}),
    async open(signal, imageId): Promise<TargetConnection> {
      // A session of its own, so that a signal reaches all of it and nobody else.
      const child = spawn('/bin/sh', ['-c', command], {
        detached: true, stdio: ['pipe', 'ignore', 'pipe'], env: {...process.env, [IMAGE_ID]: imageId},
      })
      try {
        await once(child, 'spawn')
      } catch (cause) {
        throw new SinkError('start', text, {cause})
      }
      return new CommandConnection(child, child.stdin, signal, patienceMs)
    },
  }
}

class CommandConnection implements TargetConnection {
  readonly #child: ChildProcess
  readonly #input: Writable
  readonly #output: StreamOutput
  readonly #signal: AbortSignal
  readonly #patienceMs: number
  readonly #ended: Promise<string | null>
  readonly #abort = (): void => this.#kill(this.#signal.reason instanceof Error ? this.#signal.reason : new Error('aborted'))
  #words = ''
  /** Why it was killed. */
  #reason: Error | null = null
  #isOver = false

  constructor(child: ChildProcess, input: Writable, signal: AbortSignal, patienceMs: number) {
    this.#child = child
    this.#input = input
    this.#output = new StreamOutput(input)
    this.#signal = signal
    this.#patienceMs = patienceMs
    child.stderr?.on('data', (piece: Buffer) => {
      this.#words = (this.#words + piece.toString('utf8')).slice(-WORDS_BYTES_MAXIMUM)
    })
    this.#ended = this.#watch()
    signal.addEventListener('abort', this.#abort, {once: true})
    if (signal.aborted) this.#abort()
  }

  /** In pieces, so that a command that takes little at a time is not taken for one that takes nothing. */
  async append(bytes: Buffer): Promise<void> {
    for (let start = 0; start < bytes.length; start += PIECE_BYTES) await this.#appendPiece(bytes.subarray(start, start + PIECE_BYTES))
  }

  async #appendPiece(bytes: Buffer): Promise<void> {
    const late = setTimeout(() => this.#kill(new Error(`it took nothing for ${this.#patienceMs / 1000} s`)), this.#patienceMs)
    try {
      await this.#output.append(bytes)
    } catch {
      throw await this.#whyNot()
    } finally {
      clearTimeout(late)
    }
  }

  /** However long it takes: a command cannot say that it is still busy. */
  async finish(): Promise<void> {
    this.#input.end()
    if ((await this.#ended) !== null) throw await this.#whyNot()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener('abort', this.#abort)
    this.#kill(new Error('it was given up'))
  }

  /** What it says of itself tells more than what writing to it fails with. */
  async #whyNot(): Promise<Error> {
    if (this.#reason !== null) return this.#reason
    const fault = await Promise.race([this.#ended, delay(LAST_WORDS_MS, null, {ref: false})])
    return this.#reason ?? new Error(fault ?? 'it did not read all of the image')
  }

  /** Null when it ended well, else why not. */
  async #watch(): Promise<string | null> {
    // Not 'exit': whoever else has its standard error, as another process of a substitution has, may still be writing the image.
    const [code, signal]: readonly unknown[] = await once(this.#child, 'close')
    this.#isOver = true
    if (code === 0) return null
    return this.#describe(code, signal)
  }

  #describe(code: unknown, signal: unknown): string {
    const last = this.#words.trim().split('\n').at(-1) ?? ''
    const end = code === null ? `it was ended by ${String(signal)}` : `it ended with ${String(code)}`
    return last === '' ? end : `${end}: ${printable(last)}`
  }

  #kill(reason: Error): void {
    if (this.#isOver || this.#child.pid === undefined) return
    this.#isOver = true
    this.#reason = reason
    try {
      process.kill(-this.#child.pid, 'SIGKILL')
    } catch {
      // All of it has ended just now.
    }
    this.#input.destroy(reason)
  }
}
