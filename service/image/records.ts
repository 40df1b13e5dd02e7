import {ImageError} from '../errors.js'
import {readPaddedText, readSafeU64} from './bytes.js'

/** The kernel an image belongs to, as uname(2) of the saving system gave it. */
export interface KernelRecord {
  readonly sysname: string
  readonly release: string
  readonly version: string
  readonly machine: string
  /** For people to read; 0 when not known. */
  readonly physicalPages: number
}

/** Blocks of a device that any mount would change, as they were at the snapshot. */
export interface Region {
  readonly offset: number
  readonly bytes: number
  readonly digest: bigint
}

/** `path` is where the initramfs finds the device under the file system. */
export interface FileSystemRecord {
  readonly path: string
  readonly uuid: string
  readonly type: string
  readonly regions: readonly Region[]
}

/** "key=value" lines, for people and for reports. */
export type Lines = Readonly<Record<string, string>>

const UTS_BYTES = 65
const KERNEL_TEXTS = ['sysname', 'release', 'version', 'machine'] as const
const PHYSICAL_PAGES_OFFSET = 264
const KERNEL_BYTES = 272

const FILESYSTEM_PREFIX_BYTES = 16
const REGION_BYTES = 24
const REGIONS_MAXIMUM = 1024
export const REGION_BYTES_MAXIMUM = 16 * 2 ** 20
const PATH_BYTES_MAXIMUM = 4095
const TEXT_BYTES_MAXIMUM = 255

export function encodeKernel(kernel: KernelRecord): Buffer {
  const bytes = Buffer.alloc(KERNEL_BYTES)
  KERNEL_TEXTS.forEach((field, index) => {
    bytes.write(kernel[field], index * UTS_BYTES, UTS_BYTES - 1, 'utf8')
  })
  bytes.writeBigUInt64LE(BigInt(kernel.physicalPages), PHYSICAL_PAGES_OFFSET)
  return bytes
}

export function decodeKernel(bytes: Buffer, where: string): KernelRecord {
  if (bytes.length !== KERNEL_BYTES) throw new ImageError(where, 'the kernel record has a wrong length')
  const read = (index: number): string => {
    const text = readPaddedText(bytes, index * UTS_BYTES, (index + 1) * UTS_BYTES)
    if (text === null) throw new ImageError(where, `${KERNEL_TEXTS[index]} of the kernel record has no end`)
    if (text === '') throw new ImageError(where, `${KERNEL_TEXTS[index]} of the kernel record is empty`)
    return text
  }
  return {
    sysname: read(0),
    release: read(1),
    version: read(2),
    machine: read(3),
    physicalPages: readSafeU64(bytes, PHYSICAL_PAGES_OFFSET, where, 'num_physpages'),
  }
}

/** Throws RangeError for more regions than a reader takes. */
export function encodeFileSystem(record: FileSystemRecord): Buffer {
  if (record.regions.length > REGIONS_MAXIMUM) {
    throw new RangeError(`Cannot describe ${record.regions.length} regions of '${record.path}': ${REGIONS_MAXIMUM} have room`)
  }
  const texts = [record.path, record.uuid, record.type].map((text) => Buffer.from(text))
  const prefix = Buffer.alloc(FILESYSTEM_PREFIX_BYTES + record.regions.length * REGION_BYTES)
  prefix.writeUInt32LE(record.regions.length, 0)
  texts.forEach((text, index) => prefix.writeUInt32LE(text.length, 4 + index * 4))
  record.regions.forEach((region, index) => {
    const start = FILESYSTEM_PREFIX_BYTES + index * REGION_BYTES
    prefix.writeBigUInt64LE(BigInt(region.offset), start)
    prefix.writeBigUInt64LE(BigInt(region.bytes), start + 8)
    prefix.writeBigUInt64LE(region.digest, start + 16)
  })
  return Buffer.concat([prefix, ...texts])
}

export function decodeFileSystem(bytes: Buffer, where: string): FileSystemRecord {
  if (bytes.length < FILESYSTEM_PREFIX_BYTES) throw new ImageError(where, 'a file system record is cut short')
  const [regionCount, pathBytes, uuidBytes, typeBytes] = [0, 4, 8, 12].map((offset) => bytes.readUInt32LE(offset))
  if (regionCount === undefined || pathBytes === undefined || uuidBytes === undefined || typeBytes === undefined) {
    throw new ImageError(where, 'a file system record is cut short')
  }
  const textsStart = FILESYSTEM_PREFIX_BYTES + regionCount * REGION_BYTES
  const isWithinLimits =
    regionCount <= REGIONS_MAXIMUM &&
    pathBytes > 0 &&
    pathBytes <= PATH_BYTES_MAXIMUM &&
    uuidBytes <= TEXT_BYTES_MAXIMUM &&
    typeBytes <= TEXT_BYTES_MAXIMUM
  if (!isWithinLimits || bytes.length !== textsStart + pathBytes + uuidBytes + typeBytes) {
    throw new ImageError(where, 'a length in a file system record is out of bounds')
  }
  const texts = bytes.subarray(textsStart)
  if (texts.includes(0)) throw new ImageError(where, 'a text in a file system record has a NUL')
  return {
    path: texts.toString('utf8', 0, pathBytes),
    uuid: texts.toString('utf8', pathBytes, pathBytes + uuidBytes),
    type: texts.toString('utf8', pathBytes + uuidBytes),
    regions: Array.from({length: regionCount}, (_, index) =>
      decodeRegion(bytes, FILESYSTEM_PREFIX_BYTES + index * REGION_BYTES, where),
    ),
  }
}

function decodeRegion(bytes: Buffer, start: number, where: string): Region {
  const offset = readSafeU64(bytes, start, where, 'the offset of a region')
  const length = readSafeU64(bytes, start + 8, where, 'the length of a region')
  if (length === 0 || length > REGION_BYTES_MAXIMUM) throw new ImageError(where, 'the length of a region is out of bounds')
  return {offset, bytes: length, digest: bytes.readBigUInt64LE(start + 16)}
}

/** A line feed in a value would begin a line of its own, so it becomes a space. */
export function encodeLines(lines: Lines): Buffer {
  const text = Object.entries(lines).map(([key, value]) => `${key}=${value.replaceAll(/[\n\0]/g, ' ')}\n`)
  return Buffer.from(text.join(''))
}

export function decodeLines(bytes: Buffer, where: string): Lines {
  const text = bytes.toString('utf8')
  if (text !== '' && !text.endsWith('\n')) throw new ImageError(where, 'the last line of a text record has no end')
  const entries = text.split('\n').slice(0, -1)
  return Object.fromEntries(
    entries.map((line) => {
      const separator = line.indexOf('=')
      if (separator < 1) throw new ImageError(where, `the line '${line}' of a text record has no key`)
      return [line.slice(0, separator), line.slice(separator + 1)]
    }),
  )
}
