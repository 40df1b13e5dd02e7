import type {DeviceNumber} from '../edge/device-number.js'
import type {BlockAccess, BlockReader} from '../edge/block-access.js'
import {bytes, toBytes, type Bytes, type Sectors} from './units.js'

/**
 * The store that a snapshot keeps on its slice, in chunks: a header, then areas, each a chunk of entries and, behind it, a
 * chunk of data for each entry. A merge copies from the last entry backwards, and empties it then, so there is never one
 * behind an empty one: drivers/md/dm-snap-persistent.c, struct disk_header, struct disk_exception, persistent_commit_merge().
 */

/** A chunk of the base of which the store has a newer copy. Numbers are those of chunks, from the start of each device. */
export interface Exception {
  readonly baseChunk: number
  readonly storeChunk: number
}

export interface ExceptionStore {
  readonly cow: DeviceNumber
  readonly chunk: Sectors
  readonly length: Bytes
}

const MAGIC = 0x70416e53
const ENTRY_BYTES = 16
const AT_STORE_CHUNK = 8

/** What is in the store and not yet merged, in the order in which it was first written. */
export async function* readExceptions({cow, chunk, length}: ExceptionStore, blocks: BlockAccess): AsyncGenerator<Exception> {
  await using store = await blocks.openForReading(cow)
  const chunkBytes = toBytes(chunk)
  if ((await store.read(0, chunkBytes)).readUInt32LE(0) !== MAGIC) return
  for (let area = 0; offsetOf(area, chunkBytes) + chunkBytes <= length; area += 1) {
    const entries = await readArea(store, area, chunkBytes)
    yield* entries
    if (entries.length < chunkBytes / ENTRY_BYTES) return
  }
}

/** Whether the store holds nothing any more, by its first entry, which is the last one to be emptied. `offset` is where it begins. */
export async function isStoreEmpty(
  {cow, chunk, offset = bytes(0)}: {readonly cow: DeviceNumber; readonly chunk: Sectors; readonly offset?: Bytes},
  blocks: BlockAccess,
): Promise<boolean> {
  await using store = await blocks.openForReading(cow)
  const first = await store.read(offset + offsetOf(0, toBytes(chunk)), ENTRY_BYTES)
  return first.readBigUInt64LE(AT_STORE_CHUNK) === 0n
}

function offsetOf(area: number, chunkBytes: Bytes): Bytes {
  return bytes((1 + area * (chunkBytes / ENTRY_BYTES + 1)) * chunkBytes)
}

async function readArea(store: BlockReader, area: number, chunkBytes: Bytes): Promise<readonly Exception[]> {
  const content = await store.read(offsetOf(area, chunkBytes), chunkBytes)
  const all = Array.from({length: chunkBytes / ENTRY_BYTES}, (_, index): Exception => ({
    baseChunk: Number(content.readBigUInt64LE(index * ENTRY_BYTES)),
    storeChunk: Number(content.readBigUInt64LE(index * ENTRY_BYTES + AT_STORE_CHUNK)),
  }))
  const end = all.findIndex(({storeChunk}) => storeChunk === 0)
  return end < 0 ? all : all.slice(0, end)
}
