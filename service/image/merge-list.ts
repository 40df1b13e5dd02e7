import {ImageError} from '../errors.js'
import {readPaddedText, readSafeU64} from './bytes.js'
import type {Digest} from './digest.js'

/**
 * Which slices are being copied back to which file systems, kept on the spare device for as long as that takes:
 * a power cut meanwhile leaves file systems of which the newer part is in the slices only, and the next boot
 * has to finish the merges before it mounts anything. FORMAT.md, "Merge list", is normative.
 */
export interface MergeList {
  /** The boot that began the merges, 32 hexadecimal digits. */
  readonly bootId: string
  readonly merges: readonly PendingMerge[]
}

export interface PendingMerge {
  /** How the initramfs finds the device under the file system. */
  readonly path: string
  /** Of the file system; empty when it has none. */
  readonly uuid: string
  readonly baseBytes: number
  /** From the start of the spare device. */
  readonly sliceOffset: number
  readonly sliceBytes: number
  readonly chunkSectors: number
  /** The slice is encrypted with a key that is in the memory of the boot that made it, and nowhere else. */
  readonly hasLostKey: boolean
}

/** Behind the superblock, in a block of its own, and before any area. */
export const MERGE_LIST_OFFSET = 4096
/** Room for 64 file systems, in whole blocks. */
export const MERGE_LIST_BYTES = 36864

const MAGIC = 'PermafrostMerge\0'
const VERSION = 1
const HEADER_BYTES = 64
const ENTRY_BYTES = 512
const ENTRIES_MAXIMUM = 64
const UUID_OFFSET = 32
const PATH_OFFSET = 96
const LOST_KEY = 1

/** Throws RangeError for what the layout has no room for; device-mapper allows no such names. */
export function encodeMergeList({bootId, merges}: MergeList, digest: Digest): Buffer {
  if (merges.length > ENTRIES_MAXIMUM) throw new RangeError(`Cannot list ${merges.length} merges: ${ENTRIES_MAXIMUM} have room`)
  const bytes = Buffer.alloc(MERGE_LIST_BYTES)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeUInt32LE(VERSION, 16)
  bytes.writeUInt32LE(merges.length, 20)
  bytes.write(bootId, 24, 16, 'hex')
  merges.forEach((merge, index) => {
    const start = HEADER_BYTES + index * ENTRY_BYTES
    encodeEntry(merge).copy(bytes, start)
  })
  const end = HEADER_BYTES + merges.length * ENTRY_BYTES
  bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(0, end)), end)
  return bytes
}

/** Null when there is none, or one that was not written to its end: then no merge had begun. Throws ImageError. */
export function decodeMergeList(bytes: Buffer, digest: Digest, where: string): MergeList | null {
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) return null
  const count = bytes.readUInt32LE(20)
  if (count > ENTRIES_MAXIMUM) return null
  const end = HEADER_BYTES + count * ENTRY_BYTES
  if (bytes.readBigUInt64LE(end) !== digest.ofBytes(bytes.subarray(0, end))) return null
  const version = bytes.readUInt32LE(16)
  if (version !== VERSION) throw new ImageError(where, `the version ${version} of its merge list is unknown`)
  const merges = Array.from({length: count}, (_, index) => {
    const start = HEADER_BYTES + index * ENTRY_BYTES
    return decodeEntry(bytes.subarray(start, start + ENTRY_BYTES), where)
  })
  return {bootId: bytes.toString('hex', 24, 40), merges}
}

function encodeEntry(merge: PendingMerge): Buffer {
  const bytes = Buffer.alloc(ENTRY_BYTES)
  bytes.writeBigUInt64LE(BigInt(merge.sliceOffset), 0)
  bytes.writeBigUInt64LE(BigInt(merge.sliceBytes), 8)
  bytes.writeBigUInt64LE(BigInt(merge.baseBytes), 16)
  bytes.writeUInt32LE(merge.chunkSectors, 24)
  bytes.writeUInt32LE(merge.hasLostKey ? LOST_KEY : 0, 28)
  writePaddedText(bytes, merge.uuid, UUID_OFFSET, PATH_OFFSET)
  writePaddedText(bytes, merge.path, PATH_OFFSET, ENTRY_BYTES)
  return bytes
}

function decodeEntry(bytes: Buffer, where: string): PendingMerge {
  const uuid = readPaddedText(bytes, UUID_OFFSET, PATH_OFFSET)
  const path = readPaddedText(bytes, PATH_OFFSET, ENTRY_BYTES)
  if (uuid === null || path === null) throw new ImageError(where, 'a name in its merge list is malformed')
  return {
    path,
    uuid,
    sliceOffset: readSafeU64(bytes, 0, where, 'sliceOffset'),
    sliceBytes: readSafeU64(bytes, 8, where, 'sliceBytes'),
    baseBytes: readSafeU64(bytes, 16, where, 'baseBytes'),
    chunkSectors: bytes.readUInt32LE(24),
    hasLostKey: (bytes.readUInt32LE(28) & LOST_KEY) !== 0,
  }
}

/** At least one NUL stays behind it. */
function writePaddedText(bytes: Buffer, text: string, start: number, end: number): void {
  if (Buffer.byteLength(text) >= end - start) throw new RangeError(`Cannot list '${text}': it is longer than ${end - start - 1} bytes`)
  bytes.write(text, start, 'utf8')
}
