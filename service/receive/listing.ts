import {open, type FileHandle} from 'node:fs/promises'
import {causeText, ImageError} from '../errors.js'
import type {Digest} from '../image/digest.js'
import {decodeHeader} from '../image/header.js'
import {decodeFrame, FRAME_BYTES} from '../image/stream-form.js'
import {decodeSuperblock, SUPERBLOCK_BYTES} from '../image/superblock.js'

/** What a kept image says of itself; of one that says nothing right, `fault` alone. */
export type ListedImage = {readonly file: string} & (
  | {
      readonly isWhole: true
      readonly imageId: string
      readonly created: string
      readonly storedBytes: number
      readonly streamBytes: number
      readonly hostname: string
      readonly kernel: string
    }
  | {readonly isWhole: false; readonly fault: string}
)

/** Looks at the end of a stream, which is there only when all of it came. Chunks are not read. */
export async function describeImageFile(file: string, digest: Digest): Promise<ListedImage> {
  try {
    const handle = await open(file)
    try {
      return {file, isWhole: true, ...(await readEnd(handle, file, digest))}
    } finally {
      await handle.close()
    }
  } catch (error) {
    return {file, isWhole: false, fault: causeText(error)}
  }
}

async function readEnd(handle: FileHandle, file: string, digest: Digest) {
  const {size} = await handle.stat()
  const closing = await readAt(handle, file, size - SUPERBLOCK_BYTES - FRAME_BYTES, FRAME_BYTES + SUPERBLOCK_BYTES)
  if (decodeFrame(closing.subarray(0, FRAME_BYTES), digest, file).kind !== 'closing') throw new ImageError(file, 'it has no end')
  const {imageId, createdUnixSeconds, storedBytes, streamBytes, headerBytes, headerDigest} = decodeSuperblock(closing.subarray(FRAME_BYTES), digest, file)
  const headerBuffer = await readAt(handle, file, size - closing.length - headerBytes, headerBytes)
  if (digest.ofBytes(headerBuffer) !== headerDigest) throw new ImageError(file, 'the digest of its header section is wrong')
  const {kernel, text} = decodeHeader(headerBuffer, file)
  const created = new Date(createdUnixSeconds * 1000).toISOString()
  return {imageId, created, storedBytes, streamBytes, hostname: text['hostname'] ?? '', kernel: kernel.release}
}

async function readAt(handle: FileHandle, file: string, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length)
  const {bytesRead} = position < 0 ? {bytesRead: 0} : await handle.read(bytes, 0, length, position)
  if (bytesRead < length) throw new ImageError(file, 'it is cut short')
  return bytes
}
