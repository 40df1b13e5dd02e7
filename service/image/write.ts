import {read} from 'node:fs'
import {alignUp, allocateAligned} from '../edge/aligned.js'
import {ImageError} from '../errors.js'
import {PAGE_BYTES} from '../page.js'
import {CHUNK_RAW_BYTES_MAXIMUM, CHUNK_RAW_BYTES_MINIMUM, type Chunk, type Codec} from './chunk.js'
import {CompressionChoice} from './compression-choice.js'
import type {Digest} from './digest.js'
import type {Lz4} from './lz4.js'
import {Pool} from './pool.js'

/**
 * Carries the kernel's stream into an image.
 *
 * - One reader, since the stream can only be read in order; while it reads, earlier chunks
 *   are compressed, digested and written on the other threads of libuv's pool.
 * - No byte is copied in JavaScript: a chunk is read into one aligned buffer, compressed into
 *   another, and written from there (or, incompressible, from where it was read).
 * - Places are given out in the order of the stream, so a sink that is no disk can be one.
 * - Memory is fixed: `slots` pairs of buffers, whatever the length of the stream.
 * - Each chunk costs a dozen calls from JavaScript, whatever its length: the larger it is the less they count.
 */
export async function writeImage(job: WriteJob): Promise<WrittenStream> {
  const run = new WriteRun(job)
  try {
    await run.readStream()
  } finally {
    // The buffers belong to calls under way: nobody may go on before the last has ended.
    await run.settle()
  }
  run.throwIfFailed()
  return run.result()
}

/** Where chunks go; a sink offers this for one image. */
export interface ChunkTarget {
  /** Room left, in bytes. */
  readonly freeBytes: number
  /** The place of the next chunk, `bytes` long as padded; throws when there is no room. */
  reserve(bytes: number): number
  /** `bytes` is aligned memory of an aligned length. */
  write(bytes: Buffer, offset: number): Promise<void>
}

export interface WriteProgress {
  readonly bytesRead: number
  readonly bytesTotal: number
  readonly bytesStored: number
}

export interface WriteJob {
  readonly fd: number
  /** The length of the stream, as the kernel announced it. */
  readonly streamBytes: number
  readonly target: ChunkTarget
  readonly lz4: Lz4
  readonly digest: Digest
  /** How many chunks are compressed at once. */
  readonly threads: number
  /** Of a chunk but the last, from CHUNK_RAW_BYTES_MINIMUM to CHUNK_RAW_BYTES_MAXIMUM; see chooseChunkBytes(). */
  readonly chunkBytes: number
  /** Whether chunks may be stored as they are while the target is faster than the compressors. */
  readonly isAdaptive: boolean
  readonly signal: AbortSignal
  readonly onProgress: (progress: WriteProgress) => void
  /** For error messages. */
  readonly where: string
}

export interface WrittenStream {
  readonly chunks: readonly Chunk[]
  readonly streamBytes: number
  readonly storedBytes: number
  /** The start of the stream: the kernel's own header. */
  readonly firstPage: Buffer
}

/** The two buffers of one chunk on its way: as read, and as compressed. */
interface Slot {
  readonly raw: Buffer
  readonly packed: Buffer
}

interface Encoded {
  readonly bytes: Buffer
  readonly codec: Codec
  readonly storedBytes: number
}

/** Beside those being compressed: one being read, and one being written. */
const EXTRA_SLOTS = 2
/** More threads than that keep no disk busier. */
const SLOTS_MAXIMUM = 8
/** Of what is free, the rest being for what is written to meanwhile and for the kernel. */
const PART_FOR_BUFFERS = 1 / 8

/** The largest size of chunks for which there is memory, in bytes, when so many bytes of it are free. */
export function chooseChunkBytes({freeBytes, threads}: {readonly freeBytes: number; readonly threads: number}): number {
  const room = freeBytes * PART_FOR_BUFFERS
  let chunkBytes = CHUNK_RAW_BYTES_MAXIMUM
  while (chunkBytes > CHUNK_RAW_BYTES_MINIMUM && countSlots(threads) * 2 * chunkBytes > room) chunkBytes /= 2
  return chunkBytes
}

function countSlots(threads: number): number {
  return Math.min(SLOTS_MAXIMUM, threads + EXTRA_SLOTS)
}

class WriteRun {
  readonly #job: WriteJob
  readonly #slots: Pool<Slot>
  readonly #compressors: Pool<number>
  readonly #choice: CompressionChoice
  readonly #chunks: Chunk[] = []
  readonly #underWay = new Set<Promise<void>>()
  #failure: {readonly error: unknown} | null = null
  #placed: Promise<void> = Promise.resolve()
  #writesUnderWay = 0
  #bytesRead = 0
  #bytesStored = 0
  #firstPage: Buffer = Buffer.alloc(0)

  constructor(job: WriteJob) {
    this.#job = job
    this.#slots = new Pool(allocateSlots(countSlots(job.threads), job.chunkBytes))
    this.#compressors = new Pool(Array.from({length: job.threads}, (_, index) => index))
    this.#choice = new CompressionChoice(job.threads)
  }

