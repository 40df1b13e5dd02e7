import {allocateAligned, alignDown, alignUp} from '../edge/aligned.js'
import {causeText, ImageError} from '../errors.js'
import {CHUNK_RAW_BYTES_MAXIMUM, type Chunk} from './chunk.js'
import type {Digest} from './digest.js'
import {decodeHeader, type ImageHeader} from './header.js'
import type {Lz4} from './lz4.js'
import type {Superblock} from './superblock.js'

/** What an image is read from; a DirectDevice is one. */
export interface ImageSource {
  read(offset: number, length: number): Promise<Buffer>
  readInto(target: Buffer, offset: number): Promise<number>
}

export interface ReadJob {
  readonly source: ImageSource
  readonly superblock: Superblock
  readonly lz4: Lz4
  readonly digest: Digest
  /** Names the device in errors. */
  readonly where: string
}

/** The header section, believed only when its digest is right and all chunks lie where they may. */
export async function readHeader(job: Omit<ReadJob, 'lz4'>): Promise<ImageHeader> {
  const header = decodeHeader(await readHeaderBytes(job), job.where)
  checkSums(header.chunks, job.superblock, job.where)
  return header
}

/** The header section as it lies there, when its digest is right. */
export async function readHeaderBytes(job: Omit<ReadJob, 'lz4'>): Promise<Buffer> {
  const {superblock, where} = job
  if (superblock.headerBytes === 0) throw new ImageError(where, 'there is no image on it')
  const bytes = await read(job, superblock.headerOffset, superblock.headerBytes)
  if (job.digest.ofBytes(bytes) !== superblock.headerDigest) {
    throw new ImageError(where, 'the digest of the header section is wrong')
  }
  return bytes
}

/**
 * The stream, chunk by chunk, each checked and decompressed. A chunk given out is only
 * good until the next is asked for: two buffers serve them all.
 */
export async function* readChunks(job: ReadJob, header: ImageHeader, signal: AbortSignal): AsyncGenerator<Buffer> {
  const stored = allocateAligned(CHUNK_RAW_BYTES_MAXIMUM + alignUp(1) * 2)
  const raw = allocateAligned(CHUNK_RAW_BYTES_MAXIMUM)
  for (const [index, chunk] of header.chunks.entries()) {
    signal.throwIfAborted()
    const bytes = await readStored(job, chunk, stored, index)
    if (chunk.codec === 'stored') {
      yield bytes
      continue
    }
    const length = await job.lz4.decompress(bytes, raw)
    if (length !== chunk.rawBytes) throw new ImageError(job.where, `chunk ${index} cannot be decompressed`)
    yield raw.subarray(0, length)
  }
}

async function readStored(job: ReadJob, chunk: Chunk, buffer: Buffer, index: number): Promise<Buffer> {
  const offset = job.superblock.imageAreaOffset + chunk.offset
  const start = alignDown(offset)
  const target = buffer.subarray(0, alignUp(offset + chunk.storedBytes) - start)
  const filled = await job.source.readInto(target, start).catch((cause: unknown) => {
    throw new ImageError(job.where, `chunk ${index} cannot be read: ${causeText(cause)}`, {cause})
  })
  const bytes = target.subarray(offset - start, offset - start + chunk.storedBytes)
  if (filled < offset - start + chunk.storedBytes) throw new ImageError(job.where, `chunk ${index} is cut short`)
  if ((await job.digest.ofLargeBytes(bytes)) !== chunk.digest) {
    throw new ImageError(job.where, `the digest of chunk ${index} is wrong`)
  }
  return bytes
}

async function read(job: Omit<ReadJob, 'lz4'>, offset: number, length: number): Promise<Buffer> {
  try {
    return await job.source.read(offset, length)
  } catch (cause) {
    throw new ImageError(job.where, `the header section cannot be read: ${causeText(cause)}`, {cause})
  }
}

/** All chunks inside the image area, and together as long as the superblock says. Throws ImageError. */
export function checkSums(chunks: readonly Chunk[], superblock: Superblock, where: string): void {
  const outside = chunks.findIndex((chunk) => chunk.offset + chunk.storedBytes > superblock.imageAreaBytes)
  if (outside >= 0) throw new ImageError(where, `chunk ${outside} lies outside the image area`)
  const storedBytes = chunks.reduce((sum, chunk) => sum + chunk.storedBytes, 0)
  const streamBytes = chunks.reduce((sum, chunk) => sum + chunk.rawBytes, 0)
  if (storedBytes !== superblock.storedBytes || streamBytes !== superblock.streamBytes) {
    throw new ImageError(where, 'the sums of the chunks differ from those of the superblock')
  }
}
