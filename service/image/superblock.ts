import {ImageError} from '../errors.js'
import {readPaddedText, readSafeU64} from './bytes.js'
import type {Digest} from './digest.js'

/**
 * The first sector of the device. FORMAT.md is normative for the layout.
 *
 * What each state means to the next boot:
 * - empty: boots as usual, says nothing.
 * - writing: boots as usual, says that saving was interrupted, sets aborted.
 * - valid: resumes, or says why it must not.
 * - away: resumes where the stream of this very image is brought to the loader; else says so, sets aborted.
 * - resuming: boots as usual, says that a resume did not finish, sets aborted.
 * - resumed, aborted: boots as usual, says nothing.
 */
export const IMAGE_STATES = ['empty', 'writing', 'valid', 'away', 'resuming', 'resumed', 'aborted'] as const
export type ImageState = (typeof IMAGE_STATES)[number]

export const SUPERBLOCK_BYTES = 512
export const FORMAT_VERSION = 1
/** 16 zero bytes: no image, no parent. */
export const NO_ID = '0'.repeat(32)
export const HEADER_BYTES_MAXIMUM = 16 * 2 ** 20

const MAGIC = 'PermafrostImage\0'
const BLOCK = 4096
const DIGEST_OFFSET = 504

/** Identities are 32 hexadecimal digits. */
export interface Superblock {
  readonly state: ImageState
  readonly deviceId: string
  readonly imageId: string
  readonly deviceBytes: number
  readonly imageAreaOffset: number
  readonly imageAreaBytes: number
  readonly cowAreaOffset: number
  readonly cowAreaBytes: number
  readonly headerOffset: number
  readonly headerBytes: number
  readonly headerDigest: bigint
  readonly createdUnixSeconds: number
  readonly storedBytes: number
  readonly streamBytes: number
  readonly parentId: string
}

/** Every u64 of the layout that is a size, a place or a time. */
const U64_FIELDS = [
  [72, 'deviceBytes'],
  [80, 'imageAreaOffset'],
  [88, 'imageAreaBytes'],
  [96, 'cowAreaOffset'],
  [104, 'cowAreaBytes'],
  [112, 'headerOffset'],
  [120, 'headerBytes'],
  [136, 'createdUnixSeconds'],
  [144, 'storedBytes'],
  [152, 'streamBytes'],
] as const

type U64Field = (typeof U64_FIELDS)[number][1]

export function encodeSuperblock(superblock: Superblock, digest: Digest): Buffer {
  const bytes = Buffer.alloc(SUPERBLOCK_BYTES)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeUInt32LE(FORMAT_VERSION, 16)
  bytes.writeUInt32LE(SUPERBLOCK_BYTES, 20)
  bytes.write(superblock.state, 24, 'latin1')
  bytes.write(superblock.deviceId, 40, 16, 'hex')
  bytes.write(superblock.imageId, 56, 16, 'hex')
  for (const [offset, field] of U64_FIELDS) bytes.writeBigUInt64LE(BigInt(superblock[field]), offset)
  bytes.writeBigUInt64LE(superblock.headerDigest, 128)
  bytes.write(superblock.parentId, 160, 16, 'hex')
  bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(0, DIGEST_OFFSET)), DIGEST_OFFSET)
  return bytes
}

/** Whether the sector is one of ours at all, be it intact or not. */
export function hasMagic(bytes: Buffer): boolean {
  return bytes.toString('latin1', 0, MAGIC.length) === MAGIC
}

/** What stands at the same place in all versions: FORMAT.md. */
export function formatVersionOf(bytes: Buffer): number {
  return bytes.readUInt32LE(16)
}

