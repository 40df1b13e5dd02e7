import {randomBytes} from 'node:crypto'
import {printDeviceNumber, type DeviceNumber} from '../edge/device-number.js'
import type {BlockAccess} from '../edge/block-access.js'
import type {Faults} from '../edge/faults.js'
import {UndoStack} from '../edge/undo.js'
import {DeviceMapperError, UnmappedFileSystemError} from '../errors.js'
import {CreatedDevice, LoadedTable} from './device.js'
import type {DeviceMapper} from './device-mapper.js'
import type {Mapping, MountedFileSystem} from './filesystems.js'
import {baseName, baseUuid, cowName, cowUuid} from './names.js'
import {printTable, tableLength, type FillTemplate} from './table.js'
import {bytes, SECTOR_BYTES, sectors, toBytes, toSectors, type Bytes, type Sectors} from './units.js'

/** A file system whose device has its snapshot table loaded, inactive. */
export interface PreparedFileSystem {
  readonly mounted: MountedFileSystem
  /** The live device, for the kernel to exchange its tables. */
  readonly number: DeviceNumber
  readonly base: DeviceNumber
  readonly deviceBytes: Bytes
}

export interface PrepareTools {
  readonly dm: DeviceMapper
  readonly blocks: BlockAccess
  readonly fillTemplate: FillTemplate
  readonly faults: Faults
}

export interface CowArea {
  readonly device: DeviceNumber
  readonly offsetBytes: number
  readonly bytes: number
  /** Whatever is written there is as secret as on an encrypted file system's own device. */
  readonly isEncrypted: boolean
}

/** Less is used up by a log file that grows for a while. */
export const SLICE_BYTES_MINIMUM = 4 * 2 ** 20
/** The store's own header: drivers/md/dm-snap-persistent.c reads one chunk. */
const STORE_HEADER_BYTES = 4096
/** aes-xts takes two keys of 256 bits. */
const KEY_BYTES = 64

/**
 * Gives every file system a base device, a copy-on-write slice and an inactive snapshot table, all side by side.
 * What was done before a failure is undone in reverse order; after success `restore.ts` undoes it,
 * starting from what it finds.
 */
export async function prepareSnapshots(
  fileSystems: readonly MountedFileSystem[],
  area: CowArea,
  tools: PrepareTools,
): Promise<readonly PreparedFileSystem[]> {
  const slices = sliceArea(area, fileSystems.length)
  const undo = new UndoStack()
  const attempts = await Promise.allSettled(
    fileSystems.map((mounted, index) =>
      prepareOne(mounted, {area, start: slices.start(index), length: slices.length}, tools, undo),
    ),
  )
  const failed = attempts.find((attempt): attempt is PromiseRejectedResult => attempt.status === 'rejected')
  if (failed !== undefined) {
    await disposeQuietly(undo)
    throw failed.reason
  }
  return attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? attempt.value : []))
}

/** How much each of `count` file systems gets. */
export function sliceBytes(areaBytes: number, count: number): number {
  return Math.floor(areaBytes / Math.max(1, count) / STORE_HEADER_BYTES) * STORE_HEADER_BYTES
}

interface Slice {
  readonly area: CowArea
  readonly start: Sectors
  readonly length: Sectors
}

function sliceArea(area: CowArea, count: number): {start: (index: number) => Sectors; length: Sectors} {
  const size = sliceBytes(area.bytes, count)
  if (size < SLICE_BYTES_MINIMUM) {
    throw new DeviceMapperError('divide', 'the copy-on-write area', `${count} file systems get less than 4 MiB each`)
  }
  return {
    start: (index) => sectors((area.offsetBytes + index * size) / SECTOR_BYTES),
    length: toSectors(bytes(size)),
  }
}

async function prepareOne(
  mounted: MountedFileSystem,
  slice: Slice,
  tools: PrepareTools,
  undo: UndoStack,
): Promise<PreparedFileSystem> {
  const {mapping} = mounted
  if (mapping.kind === 'unmapped') throw new UnmappedFileSystemError(mounted.mountPoint, mapping.device)
  const {dm, blocks, fillTemplate, faults} = tools
  const live = mapping.device.name
  const baseTable = fillTemplate('base', {live_table: printTable(mapping.table)})
  const base = undo.use(
    await CreatedDevice.create(dm, {name: baseName(live), uuid: baseUuid(live), table: baseTable, isReadOnly: true}),
  )
  faults.hit('base-created')
  const cow = undo.use(
    await CreatedDevice.create(dm, {
      name: cowName(live),
      uuid: cowUuid(live),
      table: cowTable(mapping, slice, fillTemplate),
      isReadOnly: false,
    }),
  )
  await blocks.writeStart(cow.number, Buffer.alloc(STORE_HEADER_BYTES))
  faults.hit('cow-created')
  const snapshot = fillTemplate('snapshot', {
    sectors: tableLength(mapping.table),
    base: printDeviceNumber(base.number),
    cow: printDeviceNumber(cow.number),
  })
  undo.use(await LoadedTable.load(dm, live, snapshot))
  return {
    mounted,
    number: mapping.device.number,
    base: base.number,
    deviceBytes: toBytes(tableLength(mapping.table)),
  }
}

/**
 * A throw-away key is lost when the power is, and with it a merge that was under way. So it is used only where
 * the slice would lie in the clear otherwise: not on a spare device that is encrypted itself.
 */
function cowTable(mapping: Extract<Mapping, {kind: 'mapped'}>, slice: Slice, fillTemplate: FillTemplate) {
  const parameters = {
    sectors: slice.length,
    spare: printDeviceNumber(slice.area.device),
    spare_sector: slice.start,
  }
  return mapping.isEncrypted && !slice.area.isEncrypted
    ? fillTemplate('cow-encrypted', {...parameters, key: randomBytes(KEY_BYTES).toString('hex')})
    : fillTemplate('cow', parameters)
}

async function disposeQuietly(undo: UndoStack): Promise<void> {
  try {
    await undo[Symbol.asyncDispose]()
  } catch {
    // What made the preparation fail is the error to tell; what is left over is found when the daemon starts.
  }
}
