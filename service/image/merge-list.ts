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
  /** Blocks of the base as they were when the list was made; at most `SAMPLES_MAXIMUM`. */
  readonly samples: readonly BaseSample[]
}

/**
 * The beginning of a chunk of the base of which the slice has a newer copy, or may get one. Nobody writes to it before that is merged, so
 * whoever finds something else there knows that the file system was used without its slice.
 */
export interface BaseSample {
  /** Its number on the base, in chunks. */
  readonly chunk: number
  /** Of each of its first 8 sectors, `SAMPLE_SECTORS` of them, the lower half of the digest. */
  readonly digests: readonly number[]
}

/** As it lies in one of the slots. */
export interface StoredMergeList extends MergeList {
  readonly slot: number
  /** A list that is written later has a higher one. */
  readonly sequence: number
}

/** Behind the superblock, in blocks of their own, and before any area: a list never takes the place of the last one. */
export const MERGE_SLOTS_OFFSET = 4096
export const MERGE_SLOTS = 2
/** Room for 64 file systems with all their samples, in whole blocks. */
export const MERGE_SLOT_BYTES = 200_704
export const MERGE_SLOTS_BYTES = MERGE_SLOTS * MERGE_SLOT_BYTES
export const SAMPLES_MAXIMUM = 64
export const SAMPLE_SECTORS = 8

const MAGIC = 'PermafrostMerge\0'
const VERSION = 2
const SEQUENCE_OFFSET = 40
const HEADER_BYTES = 64
const ENTRY_BYTES = 512
const ENTRIES_MAXIMUM = 64
const UUID_OFFSET = 32
const PATH_OFFSET = 96
const SAMPLE_COUNT_OFFSET = 508
const SAMPLE_BYTES = 8 + 4 * SAMPLE_SECTORS
const LOST_KEY = 1

/** Throws RangeError for what the layout has no room for; device-mapper allows no such names. */
export function encodeMergeList({bootId, merges}: MergeList, sequence: number, digest: Digest): Buffer {
  if (merges.length > ENTRIES_MAXIMUM) throw new RangeError(`Cannot list ${merges.length} merges: ${ENTRIES_MAXIMUM} have room`)
  const bytes = Buffer.alloc(MERGE_SLOT_BYTES)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeUInt32LE(VERSION, 16)
  bytes.writeUInt32LE(merges.length, 20)
  bytes.write(bootId, 24, 16, 'hex')
  bytes.writeBigUInt64LE(BigInt(sequence), SEQUENCE_OFFSET)
  const body = Buffer.concat([...merges.map(encodeEntry), ...merges.flatMap(({samples}) => samples.map(encodeSample))])
  body.copy(bytes, HEADER_BYTES)
  const end = HEADER_BYTES + body.length
  bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(0, end)), end)
  return bytes
}

/**
 * The last list that was written to its end, of all slots one behind the other. Null when there is none: then no merge had
 * begun. Throws ImageError.
 */
export function decodeMergeLists(bytes: Buffer, digest: Digest, where: string): StoredMergeList | null {
  const slots = Array.from({length: MERGE_SLOTS}, (_, slot) => ({slot, list: bytes.subarray(slot * MERGE_SLOT_BYTES, (slot + 1) * MERGE_SLOT_BYTES)}))
  const [newest] = slots.filter(({list}) => isWhole(list, digest)).sort((one, other) => Number(sequenceOf(other.list) - sequenceOf(one.list)))
  return newest === undefined ? null : {...decodeList(newest.list, where), slot: newest.slot}
}

function isWhole(list: Buffer, digest: Digest): boolean {
  if (list.toString('latin1', 0, MAGIC.length) !== MAGIC) return false
  const end = findEnd(list)
  return end !== null && list.readBigUInt64LE(end) === digest.ofBytes(list.subarray(0, end))
}

function sequenceOf(list: Buffer): bigint {
  return list.readBigUInt64LE(SEQUENCE_OFFSET)
}

