import {loadDigest} from '../../service/image/digest.js'
import {loadLz4} from '../../service/image/lz4.js'

/**
 * A second writer of the image format, straight from service/image/FORMAT.md: the loader must agree
 * with the page, not only with the service. It makes small images in memory.
 */
export const PLACES = {
  imageAreaOffset: 4096,
  imageAreaBytes: 512 * 1024,
  cowAreaOffset: 516 * 1024,
  cowAreaBytes: 4096,
  deviceBytes: 520 * 1024,
  headerOffset: 256 * 1024,
} as const

/** Offsets inside the superblock. */
export const SUPERBLOCK = {
  version: 16, state: 24, imageAreaBytes: 88, cowAreaOffset: 96, cowAreaBytes: 104, headerOffset: 112, headerBytes: 120, created: 136,
} as const

export const RECORD = {kernel: 1, chunks: 2, fileSystem: 3, figures: 0x80000004, text: 0x80000005} as const

/** Offsets inside the CHUNKS payload's entries. */
export const CHUNK_FIELD = {offset: 0, storedBytes: 8, rawBytes: 12, section: 24, codec: 28} as const
const CHUNK_ENTRY_BYTES = 32

export interface Kernel {
  readonly sysname: string
  readonly release: string
  readonly version: string
  readonly machine: string
}

export interface FileSystem {
  readonly path: string
  readonly regions: readonly {readonly offset: number; readonly bytes: Buffer}[]
}

export interface TestRecord {
  readonly type: number
  readonly payload: Buffer
}

export interface TestImage {
  readonly bytes: Buffer
  /** Where stored chunks are, from the start of the device. */
  readonly chunks: readonly {readonly offset: number; readonly storedBytes: number}[]
  readonly headerBytes: number
}

export interface ImageParts {
  readonly kernel: Kernel
  readonly fileSystems: readonly FileSystem[]
  /** Changes the records before they are put together. */
  readonly edit?: (records: TestRecord[]) => readonly TestRecord[]
}

const digest = loadDigest()
const lz4 = loadLz4()
const RAW_CHUNK_BYTES = 64 * 1024

/** Three chunks: compressible, incompressible and a short last one, packed back to back. */
export async function makeImage(parts: ImageParts): Promise<TestImage> {
  const bytes = Buffer.alloc(PLACES.deviceBytes)
  const stored = await Promise.all(makeStream().map(encodeChunk))
  const entries: Buffer[] = []
  const chunks: {offset: number; storedBytes: number}[] = []
  let position = 0
  for (const chunk of stored) {
    chunk.bytes.copy(bytes, PLACES.imageAreaOffset + position)
    chunks.push({offset: PLACES.imageAreaOffset + position, storedBytes: chunk.bytes.length})
    entries.push(chunkEntry(position, chunk))
    position += chunk.bytes.length
  }
  const records: TestRecord[] = [
    {type: RECORD.kernel, payload: kernelPayload(parts.kernel)},
    {type: RECORD.chunks, payload: Buffer.concat([u32(RAW_CHUNK_BYTES), u32(entries.length), ...entries])},
    ...parts.fileSystems.map(fileSystem => ({type: RECORD.fileSystem, payload: fileSystemPayload(fileSystem)})),
    {type: RECORD.figures, payload: Buffer.from('pause_ns=148000000\n')},
    {type: RECORD.text, payload: Buffer.from('hostname=test\n')},
  ]
  const header = encodeRecords(parts.edit === undefined ? records : parts.edit(records))
  header.copy(bytes, PLACES.headerOffset)
  const rawBytes = stored.reduce((sum, chunk) => sum + chunk.rawBytes, 0)
  writeSuperblock(bytes, {headerBytes: header.length, storedBytes: position, streamBytes: rawBytes})
  seal(bytes)
  return {bytes, chunks, headerBytes: header.length}
}