  async readStream(): Promise<void> {
    for (let index = 0; ; index++) {
      const slot = await this.#slots.take()
      this.throwIfFailed()
      this.#job.signal.throwIfAborted()
      const length = await fillFromStream(this.#job.fd, slot.raw)
      if (length === 0) break
      if (index === 0) this.#firstPage = Buffer.from(slot.raw.subarray(0, PAGE_BYTES))
      this.#bytesRead += length
      this.#start(index, slot, length)
      if (length < this.#job.chunkBytes) break
    }
    if (this.#bytesRead !== this.#job.streamBytes) {
      throw new ImageError(
        this.#job.where,
        `the kernel announced ${this.#job.streamBytes} bytes and gave ${this.#bytesRead}`,
      )
    }
  }

  async settle(): Promise<void> {
    await Promise.all(this.#underWay)
  }

  throwIfFailed(): void {
    if (this.#failure !== null) throw this.#failure.error
  }

  result(): WrittenStream {
    return {
      chunks: this.#chunks,
      streamBytes: this.#bytesRead,
      storedBytes: this.#bytesStored,
      firstPage: this.#firstPage,
    }
  }

  #start(index: number, slot: Slot, length: number): void {
    const before = this.#placed
    let announcePlaced = (): void => {}
    this.#placed = new Promise((resolve) => {
      announcePlaced = resolve
    })
    const storing = this.#store(index, slot, length, before, announcePlaced)
      .catch((error: unknown) => {
        this.#failure ??= {error}
      })
      .finally(() => {
        announcePlaced()
        this.#underWay.delete(storing)
        this.#slots.give(slot)
      })
    this.#underWay.add(storing)
  }

  async #store(index: number, slot: Slot, length: number, before: Promise<void>, announcePlaced: () => void): Promise<void> {
    const {bytes, codec, storedBytes} = await this.#encode(slot, length)
    await before
    this.throwIfFailed()
    // What is written after an abort only takes of the time, and of the disk, that the roll-back has.
    this.#job.signal.throwIfAborted()
    const offset = this.#job.target.reserve(bytes.length)
    announcePlaced()
    const [digest] = await Promise.all([
      this.#job.digest.ofLargeBytes(bytes.subarray(0, storedBytes)),
      this.#write(bytes, offset),
    ])
    this.#chunks[index] = {offset, storedBytes, rawBytes: length, digest, codec}
    this.#bytesStored += storedBytes
    const {streamBytes, onProgress} = this.#job
    onProgress({bytesRead: this.#bytesRead, bytesTotal: streamBytes, bytesStored: this.#bytesStored})
  }

  async #encode(slot: Slot, length: number): Promise<Encoded> {
    const asItIs = (): Encoded => ({bytes: pad(slot.raw, length), codec: 'stored', storedBytes: length})
    const remainingBytes = this.#job.streamBytes - this.#bytesRead + length
    if (this.#job.isAdaptive && !this.#choice.shouldCompress({freeBytes: this.#job.target.freeBytes, remainingBytes})) return asItIs()
    const packed = await this.#compress(slot, length)
    const isSmaller = packed > 0 && packed < length
    return isSmaller ? {bytes: pad(slot.packed, packed), codec: 'lz4', storedBytes: packed} : asItIs()
  }

  async #compress(slot: Slot, length: number): Promise<number> {
    const compressor = await this.#compressors.take()
    try {
      const startedMs = performance.now()
      const packed = await this.#job.lz4.compress(slot.raw.subarray(0, length), slot.packed)
      const storedBytes = packed > 0 ? packed : length
      this.#choice.observeCompression({elapsedMs: performance.now() - startedMs, rawBytes: length, storedBytes})
      return packed
    } finally {
      this.#compressors.give(compressor)
    }
  }

  async #write(bytes: Buffer, offset: number): Promise<void> {
    this.#writesUnderWay++
    const sharers = this.#writesUnderWay
    const startedMs = performance.now()
    try {
      await this.#job.target.write(bytes, offset)
    } finally {
      this.#writesUnderWay--
    }
    this.#choice.observeWrite({elapsedMs: performance.now() - startedMs, bytes: bytes.length, sharers})
  }
}

function allocateSlots(count: number, chunkBytes: number): readonly Slot[] {
  // LZ4_compressBound(): with that much room LZ4 need not look for the end of its target.
  const packedBytes = chunkBytes + Math.ceil(chunkBytes / 255) + 16
  return Array.from({length: count}, () => ({raw: allocateAligned(chunkBytes), packed: allocateAligned(packedBytes)}))
}

/** The first `length` bytes and zeros up to the next block. */
function pad(bytes: Buffer, length: number): Buffer {
  const padded = alignUp(length)
  bytes.fill(0, length, padded)
  return bytes.subarray(0, padded)
}

/** Fills `target` from the stream; less only at its end. */
async function fillFromStream(fd: number, target: Buffer): Promise<number> {
  let filled = 0
  while (filled < target.length) {
    const count = await readOnce(fd, target, filled)
    if (count === 0) break
    filled += count
  }
  return filled
}

function readOnce(fd: number, target: Buffer, start: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, target, start, target.length - start, null, (error, count) => {
      if (error) reject(error)
      else resolve(count)
    })
  })
}
