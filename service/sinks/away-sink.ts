import {once} from 'node:events'
import type {Digest} from '../image/digest.js'
import type {Lines} from '../image/records.js'
import type {ImageState} from '../image/superblock.js'
import type {BeginOptions, CompletedImage, CowArea, CowSpace, ImageSession, ImageSink, SinkSummary} from './sink.js'
import {attempt} from './spare-access.js'
import {newImageId, type SpareDevice} from './spare-device.js'
import {HEADER_ROOM_BYTES} from './spare-session.js'
import {StreamSession} from './stream-session.js'
import type {StreamTarget, TargetConnection} from './stream-target.js'

export interface AwaySinkParts {
  readonly spare: SpareDevice
  readonly target: StreamTarget
  readonly digest: Digest
  /** Whether a complete image may be resumed. */
  readonly grantsResume: boolean
  /** Brings what this machine has of the image, in caches of its disks, onto them. Throws when that fails. */
  readonly settle: (signal: AbortSignal) => Promise<void>
}

/**
 * An image that goes elsewhere as a stream, while the spare device says whether it may be resumed.
 *
 * - The spare device keeps the header section, so the loader knows each chunk's digest before the chunk comes.
 * - "away" on the spare device is the leave to resume this image, once: the loader takes it before the jump. It is given
 *   last, after the other side has said that it has everything. Whatever medium the stream is on, nothing else is asked.
 * - There is no image in the image area, so copy-on-write slices get that room too, but for the header section.
 */
export class AwaySink implements ImageSink, CowSpace {
  readonly #parts: AwaySinkParts

  constructor(parts: AwaySinkParts) {
    this.#parts = parts
  }

  get name(): string {
    return this.#parts.target.name
  }

  async inspect(): Promise<SinkSummary> {
    return {...(await this.#parts.spare.inspect()), imageAreaBytes: Number.POSITIVE_INFINITY}
  }

  async readState(): Promise<ImageState> {
    return await this.#parts.spare.readState()
  }

  async readFigures(): Promise<Readonly<Record<string, string>>> {
    return await this.#parts.spare.readFigures()
  }

  async mark(state: 'resumed' | 'aborted'): Promise<void> {
    await this.#parts.spare.mark(state)
  }

  async area(): Promise<CowArea> {
    const {spare} = this.#parts
    const [area, {imageAreaOffset, imageAreaBytes}] = await Promise.all([spare.area(), spare.readSuperblock()])
    const start = imageAreaOffset + HEADER_ROOM_BYTES
    const isBehindImage = imageAreaOffset + imageAreaBytes === area.offsetBytes
    if (!isBehindImage || start >= area.offsetBytes) return area
    return {device: area.device, offsetBytes: start, bytes: area.offsetBytes + area.bytes - start}
  }

  async begin({imageId = newImageId(), signal = NEVER}: BeginOptions = {}): Promise<ImageSession> {
    const {spare, target, digest} = this.#parts
    const connection = await target.open(signal, imageId)
    try {
      const leave = await spare.beginAway(imageId)
      const stream = new StreamSession({output: connection, digest, opening: {imageId, streamBytes: 0}, name: target.name})
      return new AwaySession({stream, connection, leave, signal, ...this.#parts})
    } catch (error) {
      await connection[Symbol.asyncDispose]()
      throw error
    }
  }
}

const NEVER = new AbortController().signal

/** A disk that does not answer is left alone with what it was asked for. */
async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  await Promise.race([work, once(signal, 'abort').then(() => signal.throwIfAborted())])
}

interface AwaySessionParts extends Pick<AwaySinkParts, 'target' | 'settle' | 'grantsResume'> {
  readonly stream: StreamSession
  readonly connection: TargetConnection
  /** On the spare device. */
  readonly leave: ImageSession
  readonly signal: AbortSignal
}

class AwaySession implements ImageSession {
  readonly #parts: AwaySessionParts

  constructor(parts: AwaySessionParts) {
    this.#parts = parts
  }

  get wayBack(): Lines | null {
    return this.#parts.connection.wayBack ?? null
  }

  get freeBytes(): number {
    return this.#parts.stream.freeBytes
  }

  reserve(bytes: number): number {
    return this.#parts.stream.reserve(bytes)
  }

  async write(bytes: Buffer, offset: number): Promise<void> {
    await this.#parts.stream.write(bytes, offset)
  }

  async complete(image: CompletedImage): Promise<void> {
    const {stream, connection, target, leave, signal, settle, grantsResume} = this.#parts
    const dated = {createdUnixSeconds: Math.floor(Date.now() / 1000), ...image}
    await stream.complete(dated)
    await attempt('write the image to', target.name, () => connection.finish())
    if (!grantsResume) return
    await attempt('bring the image onto the disks behind', target.name, () => untilAborted(settle(signal), signal))
    await leave.complete(dated)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#parts.connection[Symbol.asyncDispose]()
    } finally {
      await this.#parts.leave[Symbol.asyncDispose]()
    }
  }
}
