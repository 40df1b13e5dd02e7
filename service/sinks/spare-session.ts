import {alignUp} from '../edge/aligned.js'
import type {DirectDevice} from '../edge/direct-device.js'
import type {Digest} from '../image/digest.js'
import type {Superblock} from '../image/superblock.js'
import {SinkError} from '../errors.js'
import type {CompletedImage, ImageSession} from './sink.js'
import {attempt, writeSuperblock} from './spare-access.js'

/** Kept free behind the chunks: the header of an image of 120 GiB. */
export const HEADER_ROOM_BYTES = 4 * 2 ** 20

/** After so many bytes the device is told to flush while chunks go on, so that less is left for the end. */
export const FLUSH_AFTER_BYTES = 64 * 2 ** 20

/**
 * Chunks go one behind the other from the start of the image area, the header section behind them. Of an image
 * that goes elsewhere there is only the header section, with room for nothing else: see AwaySink.
 */
export class SpareSession implements ImageSession {
  readonly #path: string
  readonly #device: DirectDevice
  readonly #superblock: Superblock
  readonly #digest: Digest
  readonly #becomes: 'valid' | 'away'
  #nextOffset = 0
  /** Written since the last flush began. */
  #unflushedBytes = 0
  #isFlushing = false
  /** Stays rejected when one fails: the kernel tells of an error once (fsync(2)), and a later flush would succeed. */
  #flushed: Promise<void> = Promise.resolve()

  constructor(parts: {
    readonly path: string
    readonly device: DirectDevice
    readonly superblock: Superblock
    readonly digest: Digest
    /** What a complete image is. */
    readonly becomes: 'valid' | 'away'
  }) {
    this.#path = parts.path
    this.#device = parts.device
    this.#superblock = parts.superblock
    this.#digest = parts.digest
    this.#becomes = parts.becomes
  }

  get freeBytes(): number {
    return this.#superblock.imageAreaBytes - HEADER_ROOM_BYTES - this.#nextOffset
  }

  reserve(bytes: number): number {
    if (bytes > this.freeBytes) throw this.#isFull()
    const offset = this.#nextOffset
    this.#nextOffset += bytes
    return offset
  }

  async write(bytes: Buffer, offset: number): Promise<void> {
    const place = this.#superblock.imageAreaOffset + offset
    await attempt('write the image to', this.#path, () => this.#device.write(bytes, place))
    this.#unflushedBytes += bytes.length
    if (this.#unflushedBytes >= FLUSH_AFTER_BYTES && !this.#isFlushing) this.#flushAhead()
  }

  async complete(image: CompletedImage): Promise<void> {
    const roomBytes = this.#becomes === 'away' ? HEADER_ROOM_BYTES : this.freeBytes + HEADER_ROOM_BYTES
    if (alignUp(image.header.length) > roomBytes) throw this.#isFull()
    const headerOffset = this.#superblock.imageAreaOffset + this.#nextOffset
    await attempt('write the image to', this.#path, async () => {
      await this.#flushed
      await this.#device.writePadded(image.header, headerOffset)
      await this.#device.flush()
    })
    await writeSuperblock(
      this.#device,
      this.#path,
      {
        ...this.#superblock,
        state: this.#becomes,
        headerOffset,
        headerBytes: image.header.length,
        headerDigest: this.#digest.ofBytes(image.header),
        createdUnixSeconds: image.createdUnixSeconds ?? Math.floor(Date.now() / 1000),
        storedBytes: image.storedBytes,
        streamBytes: image.streamBytes,
      },
      this.#digest,
    )
  }

  /** A flush under way has the file descriptor, whose number must not become another file's. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([this.#flushed])
    await this.#device[Symbol.asyncDispose]()
  }

  #flushAhead(): void {
    this.#unflushedBytes = 0
    this.#isFlushing = true
    this.#flushed = this.#device.flush()
    this.#flushed.then(() => {
      this.#isFlushing = false
    }, () => undefined)
  }

  #isFull(): SinkError {
    return new SinkError('write the image to', this.#path, {cause: new Error('its image area is full')})
  }
}
