import type {DeviceNumber} from '../edge/device-number.js'
import type {DeviceMapper, MappedDevice} from './device-mapper.js'
import type {Table} from './table.js'
import type {StripedTarget, Target} from './targets.js'
import {bytes, toBytes, type Bytes} from './units.js'

/** A part of a device, in bytes. */
export interface Piece {
  readonly device: DeviceNumber
  readonly offset: number
  readonly bytes: number
}

/**
 * Where parts of mapped devices lie on the devices at the bottom, which are there before anybody activates volumes or asks for
 * passphrases. What is changed through an encrypted device changes there as well. Below a target of which it is not known where
 * it puts things nobody looks. `devices` are all there are now.
 */
export async function findPiecesBelow(pieces: readonly Piece[], dm: DeviceMapper, devices: readonly MappedDevice[]): Promise<readonly Piece[]> {
  const descent = new Descent(dm, devices)
  const below: Piece[] = []
  for (const piece of pieces) below.push(...(await descent.from(piece)))
  return below
}

/** Asks for each table once. */
class Descent {
  readonly #dm: DeviceMapper
  readonly #devices: readonly MappedDevice[]
  readonly #tables = new Map<string, Table>()

  constructor(dm: DeviceMapper, devices: readonly MappedDevice[]) {
    this.#dm = dm
    this.#devices = devices
  }

  async from(piece: Piece): Promise<readonly Piece[]> {
    const device = this.#devices.find(({number}) => number.major === piece.device.major && number.minor === piece.device.minor)
    if (device === undefined) return [piece]
    const table = this.#tables.get(device.name) ?? (await this.#dm.table(device.name))
    this.#tables.set(device.name, table)
    const below = table.flatMap((target) => stepDown(piece, target))
    if (below.includes(piece)) return [piece]
    const pieces: Piece[] = []
    for (const each of below) pieces.push(...(await this.from(each)))
    return pieces
  }
}

/** What of the piece lies in that target; the piece itself where that cannot be told. */
function stepDown(piece: Piece, target: Target): readonly Piece[] {
  const targetStart = toBytes(target.start)
  const start = Math.max(piece.offset, targetStart)
  const end = Math.min(piece.offset + piece.bytes, targetStart + toBytes(target.length))
  if (start >= end) return []
  const inside = {offset: bytes(start - targetStart), bytes: bytes(end - start)}
  switch (target.kind) {
    case 'linear':
    case 'crypt':
      return [{device: target.device, offset: toBytes(target.offset) + inside.offset, bytes: inside.bytes}]
    case 'striped':
      return stripesOf(inside, target)
    case 'snapshot':
    case 'snapshot-merge':
    case 'other':
      return [piece]
    default:
      return target satisfies never
  }
}

/** stripe_map_sector(), drivers/md/dm-stripe.c. */
function stripesOf(inside: {readonly offset: Bytes; readonly bytes: Bytes}, {chunk, stripes}: StripedTarget): readonly Piece[] {
  const chunkBytes = toBytes(chunk)
  const pieces: Piece[] = []
  const end = inside.offset + inside.bytes
  for (let at: number = inside.offset; at < end; at = nextMultiple(at, chunkBytes)) {
    const index = Math.floor(at / chunkBytes)
    const stripe = stripes[index % stripes.length]
    if (stripe === undefined) continue
    const offset = toBytes(stripe.offset) + Math.floor(index / stripes.length) * chunkBytes + (at % chunkBytes)
    pieces.push({device: stripe.device, offset, bytes: Math.min(end, nextMultiple(at, chunkBytes)) - at})
  }
  return pieces
}

function nextMultiple(position: number, unit: number): number {
  return (Math.floor(position / unit) + 1) * unit
}
