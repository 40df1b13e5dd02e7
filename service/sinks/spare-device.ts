import {randomBytes} from 'node:crypto'
import {allocateAligned} from '../edge/aligned.js'
import type {Files} from '../edge/files.js'
import {ImageError, NoSpareDeviceError, SinkError, SpareNotSetUpError, SpareTooSmallError} from '../errors.js'
import type {Digest} from '../image/digest.js'
import {decodeMergeList, encodeMergeList, MERGE_LIST_BYTES, MERGE_LIST_OFFSET, type MergeList} from '../image/merge-list.js'
import {decodeHeader, type ImageHeader} from '../image/header.js'
import {readHeaderBytes} from '../image/read.js'
import type {Lines} from '../image/records.js'
import {decodeSuperblock, FORMAT_VERSION, formatVersionOf, hasMagic, NO_ID, SUPERBLOCK_BYTES, withoutImage, type ImageState, type Superblock} from '../image/superblock.js'
import {refuseForeignSignature} from './claim.js'
import {layOutDevice} from './layout.js'
import {openSignatures, type FindSignature} from './signature.js'
import type {BeginOptions, CowArea, CowSpace, ImageSession, ImageSink, MergeNotes, SinkSummary} from './sink.js'
import {attempt, openExclusive, openShared, readSuperblock, writeSuperblock} from './spare-access.js'
import {SpareSession} from './spare-session.js'

export interface SpareTools {
  readonly files: Files
  readonly digest: Digest
}

/** Where the signatures of others lie, and room for our superblock. */
const WIPED_BYTES = 2 ** 20

/**
 * The spare block device.
 *
 * - Every access is direct I/O: a page cache older than the snapshot would lie to the resumed system.
 * - Looking and setting up open it exclusively, so that nobody holds it. While an image is written the
 *   copy-on-write slices on it hold it exclusively for device-mapper, which keeps others away as well
 *   and would keep out a second exclusive open of our own.
 * - The superblock is read again before every change: nobody's sector is overwritten that is not ours.
 */
export class SpareDevice implements ImageSink, CowSpace, MergeNotes {
  readonly #path: string | null
  readonly #tools: SpareTools
  readonly #findSignature: FindSignature = openSignatures()

  /** `path` is null where no spare device is configured; then every call says so. */
  constructor(path: string | null, tools: SpareTools) {
    this.#path = path
    this.#tools = tools
  }

  get name(): string {
    return this.#path ?? 'spare device'
  }

