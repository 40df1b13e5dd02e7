import {fstatSync} from 'node:fs'
import {openFiles} from '../edge/files.js'
import {inputFrom, outputTo, type ByteInput} from '../edge/pipe.js'
import {ImageError, SpareInUseError, UsageError} from '../errors.js'
import {loadDigest} from '../image/digest.js'
import {loadLz4} from '../image/lz4.js'
import {readHeaderBytes} from '../image/read.js'
import {receiveImage, type PieceTarget} from '../image/stream-read.js'
import {decodeSuperblock, SUPERBLOCK_BYTES, type Superblock} from '../image/superblock.js'
import {verifyImage} from '../image/verify.js'
import type {ImageSession} from '../sinks/sink.js'
import {openExclusive} from '../sinks/spare-access.js'
import type {SpareDevice} from '../sinks/spare-device.js'
import {StreamSession} from '../sinks/stream-session.js'
import {isStream, openDirectly, openToRead, readStart} from './image-verify.js'

export interface CopyRequest {
  /** A stream in a file or, as '-', on standard input; or a device with an image. */
  readonly source: string
  /** A device that was set up, or '-' for a stream to standard output. */
  readonly target: string
  readonly openSpare: (device: string) => SpareDevice
}

const STANDARD_OUTPUT = 1
const PIECE_BYTES = 2 ** 20

/** From a device into a stream, or from a stream onto a device; gives the superblock of what was copied. */
export async function copyImage(request: CopyRequest, signal: AbortSignal): Promise<Superblock> {
  const {source, target} = request
  if (source === '-') return await receive({input: inputFrom(0), where: 'standard input'}, request, signal)
  await using file = await openToRead(source)
  if (await isStream(file, source)) return await receive({input: inputFrom(file.fd), where: source}, request, signal)
  if (target !== '-') throw new UsageError(`Cannot copy '${source}' to '${target}': it is no image stream; 'permafrost image copy ${source} -' makes one of it`)
  return await send(source, decodeSuperblock(await readStart(file, source, SUPERBLOCK_BYTES), loadDigest(), source), signal)
}

/** Everything is read and checked before the first byte is sent: nobody gets a stream of a damaged image. */
async function send(source: string, superblock: Superblock, signal: AbortSignal): Promise<Superblock> {
  if (fstatSync(STANDARD_OUTPUT).isCharacterDevice()) throw new UsageError(`Cannot copy '${source}' to a terminal or another character device: redirect it, or pipe it through a command`)
  const digest = loadDigest()
  await using device = await openDirectly(source)
  if (superblock.state !== 'valid') throw new ImageError(source, `its state is '${superblock.state}', so there is none to copy`)
  const job = {source: device, superblock, digest, lz4: loadLz4(), where: source}
  const {chunks} = await verifyImage(job, signal)
  const areaBytes = superblock.headerOffset - superblock.imageAreaOffset
  if (chunks.some(({offset, storedBytes}) => offset + storedBytes > areaBytes)) throw new ImageError(source, 'it has chunks behind its header section')
  const {imageId, streamBytes, storedBytes, createdUnixSeconds} = superblock
  const opening = {imageId, streamBytes}
  await using session = new StreamSession({output: outputTo(STANDARD_OUTPUT), digest, opening, name: 'standard output'})
  while (areaBytes > session.reservedBytes) {
    signal.throwIfAborted()
    const bytes = Math.min(PIECE_BYTES, areaBytes - session.reservedBytes)
    const offset = session.reserve(bytes)
    await session.write(await device.read(superblock.imageAreaOffset + offset, bytes), offset)
  }
  await session.complete({header: await readHeaderBytes(job), storedBytes, streamBytes, createdUnixSeconds})
  return superblock
}

/** The device is valid only once all of it has come, was flushed, and reads back right. */
async function receive(
  stream: {readonly input: ByteInput; readonly where: string},
  {target, openSpare}: CopyRequest,
  signal: AbortSignal,
): Promise<Superblock> {
  if (target === '-') throw new UsageError('Cannot copy a stream to a stream: cat(1) does')
  const spare = openSpare(target)
  if ((await spare.inspect()).state === 'valid') {
    throw new SpareInUseError(target, `it has an image that the next boot resumes; 'permafrost image discard ${target}' forgets it`)
  }
  await spare.refuseWhileMergesWait()
  // Whoever hibernates meanwhile finds it held.
  await using _held = await openExclusive(target, openFiles())
  const arrival = new Arrival(spare)
  try {
    const {superblock, headerBytes} = await receiveImage({...stream, digest: loadDigest()}, arrival, signal)
    const {storedBytes, streamBytes, createdUnixSeconds} = superblock
    await arrival.session().complete({header: headerBytes, storedBytes, streamBytes, createdUnixSeconds})
    await verifyOnDevice(spare, target, signal)
    return superblock
  } catch (error) {
    if (arrival.hasBegun) await spare.mark('aborted')
    throw error
  } finally {
    await arrival[Symbol.asyncDispose]()
  }
}

async function verifyOnDevice(spare: SpareDevice, device: string, signal: AbortSignal): Promise<void> {
  await using source = await openDirectly(device)
  await verifyImage({source, superblock: await spare.readSuperblock(), digest: loadDigest(), lz4: loadLz4(), where: device}, signal)
}

/** Begins on the device only when the start of a stream has come. */
class Arrival implements PieceTarget, AsyncDisposable {
  readonly #spare: SpareDevice
  #session: ImageSession | null = null

  constructor(spare: SpareDevice) {
    this.#spare = spare
  }

  get hasBegun(): boolean {
    return this.#session !== null
  }

  session(): ImageSession {
    if (this.#session === null) throw new Error('the stream has not begun')
    return this.#session
  }

  async open({imageId}: {readonly imageId: string}): Promise<void> {
    this.#session = await this.#spare.begin({imageId})
  }

  async take(bytes: Buffer): Promise<void> {
    const session = this.session()
    await session.write(bytes, session.reserve(bytes.length))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session?.[Symbol.asyncDispose]()
  }
}
