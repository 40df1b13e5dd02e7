import type {BlockSource, Place} from './place.js'

/**
 * The superblock and those of its copies that fit on the device: each commit, and each fsync by way of the log tree, ends
 * with writing all of them, with another generation or another root of the log (write_all_supers(), fs/btrfs/disk-io.c).
 * Everything else goes to where nothing was, so whoever was cut off before that has changed nothing.
 */
export async function findBtrfsPlaces(source: BlockSource): Promise<readonly Place[]> {
  const superblock = await readSuperblock(source)
  const deviceBytes = superblock.readBigUInt64LE(DEVICE_TOTAL_BYTES)
  return SUPERBLOCK_OFFSETS.filter((offset) => BigInt(offset + SUPERBLOCK_BYTES) < deviceBytes).map((offset) => ({
    offset,
    bytes: SUPERBLOCK_BYTES,
  }))
}

/** On how many devices the file system lies. */
export async function countBtrfsDevices(source: BlockSource): Promise<number> {
  return Number((await readSuperblock(source)).readBigUInt64LE(DEVICE_COUNT))
}

async function readSuperblock(source: BlockSource): Promise<Buffer> {
  const superblock = await source.read(SUPERBLOCK_OFFSETS[0], SUPERBLOCK_BYTES)
  if (superblock.toString('latin1', MAGIC, MAGIC + MAGIC_TEXT.length) !== MAGIC_TEXT) {
    throw new Error('a btrfs has no superblock in the usual place; mount it read-only or unmount it')
  }
  return superblock
}

/** btrfs_sb_offset(), fs/btrfs/disk-io.h. */
const SUPERBLOCK_OFFSETS = [2 ** 16, 2 ** 26, 2 ** 38] as const
const SUPERBLOCK_BYTES = 4096
// Of struct btrfs_super_block, include/uapi/linux/btrfs_tree.h; its dev_item begins at 0xc9.
const MAGIC = 0x40
const MAGIC_TEXT = '_BHRfS_M'
const DEVICE_COUNT = 0x88
const DEVICE_TOTAL_BYTES = 0xd1