  async inspect(): Promise<SinkSummary> {
    const path = this.#requirePath()
    const superblock = await this.#inspectSuperblock(path)
    await refuseForeignSignature(path, this.#findSignature)
    return {
      state: superblock.state,
      imageId: superblock.imageId,
      imageAreaBytes: superblock.imageAreaBytes,
    }
  }

  async readState(): Promise<ImageState> {
    return (await this.readSuperblock()).state
  }

  async readFigures(): Promise<Lines> {
    return (await this.readHeader()).figures
  }

  /** Of the image that is here, or went elsewhere. Throws ImageError when there is none. */
  async readHeader(): Promise<ImageHeader> {
    const path = this.#requirePath()
    await using source = await openShared(path)
    const {digest} = this.#tools
    const superblock = await readSuperblock(source, path, digest)
    return decodeHeader(await readHeaderBytes({source, superblock, digest, where: path}), path)
  }

  async readSuperblock(): Promise<Superblock> {
    const path = this.#requirePath()
    await using device = await openShared(path)
    return await readSuperblock(device, path, this.#tools.digest)
  }

  async area(): Promise<CowArea> {
    const path = this.#requirePath()
    const device = this.#tools.files.blockDevice(path)
    if (device === null) throw new NoSpareDeviceError(path)
    const superblock = await this.readSuperblock()
    return {device, offsetBytes: superblock.cowAreaOffset, bytes: superblock.cowAreaBytes}
  }

  async begin({imageId = newImageId()}: BeginOptions = {}): Promise<ImageSession> {
    return await this.#begin(imageId, 'valid')
  }

  /** For an image that goes elsewhere: when it is complete, only its header section is here. */
  async beginAway(imageId: string): Promise<ImageSession> {
    return await this.#begin(imageId, 'away')
  }

  async #begin(imageId: string, becomes: 'valid' | 'away'): Promise<ImageSession> {
    const path = this.#requirePath()
    const device = await openShared(path)
    try {
      const former = await readSuperblock(device, path, this.#tools.digest)
      const superblock = {...withoutImage(former, 'writing'), imageId}
      await writeSuperblock(device, path, superblock, this.#tools.digest)
      return new SpareSession({path, device, superblock, digest: this.#tools.digest, becomes})
    } catch (error) {
      await device[Symbol.asyncDispose]()
      throw error
    }
  }

  async mark(state: 'resumed' | 'aborted'): Promise<void> {
    await this.#change((superblock) => ({...superblock, state}))
  }

  async readMerges(): Promise<MergeList | null> {
    const path = this.#requirePath()
    await using device = await openShared(path)
    const {digest} = this.#tools
    if (!hasRoomForMerges(await readSuperblock(device, path, digest))) return null
    const bytes = await attempt('read', path, () => device.read(MERGE_LIST_OFFSET, MERGE_LIST_BYTES))
    return decodeMergeList(bytes, digest, path)
  }

  async recordMerges(list: MergeList): Promise<void> {
    await this.#writeMerges(encodeMergeList(list, this.#tools.digest))
  }

  async clearMerges(): Promise<void> {
    await this.#writeMerges(Buffer.alloc(MERGE_LIST_BYTES))
  }

  /** Forgets the image that may be there. */
  async invalidate(): Promise<void> {
    await this.#change((superblock) => withoutImage(superblock, 'empty'))
  }

  /** Throws what setUp() would, and changes nothing. */
  async refuseUnlessFree({isForced}: {readonly isForced: boolean}): Promise<void> {
    const path = this.#requirePath()
    await using device = await openExclusive(path, this.#tools.files)
    if (!isForced) await refuseForeignSignature(path, this.#findSignature)
    layOutDevice({device: path, deviceBytes: await device.sizeBytes(), deviceId: NO_ID})
  }

  /**
   * Claims the device: wipes its beginning and end and writes an empty superblock. Refuses a
   * device that is held, or has a signature of others, unless `isForced`.
   */
  async setUp({isForced}: {readonly isForced: boolean}): Promise<Superblock> {
    const path = this.#requirePath()
    await using device = await openExclusive(path, this.#tools.files)
    if (!isForced) await refuseForeignSignature(path, this.#findSignature)
    const deviceBytes = await device.sizeBytes()
    const superblock = layOutDevice({device: path, deviceBytes, deviceId: randomBytes(16).toString('hex')})
    await attempt('set up', path, async () => {
      await device.write(allocateAligned(WIPED_BYTES), superblock.deviceBytes - WIPED_BYTES)
      await device.write(allocateAligned(WIPED_BYTES), 0)
      await device.flush()
    })
    await writeSuperblock(device, path, superblock, this.#tools.digest)
    return superblock
  }

  #requirePath(): string {
    if (this.#path === null) throw new NoSpareDeviceError(null)
    return this.#path
  }

  async #inspectSuperblock(path: string): Promise<Superblock> {
    await using device = await openExclusive(path, this.#tools.files)
    const sector = await attempt('read', path, () => device.read(0, SUPERBLOCK_BYTES))
    if (!hasMagic(sector)) {
      await refuseForeignSignature(path, this.#findSignature)
      throw new SpareNotSetUpError(path)
    }
    const version = formatVersionOf(sector)
    if (version !== FORMAT_VERSION) {
      throw new ImageError(path, `its format is version ${version}, this program's ${FORMAT_VERSION}; 'permafrost setup ${path}' claims it anew`)
    }
    const superblock = decodeSuperblock(sector, this.#tools.digest, path)
    const availableBytes = await device.sizeBytes()
    if (availableBytes < superblock.deviceBytes) {
      throw new SpareTooSmallError(path, superblock.deviceBytes, availableBytes)
    }
    return superblock
  }

  async #writeMerges(bytes: Buffer): Promise<void> {
    const path = this.#requirePath()
    await using device = await openShared(path)
    if (!hasRoomForMerges(await readSuperblock(device, path, this.#tools.digest))) {
      throw new SinkError('list merges on', path, {cause: new Error('an area of it begins in the place of the list')})
    }
    await attempt('list merges on', path, async () => {
      await device.writePadded(bytes, MERGE_LIST_OFFSET)
      await device.flush()
    })
  }

  async #change(change: (superblock: Superblock) => Superblock): Promise<void> {
    const path = this.#requirePath()
    await using device = await openShared(path)
    const former = await readSuperblock(device, path, this.#tools.digest)
    await writeSuperblock(device, path, change(former), this.#tools.digest)
  }
}

export function newImageId(): string {
  return randomBytes(16).toString('hex')
}

/** `setup` leaves a MiB; a device laid out by others may not. */
function hasRoomForMerges({imageAreaOffset, cowAreaOffset}: Superblock): boolean {
  return Math.min(imageAreaOffset, cowAreaOffset) >= MERGE_LIST_OFFSET + MERGE_LIST_BYTES
}
