import {alignUp} from '../edge/aligned.js'
import type {ByteOutput} from '../edge/pipe.js'
import {causeText, SinkError} from '../errors.js'
import type {Digest} from '../image/digest.js'
import {encodeFrame, encodeOpening, STREAM_AREA_OFFSET, type FrameKind, type Opening} from '../image/stream-form.js'
import {encodeSuperblock, NO_ID} from '../image/superblock.js'
import type {CompletedImage, ImageSession} from './sink.js'

export interface StreamSessionParts {
  readonly output: ByteOutput
  readonly digest: Digest
  readonly opening: Opening
  /** For messages. */
  readonly name: string
}

/**
 * An image into something that can only be written in order. Pieces may be written in any order, as on a disk; each
 * waits for those before it. Nothing is written before the first; until `complete` has written the last frame every
 * reader refuses the stream as cut short.
 */
export class StreamSession implements ImageSession {
  readonly freeBytes = Number.POSITIVE_INFINITY
  readonly #parts: StreamSessionParts
  readonly #waiting = new Map<number, () => void>()
  #reservedBytes = 0
  #writtenBytes = 0
  #isOpen = false
  #failure: SinkError | null = null

  constructor(parts: StreamSessionParts) {
    this.#parts = parts
  }

  get reservedBytes(): number {
    return this.#reservedBytes
  }

  reserve(bytes: number): number {
    const offset = this.#reservedBytes
    this.#reservedBytes += bytes
    return offset
  }

  async write(bytes: Buffer, offset: number): Promise<void> {
    await this.#turnOf(offset)
    try {
      if (this.#failure !== null) throw this.#failure
      const payloadDigest = await this.#parts.digest.ofLargeBytes(bytes)
      await this.#appendFrame('piece', bytes, offset, payloadDigest)
    } finally {
      // Whoever waits behind a failure has to hear of it.
      this.#writtenBytes = offset + bytes.length
      this.#waiting.get(this.#writtenBytes)?.()
      this.#waiting.delete(this.#writtenBytes)
    }
  }

  async complete({header, storedBytes, streamBytes, createdUnixSeconds}: CompletedImage): Promise<void> {
    const {digest, opening} = this.#parts
    const headerDigest = digest.ofBytes(header)
    const areaBytes = this.#reservedBytes + alignUp(header.length)
    await this.#appendFrame('header', header, this.#reservedBytes, headerDigest)
    const superblock = encodeSuperblock({
      state: 'valid',
      deviceId: NO_ID,
      imageId: opening.imageId,
      parentId: NO_ID,
      deviceBytes: STREAM_AREA_OFFSET + areaBytes,
      imageAreaOffset: STREAM_AREA_OFFSET,
      imageAreaBytes: areaBytes,
      cowAreaOffset: STREAM_AREA_OFFSET + areaBytes,
      cowAreaBytes: 0,
      headerOffset: STREAM_AREA_OFFSET + this.#reservedBytes,
      headerBytes: header.length,
      headerDigest,
      createdUnixSeconds: createdUnixSeconds ?? Math.floor(Date.now() / 1000),
      storedBytes,
      streamBytes,
    }, digest)
    await this.#appendFrame('closing', superblock, this.#reservedBytes, digest.ofBytes(superblock))
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #turnOf(offset: number): Promise<void> {
    if (offset === this.#writtenBytes) return
    await new Promise<void>((resolve) => {
      this.#waiting.set(offset, resolve)
    })
  }

  async #appendFrame(kind: FrameKind, payload: Buffer, offset: number, payloadDigest: bigint): Promise<void> {
    if (!this.#isOpen) await this.#append(encodeOpening(this.#parts.opening, this.#parts.digest))
    this.#isOpen = true
    await this.#append(encodeFrame({kind, payloadBytes: payload.length, offset, payloadDigest}, this.#parts.digest))
    await this.#append(payload)
  }

  async #append(bytes: Buffer): Promise<void> {
    try {
      await this.#parts.output.append(bytes)
    } catch (cause) {
      const reason = GONE.includes(causeText(cause)) ? new Error('whoever read it has gone') : cause
      this.#failure = new SinkError('write the image to', this.#parts.name, {cause: reason})
      throw this.#failure
    }
  }
}

/** What writing to somebody fails with who does not read any more. */
const GONE: readonly string[] = ['EPIPE', 'ECONNRESET']
