import {toBytes, sectors, type Bytes, type Sectors} from './units.js'

/** What a snapshot, or a merge, says of its slice: snapshot_status() in drivers/md/dm-snap.c. */
export type SliceStatus =
  | {readonly kind: 'usable'; readonly used: Bytes; readonly total: Bytes; readonly bookkeeping: Bytes}
  /** Writes have failed for want of room; everything before them is there. */
  | {readonly kind: 'overflowed'}
  | {readonly kind: 'broken'; readonly status: string}

export function parseSliceStatus(status: string): SliceStatus {
  if (status === 'Overflow') return {kind: 'overflowed'}
  const match = /^(\d+)\/(\d+) (\d+)$/.exec(status)
  if (match === null) return {kind: 'broken', status}
  const [used, total, bookkeeping] = match.slice(1).map((text) => toBytes(sectors(Number(text))))
  return used === undefined || total === undefined || bookkeeping === undefined
    ? {kind: 'broken', status}
    : {kind: 'usable', used, total, bookkeeping}
}