/** Makes all digests but the chunks' right again, so that what lies behind them is reached. */
export function seal(bytes: Buffer): Buffer {
  const offset = Number(bytes.readBigUInt64LE(SUPERBLOCK.headerOffset))
  const length = Number(bytes.readBigUInt64LE(SUPERBLOCK.headerBytes))
  if (offset + length <= bytes.length)
    bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(offset, offset + length)), 128)
  bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(0, 504)), 504)
  return bytes
}

export function digestOf(bytes: Uint8Array): bigint {
  return digest.ofBytes(bytes)
}

export function writeState(bytes: Buffer, state: string): void {
  bytes.fill(0, SUPERBLOCK.state, SUPERBLOCK.state + 16)
  bytes.write(state, SUPERBLOCK.state, 'latin1')
}

/** Where field `field` of chunk `index` is in a CHUNKS payload. */
export function chunkField(index: number, field: keyof typeof CHUNK_FIELD): number {
  return 8 + index * CHUNK_ENTRY_BYTES + CHUNK_FIELD[field]
}

interface StoredChunk {
  readonly bytes: Buffer
  readonly rawBytes: number
  readonly codec: number
}

function makeStream(): readonly Buffer[] {
  const compressible = Buffer.alloc(RAW_CHUNK_BYTES, 'the machine stays usable while it saves ')
  const incompressible = Buffer.alloc(RAW_CHUNK_BYTES)
  let state = 1
  for (let position = 0; position < incompressible.length; position++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    incompressible[position] = state >>> 24
  }
  return [compressible, incompressible, Buffer.alloc(8192, 7)]
}

async function encodeChunk(raw: Buffer): Promise<StoredChunk> {
  const target = Buffer.alloc(raw.length)
  const length = await lz4.compress(raw, target)
  if (length === 0) return {bytes: raw, rawBytes: raw.length, codec: 0}
  return {bytes: target.subarray(0, length), rawBytes: raw.length, codec: 1}
}

function chunkEntry(offset: number, chunk: StoredChunk): Buffer {
  return Buffer.concat([
    u64(offset), u32(chunk.bytes.length), u32(chunk.rawBytes), u64(digest.ofBytes(chunk.bytes)), u32(0), u32(chunk.codec),
  ])
}

export function kernelPayload(kernel: Kernel): Buffer {
  const payload = Buffer.alloc(272)
  const texts = [kernel.sysname, kernel.release, kernel.version, kernel.machine]
  texts.forEach((text, index) => payload.write(text, index * 65, 64))
  payload.writeBigUInt64LE(262144n, 264)
  return payload
}

function fileSystemPayload({path, regions}: FileSystem): Buffer {
  const texts = [Buffer.from(path), Buffer.from('0000-test'), Buffer.from('ext4')]
  return Buffer.concat([
    u32(regions.length), ...texts.map(text => u32(text.length)),
    ...regions.flatMap(({offset, bytes}) => [u64(offset), u64(bytes.length), u64(digest.ofBytes(bytes))]),
    ...texts,
  ])
}

function encodeRecords(records: readonly TestRecord[]): Buffer {
  return Buffer.concat(records.flatMap(({type, payload}) => [
    u32(type), u32(payload.length), payload, Buffer.alloc((8 - payload.length % 8) % 8),
  ]))
}

function writeSuperblock(bytes: Buffer, sizes: {headerBytes: number; storedBytes: number; streamBytes: number}): void {
  bytes.write('PermafrostImage', 0, 'latin1')
  bytes.writeUInt32LE(1, SUPERBLOCK.version)
  bytes.writeUInt32LE(512, 20)
  writeState(bytes, 'valid')
  bytes.fill(0xd1, 40, 56)
  bytes.fill(0x1d, 56, 72)
  const fields = [
    [72, PLACES.deviceBytes], [80, PLACES.imageAreaOffset], [88, PLACES.imageAreaBytes], [96, PLACES.cowAreaOffset],
    [104, PLACES.cowAreaBytes], [112, PLACES.headerOffset], [120, sizes.headerBytes], [136, 1_700_000_000],
    [144, sizes.storedBytes], [152, sizes.streamBytes],
  ] as const
  for (const [offset, value] of fields) bytes.writeBigUInt64LE(BigInt(value), offset)
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
