import {ImageError} from '../errors.js'
import {readPaddedText} from './bytes.js'
import type {Digest} from './digest.js'

/** What somebody asks a server for that keeps images. PROTOCOL.md is normative. */

export const REQUEST_BYTES = 256
/** An answer is one line; longer is none. */
export const ANSWER_BYTES_MAXIMUM = 1024

const MAGIC = 'PermafrostServer'
const VERSION = 1
const KINDS = ['ask', 'store', 'fetch'] as const
const NAME_OFFSET = 56
const NAME_BYTES = 64
const DIGEST_OFFSET = 248

/**
 * - `ask`: could an image be kept under that name? Nothing is changed.
 * - `store`: an image follows.
 * - `fetch`: the image of this identity is wanted back.
 */
export type RequestKind = (typeof KINDS)[number]

export interface ServerRequest {
  readonly kind: RequestKind
  /** 32 hexadecimal digits; zeros for `ask`. */
  readonly imageId: string
  /** Under which the server keeps the image: one for each machine. */
  readonly name: string
}

/** The first words of answers; behind `ready` and `sending` comes a number of bytes, behind `failed` why. */
export const ANSWERS = {ready: 'ready', sending: 'sending', kept: 'kept', failed: 'failed'} as const

/** It becomes the name of a file, and stands in a URL. */
export function isImageName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text)
}

export function encodeRequest({kind, imageId, name}: ServerRequest, digest: Digest): Buffer {
  const bytes = Buffer.alloc(REQUEST_BYTES)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeUInt32LE(VERSION, 16)
  bytes.writeUInt32LE(REQUEST_BYTES, 20)
  bytes.writeUInt32LE(KINDS.indexOf(kind) + 1, 24)
  bytes.write(imageId, 32, 16, 'hex')
  bytes.write(name, NAME_OFFSET, NAME_BYTES - 1, 'latin1')
  bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(0, DIGEST_OFFSET)), DIGEST_OFFSET)
  return bytes
}

/** `where` names who asks in the error. Throws ImageError. */
export function decodeRequest(bytes: Buffer, digest: Digest, where: string): ServerRequest {
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) throw new ImageError(where, 'what came is no request')
  const version = bytes.readUInt32LE(16)
  if (version !== VERSION) throw new ImageError(where, `version ${version} of the protocol is unknown`)
  if (bytes.length < REQUEST_BYTES || bytes.readUInt32LE(20) !== REQUEST_BYTES) throw new ImageError(where, `request_bytes is not ${REQUEST_BYTES}`)
  if (readDigest(bytes) !== digest.ofBytes(bytes.subarray(0, DIGEST_OFFSET))) throw new ImageError(where, 'the digest of the request is wrong')
  const kind = KINDS[bytes.readUInt32LE(24) - 1]
  if (kind === undefined) throw new ImageError(where, `request kind ${bytes.readUInt32LE(24)} is unknown`)
  const name = readPaddedText(bytes, NAME_OFFSET, NAME_OFFSET + NAME_BYTES)
  if (name === null || !isImageName(name)) throw new ImageError(where, 'the name of the image is no name')
  return {kind, imageId: bytes.toString('hex', 32, 48), name}
}

function readDigest(bytes: Buffer): bigint {
  return bytes.readBigUInt64LE(DIGEST_OFFSET)
}
