import {ImageError} from '../errors.js'
import {decodeChunks, encodeChunks, type Chunk} from './chunk.js'
import {
  decodeFileSystem,
  decodeKernel,
  decodeLines,
  encodeFileSystem,
  encodeKernel,
  encodeLines,
  type FileSystemRecord,
  type KernelRecord,
  type Lines,
} from './records.js'

/** What the image says beside the stream itself. FORMAT.md is normative for the layout. */
export interface ImageHeader {
  readonly kernel: KernelRecord
  readonly chunks: readonly Chunk[]
  readonly fileSystems: readonly FileSystemRecord[]
  readonly figures: Lines
  readonly text: Lines
  /** Of an image that went elsewhere: how the loader gets it back by itself. */
  readonly wayBack?: Lines
}

const TYPE_KERNEL = 1
const TYPE_CHUNKS = 2
const TYPE_FILESYSTEM = 3
/** Set in the type of records a reader may skip. */
const OPTIONAL = 0x80000000
const TYPE_FIGURES = OPTIONAL + 4
const TYPE_TEXT = OPTIONAL + 5
const TYPE_WAY_BACK = OPTIONAL + 6

const PREFIX_BYTES = 8
const FILESYSTEMS_MAXIMUM = 64

/** Throws RangeError for more file systems, or regions of one, than a reader takes. */
export function encodeHeader(header: ImageHeader): Buffer {
  if (header.fileSystems.length > FILESYSTEMS_MAXIMUM) {
    throw new RangeError(`Cannot describe ${header.fileSystems.length} devices with file systems or swap: ${FILESYSTEMS_MAXIMUM} have room`)
  }
  return Buffer.concat([
    encodeRecord(TYPE_KERNEL, encodeKernel(header.kernel)),
    encodeRecord(TYPE_CHUNKS, encodeChunks(header.chunks)),
    ...header.fileSystems.map((fileSystem) => encodeRecord(TYPE_FILESYSTEM, encodeFileSystem(fileSystem))),
    encodeRecord(TYPE_FIGURES, encodeLines(header.figures)),
    encodeRecord(TYPE_TEXT, encodeLines(header.text)),
    ...(header.wayBack === undefined ? [] : [encodeRecord(TYPE_WAY_BACK, encodeLines(header.wayBack))]),
  ])
}

/** `where` names the device in the error. Throws ImageError. */
export function decodeHeader(bytes: Buffer, where: string): ImageHeader {
  const payloads = new Map<number, Buffer[]>()
  for (const {type, payload} of splitRecords(bytes, where)) {
    if (!isKnown(type)) {
      if (type >= OPTIONAL) continue
      throw new ImageError(where, `record type ${type} of the header is unknown`)
    }
    const alike = payloads.get(type) ?? []
    // As soon as there are too many: who sends a header may send millions.
    if (type === TYPE_FILESYSTEM && alike.length === FILESYSTEMS_MAXIMUM) throw new ImageError(where, 'the header has too many file systems')
    if (type !== TYPE_FILESYSTEM && alike.length > 0) throw new ImageError(where, `the header has not exactly one record of type ${type}`)
    payloads.set(type, [...alike, payload])
  }
  const fileSystems = payloads.get(TYPE_FILESYSTEM) ?? []
  return {
    kernel: decodeKernel(takeOnly(payloads, TYPE_KERNEL, where), where),
    chunks: decodeChunks(takeOnly(payloads, TYPE_CHUNKS, where), where),
    fileSystems: fileSystems.map((payload) => decodeFileSystem(payload, where)),
    figures: decodeLines(takeAtMostOne(payloads, TYPE_FIGURES, where), where),
    text: decodeLines(takeAtMostOne(payloads, TYPE_TEXT, where), where),
    ...(payloads.has(TYPE_WAY_BACK) ? {wayBack: decodeLines(takeOnly(payloads, TYPE_WAY_BACK, where), where)} : {}),
  }
}

function isKnown(type: number): boolean {
  return [TYPE_KERNEL, TYPE_CHUNKS, TYPE_FILESYSTEM, TYPE_FIGURES, TYPE_TEXT, TYPE_WAY_BACK].includes(type)
}

function encodeRecord(type: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(PREFIX_BYTES + Math.ceil(payload.length / 8) * 8)
  bytes.writeUInt32LE(type, 0)
  bytes.writeUInt32LE(payload.length, 4)
  payload.copy(bytes, PREFIX_BYTES)
  return bytes
}

function* splitRecords(bytes: Buffer, where: string): Generator<{type: number; payload: Buffer}> {
  let position = 0
  while (position < bytes.length) {
    if (bytes.length - position < PREFIX_BYTES) throw new ImageError(where, 'a record of the header is cut short')
    const type = bytes.readUInt32LE(position)
    const length = bytes.readUInt32LE(position + 4)
    const start = position + PREFIX_BYTES
    position = start + Math.ceil(length / 8) * 8
    if (position > bytes.length) throw new ImageError(where, 'a record of the header is cut short')
    yield {type, payload: bytes.subarray(start, start + length)}
  }
}

function takeOnly(payloads: ReadonlyMap<number, readonly Buffer[]>, type: number, where: string): Buffer {
  const [payload] = payloads.get(type) ?? []
  if (payload === undefined) throw new ImageError(where, `the header has not exactly one record of type ${type}`)
  return payload
}

function takeAtMostOne(payloads: ReadonlyMap<number, readonly Buffer[]>, type: number, where: string): Buffer {
  return payloads.has(type) ? takeOnly(payloads, type, where) : Buffer.alloc(0)
}