function decodeList(bytes: Buffer, where: string): Omit<StoredMergeList, 'slot'> {
  const version = bytes.readUInt32LE(16)
  if (version !== VERSION) throw new ImageError(where, `the version ${version} of its merge list is unknown`)
  const entries = entriesOf(bytes)
  let at = HEADER_BYTES + entries.length * ENTRY_BYTES
  const merges = entries.map((entry): PendingMerge => {
    const samples = Array.from({length: entry.readUInt32LE(SAMPLE_COUNT_OFFSET)}, (_, index) => decodeSample(bytes, at + index * SAMPLE_BYTES, where))
    at += samples.length * SAMPLE_BYTES
    return {...decodeEntry(entry, where), samples}
  })
  return {bootId: bytes.toString('hex', 24, 40), sequence: readSafeU64(bytes, SEQUENCE_OFFSET, where, 'sequence'), merges}
}

/** Where the digest is; null when what says so cannot be right. */
function findEnd(bytes: Buffer): number | null {
  if (bytes.readUInt32LE(20) > ENTRIES_MAXIMUM) return null
  const entries = entriesOf(bytes)
  const counts = entries.map((entry) => entry.readUInt32LE(SAMPLE_COUNT_OFFSET))
  if (counts.some((count) => count > SAMPLES_MAXIMUM)) return null
  return HEADER_BYTES + entries.length * ENTRY_BYTES + counts.reduce((sum, count) => sum + count, 0) * SAMPLE_BYTES
}

function entriesOf(bytes: Buffer): readonly Buffer[] {
  return Array.from({length: bytes.readUInt32LE(20)}, (_, index) => {
    const start = HEADER_BYTES + index * ENTRY_BYTES
    return bytes.subarray(start, start + ENTRY_BYTES)
  })
}

function encodeEntry(merge: PendingMerge): Buffer {
  if (merge.samples.length > SAMPLES_MAXIMUM) {
    throw new RangeError(`Cannot list ${merge.samples.length} samples of '${merge.path}': ${SAMPLES_MAXIMUM} have room`)
  }
  const bytes = Buffer.alloc(ENTRY_BYTES)
  bytes.writeBigUInt64LE(BigInt(merge.sliceOffset), 0)
  bytes.writeBigUInt64LE(BigInt(merge.sliceBytes), 8)
  bytes.writeBigUInt64LE(BigInt(merge.baseBytes), 16)
  bytes.writeUInt32LE(merge.chunkSectors, 24)
  bytes.writeUInt32LE(merge.hasLostKey ? LOST_KEY : 0, 28)
  writePaddedText(bytes, merge.uuid, UUID_OFFSET, PATH_OFFSET)
  writePaddedText(bytes, merge.path, PATH_OFFSET, SAMPLE_COUNT_OFFSET)
  bytes.writeUInt32LE(merge.samples.length, SAMPLE_COUNT_OFFSET)
  return bytes
}

function encodeSample({chunk, digests}: BaseSample): Buffer {
  const bytes = Buffer.alloc(SAMPLE_BYTES)
  bytes.writeBigUInt64LE(BigInt(chunk), 0)
  for (let index = 0; index < SAMPLE_SECTORS; index += 1) bytes.writeUInt32LE(digests[index] ?? 0, 8 + 4 * index)
  return bytes
}

function decodeEntry(bytes: Buffer, where: string): Omit<PendingMerge, 'samples'> {
  const uuid = readPaddedText(bytes, UUID_OFFSET, PATH_OFFSET)
  const path = readPaddedText(bytes, PATH_OFFSET, SAMPLE_COUNT_OFFSET)
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

function decodeSample(bytes: Buffer, at: number, where: string): BaseSample {
  return {
    chunk: readSafeU64(bytes, at, where, 'chunk'),
    digests: Array.from({length: SAMPLE_SECTORS}, (_, index) => bytes.readUInt32LE(at + 8 + 4 * index)),
  }
}

/** At least one NUL stays behind it. */
function writePaddedText(bytes: Buffer, text: string, start: number, end: number): void {
  if (Buffer.byteLength(text) >= end - start) throw new RangeError(`Cannot list '${text}': it is longer than ${end - start - 1} bytes`)
  bytes.write(text, start, 'utf8')
}
