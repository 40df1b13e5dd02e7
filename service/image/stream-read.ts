import {allocateAligned, DIRECT_IO_ALIGNMENT} from '../edge/aligned.js'
import type {ByteInput} from '../edge/pipe.js'
import {ImageError} from '../errors.js'
import type {Digest} from './digest.js'
import {decodeHeader, type ImageHeader} from './header.js'
import {checkSums} from './read.js'
import {
  decodeFrame,
  decodeOpening,
  FRAME_BYTES,
  OPENING_BYTES,
  PAYLOAD_BYTES_MAXIMUM,
  STREAM_AREA_OFFSET,
  type Frame,
  type Opening,
} from './stream-form.js'
import {decodeSuperblock, SUPERBLOCK_BYTES, type Superblock} from './superblock.js'

export interface StreamJob {
  readonly input: ByteInput
  readonly digest: Digest
  /** Names the stream in errors. */
  readonly where: string
}

/** What came through a stream, once all of it has come and every digest was right. */
export interface ReceivedImage {
  readonly superblock: Superblock
  readonly header: ImageHeader
  /** The header section as it came. */
  readonly headerBytes: Buffer
}

/** Takes the pieces of the image area in order; `bytes` is aligned memory, good until the promise is kept. */
export interface PieceTarget {
  open(opening: Opening): Promise<void>
  take(bytes: Buffer, offset: number): Promise<void>
}

/**
 * Reads an image stream to its end. Every byte is covered by a digest, and nothing is believed before its digest
 * was right; a stream cut short anywhere is refused. Throws ImageError.
 */
export async function receiveImage(job: StreamJob, target: PieceTarget, signal: AbortSignal): Promise<ReceivedImage> {
  const {input, digest, where} = job
  const start = Buffer.alloc(OPENING_BYTES)
  const opening = decodeOpening(start.subarray(0, await input.fill(start)), digest, where)
  await target.open(opening)
  const payload = new Payload(job)
  let nextOffset = 0
  for (;;) {
    signal.throwIfAborted()
    const frame = decodeFrame(await exactly(job, Buffer.alloc(FRAME_BYTES)), digest, where)
    if (frame.offset !== nextOffset) throw new ImageError(where, `a frame is for byte ${frame.offset} instead of ${nextOffset}`)
    const bytes = await payload.read(frame)
    if (frame.kind === 'header') return await finish(job, {opening, frame, headerBytes: Buffer.from(bytes)})
    if (frame.kind !== 'piece' || bytes.length % DIRECT_IO_ALIGNMENT !== 0) throw new ImageError(where, 'a frame is out of its order')
    await target.take(bytes, frame.offset)
    nextOffset += bytes.length
  }
}

/** Behind the header section there is only the superblock, which has to fit to all that came before. */
async function finish(
  job: StreamJob,
  before: {readonly opening: Opening; readonly frame: Frame; readonly headerBytes: Buffer},
): Promise<ReceivedImage> {
  const {digest, where} = job
  const {opening, frame, headerBytes} = before
  const closing = decodeFrame(await exactly(job, Buffer.alloc(FRAME_BYTES)), digest, where)
  if (closing.kind !== 'closing' || closing.payloadBytes !== SUPERBLOCK_BYTES) throw new ImageError(where, 'a frame is out of its order')
  const superblock = decodeSuperblock(await new Payload(job).read(closing), digest, where)
  const isFitting =
    superblock.state === 'valid' &&
    superblock.imageId === opening.imageId &&
    superblock.imageAreaOffset === STREAM_AREA_OFFSET &&
    superblock.headerOffset === STREAM_AREA_OFFSET + frame.offset &&
    superblock.headerBytes === frame.payloadBytes &&
    superblock.headerDigest === frame.payloadDigest
  if (!isFitting) throw new ImageError(where, 'its closing superblock is that of another image')
  const header = decodeHeader(headerBytes, where)
  checkSums(header.chunks, superblock, where)
  const outside = header.chunks.findIndex((chunk) => chunk.offset + chunk.storedBytes > frame.offset)
  if (outside >= 0) throw new ImageError(where, `chunk ${outside} lies behind the pieces`)
  return {superblock, header, headerBytes}
}

/** One buffer for all payloads, as long as the longest so far. */
class Payload {
  readonly #job: StreamJob
  #buffer: Buffer = Buffer.alloc(0)

  constructor(job: StreamJob) {
    this.#job = job
  }

  async read({payloadBytes, payloadDigest}: Frame): Promise<Buffer> {
    if (payloadBytes > this.#buffer.length) {
      this.#buffer = allocateAligned(Math.min(PAYLOAD_BYTES_MAXIMUM, Math.max(payloadBytes, USUAL_BYTES)))
    }
    const bytes = await exactly(this.#job, this.#buffer.subarray(0, payloadBytes))
    if ((await this.#job.digest.ofLargeBytes(bytes)) !== payloadDigest) {
      throw new ImageError(this.#job.where, 'the digest of a payload is wrong')
    }
    return bytes
  }
}

/** A chunk and its padding. */
const USUAL_BYTES = 2 ** 20 + DIRECT_IO_ALIGNMENT

async function exactly({input, where}: StreamJob, target: Buffer): Promise<Buffer> {
  if ((await input.fill(target)) < target.length) throw new ImageError(where, 'the stream ends before the image is complete')
  return target
}