/** `where` names the device in the error. Throws ImageError. */
export function decodeSuperblock(bytes: Buffer, digest: Digest, where: string): Superblock {
  if (bytes.length < SUPERBLOCK_BYTES) throw new ImageError(where, 'the superblock is cut short')
  if (!hasMagic(bytes)) throw new ImageError(where, 'it has no Permafrost superblock')
  // Before the digest: another version may have it elsewhere.
  const version = formatVersionOf(bytes)
  if (version !== FORMAT_VERSION) {
    throw new ImageError(where, `its format is version ${version}, and only version ${FORMAT_VERSION} can be read`)
  }
  if (bytes.readUInt32LE(20) !== SUPERBLOCK_BYTES) throw new ImageError(where, 'superblock_bytes is not 512')
  if (bytes.readBigUInt64LE(DIGEST_OFFSET) !== digest.ofBytes(bytes.subarray(0, DIGEST_OFFSET))) {
    throw new ImageError(where, 'the digest of the superblock is wrong')
  }
  const superblock: Superblock = {
    state: readState(bytes, where),
    deviceId: bytes.toString('hex', 40, 56),
    imageId: bytes.toString('hex', 56, 72),
    headerDigest: bytes.readBigUInt64LE(128),
    parentId: bytes.toString('hex', 160, 176),
    ...readNumbers(bytes, where),
  }
  checkAreas(superblock, where)
  return superblock
}

/** `value` without what only an image has; what is left belongs to the device. */
export function withoutImage(superblock: Superblock, state: ImageState): Superblock {
  return {
    ...superblock,
    state,
    imageId: NO_ID,
    headerOffset: 0,
    headerBytes: 0,
    headerDigest: 0n,
    createdUnixSeconds: 0,
    storedBytes: 0,
    streamBytes: 0,
    parentId: NO_ID,
  }
}

function readState(bytes: Buffer, where: string): ImageState {
  const text = readPaddedText(bytes, 24, 40)
  const state = IMAGE_STATES.find((known) => known === text)
  if (state === undefined) throw new ImageError(where, 'the state of the superblock is unknown')
  return state
}

function readNumbers(bytes: Buffer, where: string): Record<U64Field, number> {
  const read = (field: U64Field): number => {
    const offset = U64_FIELDS.find(([, name]) => name === field)?.[0] ?? 0
    return readSafeU64(bytes, offset, where, field)
  }
  return {
    deviceBytes: read('deviceBytes'),
    imageAreaOffset: read('imageAreaOffset'),
    imageAreaBytes: read('imageAreaBytes'),
    cowAreaOffset: read('cowAreaOffset'),
    cowAreaBytes: read('cowAreaBytes'),
    headerOffset: read('headerOffset'),
    headerBytes: read('headerBytes'),
    createdUnixSeconds: read('createdUnixSeconds'),
    storedBytes: read('storedBytes'),
    streamBytes: read('streamBytes'),
  }
}

function checkAreas(superblock: Superblock, where: string): void {
  const {deviceBytes, imageAreaOffset, cowAreaOffset} = superblock
  const imageEnd = imageAreaOffset + superblock.imageAreaBytes
  const cowEnd = cowAreaOffset + superblock.cowAreaBytes
  if (imageAreaOffset % BLOCK !== 0 || cowAreaOffset % BLOCK !== 0 || imageAreaOffset < BLOCK) {
    throw new ImageError(where, 'an area of the superblock is not aligned')
  }
  if (imageEnd > deviceBytes || cowEnd > deviceBytes) {
    throw new ImageError(where, 'an area of the superblock ends behind the device')
  }
  if (cowAreaOffset < BLOCK || (imageAreaOffset < cowEnd && cowAreaOffset < imageEnd)) {
    throw new ImageError(where, 'the areas of the superblock overlap')
  }
  if (HAVE_HEADER.includes(superblock.state)) checkHeaderPlace(superblock, where)
}

/** States that promise a header section. */
const HAVE_HEADER: readonly ImageState[] = ['valid', 'away', 'resuming']

function checkHeaderPlace(superblock: Superblock, where: string): void {
  const {headerOffset, headerBytes, imageAreaOffset, imageAreaBytes} = superblock
  const isInside = headerOffset >= imageAreaOffset && headerOffset + headerBytes <= imageAreaOffset + imageAreaBytes
  const isPlausible = headerOffset % BLOCK === 0 && headerBytes > 0 && headerBytes % 8 === 0
  if (!isInside || !isPlausible || headerBytes > HEADER_BYTES_MAXIMUM) {
    throw new ImageError(where, 'the place of the header section is out of bounds')
  }
}
