import {readExceptions} from '../dm/exception-store.js'
import type {MergeNeed} from '../dm/merges.js'
import {SECTOR_BYTES, toBytes} from '../dm/units.js'
import type {BlockAccess} from '../edge/block-access.js'
import type {Digest} from '../image/digest.js'
import {SAMPLE_SECTORS, SAMPLES_MAXIMUM, type BaseSample} from '../image/merge-list.js'

/**
 * Looks at blocks of the base that will be merged last, as they are before the slice is merged: what is written first after a
 * snapshot is what every mount writes to, superblock and journal. Superblocks are looked at even where the slice does not have
 * them yet, since it may have when the power goes.
 */
export async function sampleBase({base, store, baseBytes}: Pick<MergeNeed, 'base' | 'store' | 'baseBytes'>, {blocks, digest}: SampleTools): Promise<readonly BaseSample[]> {
  const chunkBytes = toBytes(store.chunk)
  const chunks = new Set(SUPERBLOCK_OFFSETS.map((offset) => Math.floor(offset / chunkBytes)))
  for await (const {baseChunk} of readExceptions(store, blocks)) {
    if (chunks.size === SAMPLES_MAXIMUM) break
    chunks.add(baseChunk)
  }
  // What a disk has in its cache only could be older after a power cut.
  await blocks.flush(base)
  await using reader = await blocks.openForReading(base)
  const samples: BaseSample[] = []
  for (const chunk of chunks) {
    if ((chunk + 1) * chunkBytes > baseBytes) continue
    samples.push({chunk, digests: digestSectors(await reader.read(chunk * chunkBytes, SAMPLE_BYTES), digest)})
  }
  return samples
}

export interface SampleTools {
  readonly blocks: BlockAccess
  readonly digest: Digest
}

/** Of ext4, xfs and FAT, and of btrfs. */
const SUPERBLOCK_OFFSETS = [0, 64 * 1024]
const SAMPLE_BYTES = SAMPLE_SECTORS * SECTOR_BYTES

function digestSectors(content: Buffer, digest: Digest): readonly number[] {
  return Array.from({length: SAMPLE_SECTORS}, (_, index) => {
    const sector = content.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES)
    return Number(digest.ofBytes(sector) & 0xffffffffn)
  })
}
