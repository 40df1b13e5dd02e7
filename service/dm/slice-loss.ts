import type {BlockAccess} from '../edge/block-access.js'
import {DeviceMapperError} from '../errors.js'
import type {DeviceMapper} from './device-mapper.js'
import {isStoreEmpty} from './exception-store.js'
import {baseName} from './names.js'
import {parseSliceStatus} from './slice.js'
import {isSnapshotTarget, type SnapshotTarget} from './targets.js'
import {toBytes} from './units.js'

/** What has gone with a slice that cannot be read any more, because the spare device has failed. */
export type SliceLoss =
  /** It can be read. */
  | {readonly kind: 'none'}
  /** Nothing had been written to it. */
  | {readonly kind: 'nothing'}
  /** Its only chunk, of which the kernel has a copy. */
  | {readonly kind: 'superblock'; readonly content: Buffer}
  /** What nobody has any more. */
  | {readonly kind: 'written'; readonly why: string}

export interface SliceLossTools {
  readonly dm: DeviceMapper
  readonly blocks: BlockAccess
}

/** Of a live device that runs on a snapshot. Throws when it is not the device that keeps the slice from being read. */
export async function judgeSlice(live: string, {dm, blocks}: SliceLossTools): Promise<SliceLoss> {
  const before = parseSliceStatus(await dm.status(live))
  if (before.kind === 'broken') return {kind: 'written', why: `its state is '${before.status}'`}
  const snapshot = await snapshotOf(live, dm)
  if (await isReadable(snapshot, blocks)) return {kind: 'none'}
  const lost = {kind: 'written', why: 'its slice cannot be read'} as const
  // Reading may have taken a while, and a device that comes back takes writes again.
  const slice = parseSliceStatus(await dm.status(live))
  if (slice.kind !== 'usable') return lost
  if (slice.used === slice.bookkeeping) return {kind: 'nothing'}
  if (slice.used !== slice.bookkeeping + toBytes(snapshot.chunk)) return lost
  const content = await findSuperblock(live, snapshot, {dm, blocks})
  return content === null ? lost : {kind: 'superblock', content}
}

/**
 * Puts a live device on its own table again without a merge. A superblock that was written meanwhile goes to the disk first:
 * without it the next boot would not look into the journal.
 */
export async function goBackWithout(live: string, loss: Extract<SliceLoss, {kind: 'nothing' | 'superblock'}>, {dm, blocks}: SliceLossTools): Promise<void> {
  const base = baseName(live)
  const table = await dm.table(base)
  if (loss.kind === 'superblock') {
    await dm.load(base, table)
    await dm.resume(base)
    await blocks.writeStart((await snapshotOf(live, dm)).origin, loss.content)
  }
  await dm.load(live, table)
  await dm.resume(live)
}

/** The snapshot, or merge, that a live device runs on; throws DeviceMapperError where there is none. */
export async function snapshotOf(live: string, dm: DeviceMapper): Promise<SnapshotTarget> {
  const snapshot = (await dm.table(live)).find(isSnapshotTarget)
  if (snapshot === undefined) throw new DeviceMapperError('merge', live, 'it is on no snapshot')
  return snapshot
}

/** What block devices that fail, or have gone, answer: blk_status_to_errno() in block/blk-core.c. */
const DEVICE_ERRORS: readonly unknown[] = ['EIO', 'ENXIO', 'ENODEV', 'ENODATA', 'EREMOTEIO', 'ENOLINK', 'ETIMEDOUT', 'EILSEQ', 'EBADE']

async function isReadable(snapshot: SnapshotTarget, blocks: BlockAccess): Promise<boolean> {
  try {
    await isStoreEmpty(snapshot, blocks)
    return true
  } catch (error) {
    if (error instanceof Error && DEVICE_ERRORS.includes(Reflect.get(error, 'code'))) return false
    throw error
  }
}

/**
 * ext4 writes its superblock, with the mark that its journal is in use, when it is thawed after the snapshot: ext4_unfreeze()
 * in fs/ext4/super.c. So when one chunk was written it is the first, and the page cache of the live device has it, since the
 * file system keeps that buffer. Null for every other file system.
 */
async function findSuperblock(live: string, {origin, chunk}: SnapshotTarget, {dm, blocks}: SliceLossTools): Promise<Buffer | null> {
  const device = (await dm.list()).find(({name}) => name === live)
  if (device === undefined) return null
  try {
    await using base = await blocks.openForReading(origin)
    const before = await base.read(0, toBytes(chunk))
    const now = await blocks.readCachedStart(device.number, toBytes(chunk))
    return isExt(before) && isExt(now) && uuidOf(before).equals(uuidOf(now)) && isJournalInUse(now) ? now : null
  } catch {
    return null
  }
}

// struct ext4_super_block in fs/ext4/ext4.h, which lies 1024 bytes behind the start of the device.
const SUPERBLOCK = 1024

function isExt(chunk: Buffer): boolean {
  return chunk.readUInt16LE(SUPERBLOCK + 0x38) === 0xef53
}

function uuidOf(chunk: Buffer): Buffer {
  return chunk.subarray(SUPERBLOCK + 0x68, SUPERBLOCK + 0x78)
}

/** EXT4_FEATURE_INCOMPAT_RECOVER */
function isJournalInUse(chunk: Buffer): boolean {
  return (chunk.readUInt32LE(SUPERBLOCK + 0x60) & 0x4) !== 0
}
