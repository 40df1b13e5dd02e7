import type {DeviceNumber} from '../edge/device-number.js'
import type {Files} from '../edge/files.js'
import {DeviceMapperError} from '../errors.js'
import type {DeviceMapper} from './device-mapper.js'
import type {ExceptionStore} from './exception-store.js'
import {findUuid} from './filesystems.js'
import {cowName, pathUnder} from './names.js'
import {findLeftovers} from './restore.js'
import {tableLength} from './table.js'
import {type CryptTarget, isSnapshotTarget, type LinearTarget, type Target} from './targets.js'
import {toBytes, type Bytes} from './units.js'

/** A live device whose newer blocks are in a slice, and what it takes to put them back without this boot's memory. */
export interface MergeNeed {
  readonly live: string
  /** How the initramfs finds the device under the file system. */
  readonly pathUnder: string
  /** Of the file system; empty when udev knows none. */
  readonly uuid: string
  readonly baseBytes: Bytes
  /** Where the slice lies, whatever encryption is on it. */
  readonly slice: {readonly device: DeviceNumber; readonly offset: Bytes; readonly length: Bytes}
  readonly isSliceEncrypted: boolean
  readonly isMerging: boolean
  readonly base: DeviceNumber
  /** What is in the slice, as whoever has its key reads it. */
  readonly store: ExceptionStore
}

/** Every live device that runs on a snapshot or a merge, as it is found: nothing is remembered. Throws DeviceMapperError. */
export async function findMergeNeeds(dm: DeviceMapper, files: Files): Promise<readonly MergeNeed[]> {
  const devices = await dm.list()
  const needs: MergeNeed[] = []
  for (const {live, state} of await findLeftovers(dm)) {
    const device = devices.find(({name}) => name === live)
    if (device === undefined || !(state === 'snapshot' || state === 'merging')) continue
    const table = await dm.table(live)
    const snapshot = table.find(isSnapshotTarget)
    const below = (await dm.table(cowName(live))).find(isSlice)
    if (snapshot === undefined || below === undefined) throw new DeviceMapperError('list the merge of', live, 'its slice has no table of ours')
    needs.push({
      live,
      pathUnder: pathUnder(device),
      uuid: findUuid(device.number, files),
      baseBytes: toBytes(tableLength(table)),
      slice: {device: below.device, offset: toBytes(below.offset), length: toBytes(below.length)},
      isSliceEncrypted: below.kind === 'crypt',
      isMerging: state === 'merging',
      base: snapshot.origin,
      store: {cow: snapshot.cow, chunk: snapshot.chunk, length: toBytes(below.length)},
    })
  }
  return needs
}

function isSlice(target: Target): target is LinearTarget | CryptTarget {
  return target.kind === 'linear' || target.kind === 'crypt'
}
