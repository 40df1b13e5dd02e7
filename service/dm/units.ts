/** What device-mapper counts in, whatever the blocks of the disk. */
export const SECTOR_BYTES = 512

export type Sectors = number & {readonly __unit: 'sectors'}
export type Bytes = number & {readonly __unit: 'bytes'}

/** Throws RangeError for what is no count: negative, broken, or too large to be exact. */
export function sectors(count: number): Sectors {
  refuseNoCount(count, 'sectors')
  return count as Sectors
}

export function bytes(count: number): Bytes {
  refuseNoCount(count, 'bytes')
  return count as Bytes
}

/** Rounds down: a sector begun is not there. */
export function toSectors(size: Bytes): Sectors {
  return sectors(Math.floor(size / SECTOR_BYTES))
}

export function toBytes(length: Sectors): Bytes {
  return bytes(length * SECTOR_BYTES)
}

function refuseNoCount(count: number, unit: string): void {
  if (!Number.isSafeInteger(count) || count < 0) throw new RangeError(`Cannot count '${count}' ${unit}: it is no whole number`)
}
