import type {BlockSource, Place} from './place.js'

/**
 * What whoever writes to a FAT file system changes: boot sector and allocation tables, and every directory, since each file's
 * entry has its size, its time and its first cluster. There is no journal, and the mark "in use" is set already while the
 * file system is mounted for the snapshot. Layout: fs/fat/inode.c and include/uapi/linux/msdos_fs.h.
 */
export async function findFatPlaces(source: BlockSource): Promise<readonly Place[]> {
  const fat = readGeometry(await source.read(0, 512))
  const tables = {offset: 0, bytes: Math.max(BLOCK_BYTES, Math.min(TABLES_BYTES_MAXIMUM, fat.rootOffset))}
  const places: Place[] = []
  const queue = [{offset: fat.rootOffset, bytes: fat.rootBytes}]
  if (fat.rootCluster !== 0) queue.splice(0, 1, ...(await findClusters(source, fat, fat.rootCluster)))
  const seen = new Set<number>([fat.rootCluster])
  for (const place of queue) {
    if (place.bytes === 0) continue
    places.push(place)
    if (places.length > PLACES_MAXIMUM) throw new Error(`a FAT file system has directories in more than ${PLACES_MAXIMUM} places; unmount it or mount it read-only`)
    for (const cluster of findDirectories(await source.read(place.offset, place.bytes), fat)) {
      if (seen.has(cluster)) continue
      seen.add(cluster)
      queue.push(...(await findClusters(source, fat, cluster)))
    }
  }
  return [tables, ...places]
}

/** Of larger tables the first part is looked at; the count of free clusters before them changes with the rest. */
const TABLES_BYTES_MAXIMUM = 32 * 2 ** 20
const BLOCK_BYTES = 4096
/** An image has room for 1024 regions a file system. */
const PLACES_MAXIMUM = 1000

interface Geometry {
  readonly tableOffset: number
  readonly rootOffset: number
  /** Of the directory behind the tables; 0 where the root lies in clusters. */
  readonly rootBytes: number
  readonly rootCluster: number
  readonly dataOffset: number
  readonly clusterBytes: number
  readonly clusterCount: number
  readonly entryBits: 12 | 16 | 32
}

function readGeometry(boot: Buffer): Geometry {
  const sectorBytes = boot.readUInt16LE(11)
  const clusterBytes = boot.readUInt8(13) * sectorBytes
  const isLarge = boot.readUInt16LE(22) === 0
  const tableBytes = (isLarge ? boot.readUInt32LE(36) : boot.readUInt16LE(22)) * sectorBytes
  const tableOffset = boot.readUInt16LE(14) * sectorBytes
  const rootOffset = tableOffset + tableBytes * boot.readUInt8(16)
  const rootBytes = boot.readUInt16LE(17) * ENTRY_BYTES
  const dataOffset = rootOffset + Math.ceil(rootBytes / Math.max(1, sectorBytes)) * sectorBytes
  const totalBytes = (boot.readUInt16LE(19) === 0 ? boot.readUInt32LE(32) : boot.readUInt16LE(19)) * sectorBytes
  if (clusterBytes === 0 || totalBytes <= dataOffset) throw new Error('the boot sector of a FAT file system makes no sense')
  const clusterCount = Math.floor((totalBytes - dataOffset) / clusterBytes)
  const rootCluster = isLarge ? boot.readUInt32LE(44) : 0
  const entryBits = isLarge ? 32 : clusterCount > FAT12_CLUSTERS_MAXIMUM ? 16 : 12
  return {tableOffset, rootOffset, rootBytes, rootCluster, dataOffset, clusterBytes, clusterCount, entryBits}
}

const FAT12_CLUSTERS_MAXIMUM = 4084
const ENTRY_BYTES = 32
const ATTRIBUTES = 11
const IS_DIRECTORY = 0x10
const IS_LABEL = 0x08
const DELETED = 0xe5
const DOT = 0x2e

/** First clusters of the directories named in a piece of a directory; long names have the mark of a label, too. */
function findDirectories(entries: Buffer, {entryBits}: Geometry): readonly number[] {
  const clusters: number[] = []
  for (let at = 0; at + ENTRY_BYTES <= entries.length; at += ENTRY_BYTES) {
    const first = entries.readUInt8(at)
    if (first === 0) break
    const attributes = entries.readUInt8(at + ATTRIBUTES)
    if (first === DELETED || first === DOT || (attributes & IS_LABEL) !== 0 || (attributes & IS_DIRECTORY) === 0) continue
    const high = entryBits === 32 ? entries.readUInt16LE(at + 20) : 0
    clusters.push(high * 2 ** 16 + entries.readUInt16LE(at + 26))
  }
  return clusters
}

/** The chain that begins with `cluster`, neighbours in one piece. */
async function findClusters(source: BlockSource, fat: Geometry, cluster: number): Promise<Place[]> {
  const places: Place[] = []
  let left = fat.clusterCount
  for (let at = cluster; at >= 2 && at < fat.clusterCount + 2; at = await findNext(source, fat, at)) {
    if (left-- === 0) throw new Error('a chain of a FAT file system has no end')
    const offset = fat.dataOffset + (at - 2) * fat.clusterBytes
    const last = places.at(-1)
    if (last !== undefined && last.offset + last.bytes === offset) places.splice(-1, 1, {offset: last.offset, bytes: last.bytes + fat.clusterBytes})
    else places.push({offset, bytes: fat.clusterBytes})
  }
  return places
}

/** Ends of chains are numbers that no cluster has. */
async function findNext(source: BlockSource, {tableOffset, entryBits}: Geometry, cluster: number): Promise<number> {
  const bytes = await source.read(tableOffset + Math.floor((cluster * entryBits) / 8), entryBits === 32 ? 4 : 2)
  if (entryBits === 32) return bytes.readUInt32LE(0) & 0x0fffffff
  const value = bytes.readUInt16LE(0)
  if (entryBits === 16) return value
  return cluster % 2 === 0 ? value & 0xfff : value >> 4
}
