import {randomBytes} from 'node:crypto'
import {allocateAligned, DIRECT_IO_ALIGNMENT} from '../edge/aligned.js'
import type {Files} from '../edge/files.js'
import {ImageError, NoSpareDeviceError, SinkError, SpareInUseError, SpareNotSetUpError, SpareTooSmallError} from '../errors.js'
import type {Digest} from '../image/digest.js'
import {
  decodeMergeLists, encodeMergeList, MERGE_SLOT_BYTES, MERGE_SLOTS, MERGE_SLOTS_BYTES, MERGE_SLOTS_OFFSET, type MergeList, type StoredMergeList,
} from '../image/merge-list.js'
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

  async readMerges(): Promise<StoredMergeList | null> {
    const path = this.#requirePath()
    await using device = await openShared(path)
    const {digest} = this.#tools
    if (!hasRoomForMerges(await readSuperblock(device, path, digest))) return null
    const bytes = await attempt('read', path, () => device.read(MERGE_SLOTS_OFFSET, MERGE_SLOTS_BYTES))
    return decodeMergeLists(bytes, digest, path)
  }

  /** The last list stays whole until this one is, and goes then: nothing that is struck off comes back. */
  async recordMerges(list: MergeList): Promise<void> {
    const last = await this.readMerges()
    const slot = last === null ? 0 : otherSlot(last.slot)
    const bytes = encodeMergeList(list, (last?.sequence ?? 0) + 1, this.#tools.digest)
    await this.#writeMerges(bytes, slot)
    await this.#writeMerges(NO_MERGES, otherSlot(slot))
  }

  /** An older list, should there be one, goes first: it must not be left to be the last one. */
  async clearMerges(): Promise<void> {
    const slot = (await this.readMerges())?.slot ?? 0
    await this.#writeMerges(NO_MERGES, otherSlot(slot))
    await this.#writeMerges(NO_MERGES, slot)
  }

  /** Throws SpareInUseError where a file system still lacks what is on it. */
  async refuseWhileMergesWait(): Promise<void> {
    const path = this.#requirePath()
    const [waiting] = (await this.readMerges())?.merges ?? []
    if (waiting === undefined) return
    throw new SpareInUseError(path, `the file system on '${waiting.path}' lacks what is still on it: attach both and boot again; 'permafrost setup --force ${path}' gives it up`)
  }

  /** Forgets the image that may be there. */
  async invalidate(): Promise<void> {
    await this.#change((superblock) => withoutImage(superblock, 'empty'))
  }

  /** Throws what setUp() would, and changes nothing. */
  async refuseUnlessFree({isForced}: {readonly isForced: boolean}): Promise<void> {
    const path = this.#requirePath()
    await using device = await openExclusive(path, this.#tools.files)
    if (!isForced) await this.#refuseLoss(path)
    layOutDevice({device: path, deviceBytes: await device.sizeBytes(), deviceId: NO_ID})
  }

  /**
   * Claims the device: wipes its beginning and end and writes an empty superblock. Refuses a device that is held, and,
   * unless `isForced`, one that has a signature of others or something that a file system still lacks.
   */
  async setUp({isForced}: {readonly isForced: boolean}): Promise<Superblock> {
    const path = this.#requirePath()
    await using device = await openExclusive(path, this.#tools.files)
    if (!isForced) await this.#refuseLoss(path)
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

  /** Whatever there is of others, or of a hibernation that was not rolled back to its end. */
  async #refuseLoss(path: string): Promise<void> {
    await refuseForeignSignature(path, this.#findSignature)
    if (await this.#isOurs()) await this.refuseWhileMergesWait()
  }

  async #isOurs(): Promise<boolean> {
    try {
      await this.readSuperblock()
      return true
    } catch (error) {
      if (error instanceof ImageError) return false
      throw error
    }
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

  async #writeMerges(bytes: Buffer, slot: number): Promise<void> {
    const path = this.#requirePath()
    await using device = await openShared(path)
    if (!hasRoomForMerges(await readSuperblock(device, path, this.#tools.digest))) {
      throw new SinkError('list merges on', path, {cause: new Error('an area of it begins in the place of the list')})
    }
    await attempt('list merges on', path, async () => {
      await device.writePadded(bytes, MERGE_SLOTS_OFFSET + slot * MERGE_SLOT_BYTES)
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

function otherSlot(slot: number): number {
  return (slot + 1) % MERGE_SLOTS
}

/** Over the beginning of a list, which then is none. */
const NO_MERGES = Buffer.alloc(DIRECT_IO_ALIGNMENT)

/** `setup` leaves a MiB; a device laid out by others may not. */
function hasRoomForMerges({imageAreaOffset, cowAreaOffset}: Superblock): boolean {
  return Math.min(imageAreaOffset, cowAreaOffset) >= MERGE_SLOTS_OFFSET + MERGE_SLOTS_BYTES
}
