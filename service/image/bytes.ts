import {ImageError} from '../errors.js'

/** A u64 as a number; refuses what a number cannot hold exactly. */
export function readSafeU64(bytes: Buffer, offset: number, where: string, field: string): number {
  const value = bytes.readBigUInt64LE(offset)
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new ImageError(where, `${field} is out of bounds`)
  return Number(value)
}

/** The text of a NUL padded field, or null when bytes follow the first NUL or there is none. */
export function readPaddedText(bytes: Buffer, start: number, end: number): string | null {
  const field = bytes.subarray(start, end)
  const length = field.indexOf(0)
  if (length < 0 || field.subarray(length).some((byte) => byte !== 0)) return null
  return field.toString('utf8', 0, length)
}
