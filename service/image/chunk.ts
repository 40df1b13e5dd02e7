import {ImageError} from '../errors.js'
import {readSafeU64} from './bytes.js'

/** Small enough to have several in what little memory may be left. */
export const CHUNK_RAW_BYTES_MINIMUM = 2 ** 20
export const CHUNK_RAW_BYTES_MAXIMUM = 4 * 2 ** 20

const CODECS = ['stored', 'lz4'] as const
export type Codec = (typeof CODECS)[number]

/** One piece of the kernel's stream, readable without any other. */
export interface Chunk {
  /** From the start of the image area. */
  readonly offset: number
  readonly storedBytes: number
  readonly rawBytes: number
  readonly digest: bigint
  readonly codec: Codec
}

const ENTRY_BYTES = 32
const PREFIX_BYTES = 8
const SECTION_STREAM = 0

/** The payload of the CHUNKS record. */
export function encodeChunks(chunks: readonly Chunk[]): Buffer {
  const bytes = Buffer.alloc(PREFIX_BYTES + chunks.length * ENTRY_BYTES)
  bytes.writeUInt32LE(chunks.reduce((largest, {rawBytes}) => Math.max(largest, rawBytes), CHUNK_RAW_BYTES_MINIMUM), 0)
  bytes.writeUInt32LE(chunks.length, 4)
  chunks.forEach((chunk, index) => {
    const start = PREFIX_BYTES + index * ENTRY_BYTES
    bytes.writeBigUInt64LE(BigInt(chunk.offset), start)
    bytes.writeUInt32LE(chunk.storedBytes, start + 8)
    bytes.writeUInt32LE(chunk.rawBytes, start + 12)
    bytes.writeBigUInt64LE(chunk.digest, start + 16)
    bytes.writeUInt32LE(SECTION_STREAM, start + 24)
    bytes.writeUInt32LE(CODECS.indexOf(chunk.codec), start + 28)
  })
  return bytes
}

export function decodeChunks(bytes: Buffer, where: string): readonly Chunk[] {
  if (bytes.length < PREFIX_BYTES) throw new ImageError(where, 'the list of chunks is cut short')
  const rawBytesLimit = bytes.readUInt32LE(0)
  const count = bytes.readUInt32LE(4)
  if (rawBytesLimit === 0 || rawBytesLimit > CHUNK_RAW_BYTES_MAXIMUM) {
    throw new ImageError(where, 'chunk_raw_bytes is out of bounds')
  }
  if (count === 0 || bytes.length !== PREFIX_BYTES + count * ENTRY_BYTES) {
    throw new ImageError(where, 'the number of chunks is out of bounds')
  }
  return Array.from({length: count}, (_, index) => {
    const start = PREFIX_BYTES + index * ENTRY_BYTES
    return decodeChunk(bytes.subarray(start, start + ENTRY_BYTES), rawBytesLimit, `chunk ${index}`, where)
  })
}

function decodeChunk(bytes: Buffer, rawBytesLimit: number, name: string, where: string): Chunk {
  const codec = CODECS[bytes.readUInt32LE(28)]
  const storedBytes = bytes.readUInt32LE(8)
  const rawBytes = bytes.readUInt32LE(12)
  if (bytes.readUInt32LE(24) !== SECTION_STREAM) throw new ImageError(where, `the section of ${name} is unknown`)
  if (codec === undefined) throw new ImageError(where, `the codec of ${name} is unknown`)
  const isPlausible = storedBytes > 0 && rawBytes > 0 && rawBytes <= rawBytesLimit
  if (!isPlausible || storedBytes > rawBytes || (codec === 'stored' && storedBytes !== rawBytes)) {
    throw new ImageError(where, `the size of ${name} is out of bounds`)
  }
  const offset = readSafeU64(bytes, 0, where, `the offset of ${name}`)
  return {offset, storedBytes, rawBytes, digest: bytes.readBigUInt64LE(16), codec}
}
