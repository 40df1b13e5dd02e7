import {open, type FileHandle} from 'node:fs/promises'
import {DirectDevice} from '../edge/direct-device.js'
import {inputFrom} from '../edge/pipe.js'
import {ImageError, SinkError} from '../errors.js'
import {loadDigest, type Digest} from '../image/digest.js'
import {type ImageHeader} from '../image/header.js'
import {loadLz4} from '../image/lz4.js'
import {hasStreamMagic, OPENING_BYTES} from '../image/stream-form.js'
import {receiveImage, type PieceTarget} from '../image/stream-read.js'
import {decodeSuperblock, SUPERBLOCK_BYTES, type Superblock} from '../image/superblock.js'
import {verifyImage} from '../image/verify.js'

export interface Verified {
  /** A device or file, '-' for standard input. */
  readonly source: string
  readonly isStream: boolean
  readonly superblock: Superblock
  readonly contents: Readonly<Record<string, unknown>>
}

/** Reads all of an image, wherever it is; a wrong bit anywhere throws ImageError. */
export async function verify(source: string, signal: AbortSignal): Promise<Verified> {
  const digest = loadDigest()
  if (source === '-') return await verifyStream(0, 'standard input', digest, signal)
  await using file = await openToRead(source)
  if (await isStream(file, source)) return await verifyStream(file.fd, source, digest, signal)
  await using device = await openDirectly(source)
  const superblock = decodeSuperblock(await readStart(file, source, SUPERBLOCK_BYTES), digest, source)
  if ((await device.sizeBytes()) < superblock.deviceBytes) {
    throw new ImageError(source, `it is shorter than the ${superblock.deviceBytes} bytes of its device`)
  }
  if (superblock.state === 'away') throw new ImageError(source, 'its image went elsewhere as a stream; verify that')
  const header = await verifyImage({source: device, superblock, digest, lz4: loadLz4(), where: source}, signal)
  return {source, isStream: false, superblock, contents: describeHeader(header)}
}

export async function openToRead(path: string): Promise<FileHandle & AsyncDisposable> {
  const file = await saying(path, () => open(path))
  return Object.assign(file, {[Symbol.asyncDispose]: () => file.close()})
}

export async function openDirectly(path: string): Promise<DirectDevice> {
  return await saying(path, () => DirectDevice.openForReading(path))
}

async function saying<Value>(path: string, act: () => Promise<Value>): Promise<Value> {
  try {
    return await act()
  } catch (cause) {
    throw new SinkError('read', path, {cause})
  }
}

/** Told by its first bytes; the position of the file stays where it is. */
export async function isStream(file: FileHandle, path: string): Promise<boolean> {
  return hasStreamMagic(await readStart(file, path, OPENING_BYTES))
}

export async function readStart(file: FileHandle, path: string, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length)
  const {bytesRead} = await saying(path, () => file.read(bytes, 0, length, 0))
  return bytes.subarray(0, bytesRead)
}

async function verifyStream(fd: number, where: string, digest: Digest, signal: AbortSignal): Promise<Verified> {
  const {superblock, header} = await receiveImage({input: inputFrom(fd), digest, where}, NOWHERE, signal)
  return {source: where, isStream: true, superblock, contents: describeHeader(header)}
}

const NOWHERE: PieceTarget = {open: async () => {}, take: async () => {}}

function describeHeader({kernel, chunks, fileSystems}: ImageHeader): Readonly<Record<string, unknown>> {
  return {kernel: kernel.release, chunks: chunks.length, fileSystems: fileSystems.map(({path}) => path).join(' ')}
}
