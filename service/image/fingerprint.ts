import {countBtrfsDevices, findBtrfsPlaces} from './btrfs.js'
import type {Digest} from './digest.js'
import {findFatPlaces} from './fat.js'
import type {BlockSource, Place} from './place.js'
import {REGION_BYTES_MAXIMUM, type Region} from './records.js'

/**
 * The blocks of a file system that any mount that may write would change. To be read past the page cache, after the snapshot:
 * before it, caches may hold newer blocks.
 */
export async function findFingerprintPlaces({source, fileSystemType, isReadOnly, deviceBytes}: FingerprintRequest): Promise<readonly Place[]> {
  const find = PLACES.get(fileSystemType)
  // Of FAT there may be too many places, which is no reason to refuse one that nobody writes to.
  return find === undefined || (isReadOnly && find === findFatPlaces) ? findEnds(deviceBytes) : find(source)
}

/**
 * The blocks of a swap device that whoever swaps to it, claims it anew or hibernates to it would change: the header, and the
 * beginnings of the clusters that are used first. On a disk that turns these are the first ones, on others those at multiples of
 * 64 MiB: setup_clusters() and SWAP_CLUSTER_COLS in mm/swapfile.c. A cluster has 1 or 2 MiB.
 */
export function findSwapPlaces(deviceBytes: number): readonly Place[] {
  const offsets = [...multiples(2 ** 20, SWAP_STRIDE_BYTES), ...multiples(SWAP_STRIDE_BYTES, SWAP_REACH_BYTES)]
  return [...new Set(offsets)].filter((offset) => offset < deviceBytes).map((offset) => ({offset, bytes: Math.min(SWAP_PLACE_BYTES, deviceBytes - offset)}))
}

const SWAP_STRIDE_BYTES = 64 * 2 ** 20
const SWAP_REACH_BYTES = 8 * 2 ** 30
const SWAP_PLACE_BYTES = 16 * 1024

/** From 0 on, below `end`. */
function multiples(step: number, end: number): readonly number[] {
  return Array.from({length: end / step}, (_, index) => index * step)
}

export async function digestPlaces(source: BlockSource, places: readonly Place[], digest: Digest): Promise<readonly Region[]> {
  const regions: Region[] = []
  for (const {offset, bytes} of splitLarge(places)) {
    regions.push({offset, bytes, digest: digest.ofBytes(await source.read(offset, bytes))})
  }
  return regions
}

/** Whether a mount of this type, writable, leaves traces in known places. */
export function canFingerprint(fileSystemType: string): boolean {
  return PLACES.has(fileSystemType)
}

/**
 * What of the file system lies on another device, which neither its snapshot nor its fingerprint covers; null where
 * all of it is on this one.
 */
export async function findElsewhere({source, fileSystemType}: Pick<FingerprintRequest, 'source' | 'fileSystemType'>): Promise<string | null> {
  switch (fileSystemType) {
    case 'ext3':
    case 'ext4':
      return await hasExtJournalElsewhere(source) ? 'journal' : null
    case 'xfs': {
      const superblock = await source.read(0, 512)
      if (superblock.readBigUInt64BE(XFS_LOG_START) === 0n) return 'log'
      return superblock.readBigUInt64BE(XFS_REALTIME_BLOCKS) === 0n ? null : 'realtime section'
    }
    case 'btrfs':
      return await countBtrfsDevices(source) === 1 ? null : 'other part'
    default:
      return null
  }
}

export interface FingerprintRequest {
  readonly source: BlockSource
  readonly fileSystemType: string
  /** Then it is for others alone to change it, and any type will do. */
  readonly isReadOnly: boolean
  readonly deviceBytes: number
}

type FindPlaces = (source: BlockSource) => Promise<readonly Place[]>

const START: Place = {offset: 0, bytes: 4096}

const PLACES: ReadonlyMap<string, FindPlaces> = new Map([
  ['ext2', findExtPlaces],
  ['ext3', findExtPlaces],
  ['ext4', findExtPlaces],
  ['xfs', findXfsPlaces],
  ['btrfs', findBtrfsPlaces],
  ['vfat', findFatPlaces],
  ['msdos', findFatPlaces],
])

/** Where file systems have their superblocks, headers and checkpoints, the copies of these, and what a container puts at its end. */
function findEnds(deviceBytes: number): readonly Place[] {
  const bytes = Math.min(END_BYTES, deviceBytes)
  const last = Math.max(bytes, deviceBytes - END_BYTES)
  return [{offset: 0, bytes}, {offset: last, bytes: deviceBytes - last}].filter((place) => place.bytes > 0)
}

/** f2fs has its checkpoints behind the second MiB. */
const END_BYTES = 4 * 2 ** 20

function splitLarge(places: readonly Place[]): readonly Place[] {
  return places.flatMap(({offset, bytes}) =>
    Array.from({length: Math.ceil(bytes / REGION_BYTES_MAXIMUM)}, (_, index) => ({
      offset: offset + index * REGION_BYTES_MAXIMUM,
      bytes: Math.min(REGION_BYTES_MAXIMUM, bytes - index * REGION_BYTES_MAXIMUM),
    })),
  )
}

