import {ImageError} from '../errors.js'
import {readSafeU64} from './bytes.js'
import type {Digest} from './digest.js'

/** An image on its way through something that can only be written and read in order. FORMAT.md is normative. */

export const OPENING_BYTES = 64
export const FRAME_BYTES = 32
/** Pieces as written have at most a chunk of 4 MiB and its padding; the header section may be as long as this. */
export const PAYLOAD_BYTES_MAXIMUM = 16 * 2 ** 20
/** The device that the closing superblock speaks of: superblock, image area, nothing else. */
export const STREAM_AREA_OFFSET = 4096

const MAGIC = 'PermafrostStream'
const VERSION = 1
const OPENING_DIGEST_OFFSET = 56
const FRAME_DIGEST_OFFSET = 24

const KINDS = ['piece', 'header', 'closing'] as const
export type FrameKind = (typeof KINDS)[number]

export interface Opening {
  /** 32 hexadecimal digits. */
  readonly imageId: string
  /** The length of the kernel's stream where it is known beforehand, else 0. */
  readonly streamBytes: number
}

export interface Frame {
  readonly kind: FrameKind
  readonly payloadBytes: number
  /** From the start of the image area. */
  readonly offset: number
  readonly payloadDigest: bigint
}

export function hasStreamMagic(bytes: Buffer): boolean {
  return bytes.toString('latin1', 0, MAGIC.length) === MAGIC
}

export function encodeOpening({imageId, streamBytes}: Opening, digest: Digest): Buffer {
  const bytes = Buffer.alloc(OPENING_BYTES)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeUInt32LE(VERSION, 16)
  bytes.writeUInt32LE(OPENING_BYTES, 20)
  bytes.write(imageId, 24, 16, 'hex')
  bytes.writeBigUInt64LE(BigInt(streamBytes), 40)
  bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(0, OPENING_DIGEST_OFFSET)), OPENING_DIGEST_OFFSET)
  return bytes
}

/** `where` names the stream in the error. Throws ImageError. */
export function decodeOpening(bytes: Buffer, digest: Digest, where: string): Opening {
  if (!hasStreamMagic(bytes)) throw new ImageError(where, 'it is no image stream')
  if (bytes.length < OPENING_BYTES) throw new ImageError(where, 'the stream ends before the image is complete')
  const version = bytes.readUInt32LE(16)
  if (version !== VERSION) throw new ImageError(where, `its stream version ${version} is unknown`)
  if (bytes.readUInt32LE(20) !== OPENING_BYTES) throw new ImageError(where, 'opening_bytes is not 64')
  if (bytes.readBigUInt64LE(OPENING_DIGEST_OFFSET) !== digest.ofBytes(bytes.subarray(0, OPENING_DIGEST_OFFSET))) {
    throw new ImageError(where, 'the digest of the opening is wrong')
  }
  return {imageId: bytes.toString('hex', 24, 40), streamBytes: readSafeU64(bytes, 40, where, 'stream_bytes')}
}

export function encodeFrame({kind, payloadBytes, offset, payloadDigest}: Frame, digest: Digest): Buffer {
  const bytes = Buffer.alloc(FRAME_BYTES)
  bytes.writeUInt32LE(KINDS.indexOf(kind) + 1, 0)
  bytes.writeUInt32LE(payloadBytes, 4)
  bytes.writeBigUInt64LE(BigInt(offset), 8)
  bytes.writeBigUInt64LE(payloadDigest, 16)
  bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(0, FRAME_DIGEST_OFFSET)), FRAME_DIGEST_OFFSET)
  return bytes
}

/** Throws ImageError. */
export function decodeFrame(bytes: Buffer, digest: Digest, where: string): Frame {
  if (bytes.readBigUInt64LE(FRAME_DIGEST_OFFSET) !== digest.ofBytes(bytes.subarray(0, FRAME_DIGEST_OFFSET))) {
    throw new ImageError(where, 'the digest of a frame is wrong')
  }
  const kind = KINDS[bytes.readUInt32LE(0) - 1]
  if (kind === undefined) throw new ImageError(where, `frame kind ${bytes.readUInt32LE(0)} is unknown`)
  const payloadBytes = bytes.readUInt32LE(4)
  if (payloadBytes === 0 || payloadBytes > PAYLOAD_BYTES_MAXIMUM) throw new ImageError(where, 'the length of a frame is out of bounds')
  return {kind, payloadBytes, offset: readSafeU64(bytes, 8, where, 'the offset of a frame'), payloadDigest: bytes.readBigUInt64LE(16)}
}