/**
 * The superblock (mount count and time change with every mount), and the journal's, whose
 * inode ext4 keeps a copy of in its superblock: s_jnl_blocks, fs/ext4/ext4.h.
 */
async function findExtPlaces(source: BlockSource): Promise<readonly Place[]> {
  const superblock = await source.read(1024, 1024)
  const blockBytes = 1024 << superblock.readUInt32LE(0x18)
  const journal = findExtJournal(superblock)
  return journal === null ? [START] : [START, {offset: journal * blockBytes, bytes: Math.min(blockBytes, 4096)}]
}

/** EXT4_FEATURE_COMPAT_HAS_JOURNAL, and no inode here that has it: fs/ext4/ext4.h. */
async function hasExtJournalElsewhere(source: BlockSource): Promise<boolean> {
  const superblock = await source.read(1024, 1024)
  const hasJournal = (superblock.readUInt32LE(0x5c) & 0x4) !== 0
  return hasJournal && superblock.readUInt32LE(0xe0) === 0
}

/** The first block of the journal, or null when there is none inside or its place is not backed up. */
function findExtJournal(superblock: Buffer): number | null {
  const journalInode = superblock.readUInt32LE(0xe0)
  const isBackedUp = superblock.readUInt8(0xfd) === 1
  if (journalInode === 0 || !isBackedUp) return null
  const blocks = superblock.subarray(0x10c, 0x10c + 60)
  const isExtentTree = blocks.readUInt16LE(0) === 0xf30a
  if (!isExtentTree) return blocks.readUInt32LE(0)
  const depth = blocks.readUInt16LE(6)
  if (depth !== 0 || blocks.readUInt16LE(2) === 0) return null
  return blocks.readUInt16LE(18) * 2 ** 32 + blocks.readUInt32LE(20)
}

/**
 * The headers of the first allocation group, and the log around its head: whoever mounts to write writes there next, and
 * may be cut off before the superblock changes. The log is a ring, so behind its end comes its beginning.
 */
async function findXfsPlaces(source: BlockSource): Promise<readonly Place[]> {
  const superblock = await source.read(0, 512)
  const blockBytes = superblock.readUInt32BE(4)
  const groupHeaders = {offset: 0, bytes: superblock.readUInt16BE(102) * 4}
  const start = superblock.readBigUInt64BE(XFS_LOG_START)
  if (start === 0n) return [groupHeaders]
  const groupBlocks = superblock.readUInt32BE(84)
  const groupShift = BigInt(superblock.readUInt8(124))
  const group = Number(start >> groupShift)
  const block = Number(start & ((1n << groupShift) - 1n))
  const log = {offset: (group * groupBlocks + block) * blockBytes, bytes: superblock.readUInt32BE(96) * blockBytes}
  const head = await findXfsLogHead(source, log)
  const from = Math.max(0, head - XFS_LOG_REACH_BYTES)
  const to = Math.min(log.bytes, head + XFS_LOG_REACH_BYTES)
  const beginning = {offset: log.offset, bytes: Math.min(from, XFS_LOG_REACH_BYTES)}
  return [groupHeaders, ...(beginning.bytes === 0 ? [] : [beginning]), {offset: log.offset + from, bytes: to - from}]
}

// Of struct xfs_dsb, fs/xfs/libxfs/xfs_format.h.
const XFS_REALTIME_BLOCKS = 16
const XFS_LOG_START = 48

/** More than the largest single write to a log, 256 KiB, whatever is under way when it ends. */
const XFS_LOG_REACH_BYTES = 2 ** 20
const XFS_LOG_BLOCK_BYTES = 512
const XFS_LOG_RECORD_MAGIC = 0xfeedbabe

/**
 * Where the next record goes, in bytes from the start of the log: the first block whose cycle is that of the last one, as
 * xlog_find_head() in fs/xfs/xfs_log_recover.c looks for it. In a log that never wrapped that cycle is 0.
 */
export async function findXfsLogHead(source: BlockSource, log: {readonly offset: number; readonly bytes: number}): Promise<number> {
  const cycleOf = async (index: number): Promise<number> => {
    const block = await source.read(log.offset + index * XFS_LOG_BLOCK_BYTES, 8)
    return block.readUInt32BE(0) === XFS_LOG_RECORD_MAGIC ? block.readUInt32BE(4) : block.readUInt32BE(0)
  }
  let end = Math.floor(log.bytes / XFS_LOG_BLOCK_BYTES) - 1
  const last = await cycleOf(end)
  if ((await cycleOf(0)) === last) return 0
  let start = 0
  while (end - start > 1) {
    const middle = Math.floor((start + end) / 2)
    if ((await cycleOf(middle)) === last) end = middle
    else start = middle
  }
  return end * XFS_LOG_BLOCK_BYTES
}
