import {parseDeviceNumber, printDeviceNumber, type DeviceNumber} from '../edge/device-number.js'
import type {Files} from '../edge/files.js'
import {decodeOctal} from '../edge/octal.js'
import type {DeviceMapper, MappedDevice} from './device-mapper.js'
import {pathUnder} from './names.js'
import type {Table} from './table.js'

/** A mounted block file system, however often it is mounted. */
export interface MountedFileSystem {
  readonly mountPoint: string
  readonly type: string
  readonly uuid: string
  readonly isReadOnly: boolean
  readonly number: DeviceNumber
  readonly mapping: Mapping
}

/** Whether the device under the file system can be given a snapshot table, and what for that is known. */
export type Mapping =
  | {readonly kind: 'mapped'; readonly device: MappedDevice; readonly table: Table; readonly pathUnder: string; readonly isEncrypted: boolean}
  | {readonly kind: 'unmapped'; readonly device: string; readonly reason: string}

/** Targets of which two devices may have the same table at the same time. */
const REPEATABLE_TARGETS: readonly string[] = ['linear', 'striped', 'crypt']

/** Nobody can write to them, wherever they lie: the kernel has no code for it. */
const UNWRITABLE_TYPES: readonly string[] = ['squashfs', 'erofs', 'iso9660', 'cramfs']

/**
 * Every mounted file system that lies on a block device, one entry a device, in the order of mounting; but for those of
 * unwritable types that have no device-mapper device, as installed images on loop devices, which need no snapshot.
 */
export async function findFileSystems(files: Files, dm: DeviceMapper): Promise<readonly MountedFileSystem[]> {
  const devices = await dm.list()
  const mounts = findBlockMounts(files)
  const all = await Promise.all(
    mounts.map(async ({mountPoint, type, isReadOnly, number, isWhole}): Promise<MountedFileSystem> => {
      const mapping = isWhole
        ? await findMapping(number, {files, dm, devices})
        : {kind: 'unmapped' as const, device: printDeviceNumber(number), reason: `its type '${type}' may spread over several devices`}
      return {mountPoint, type, isReadOnly, number, uuid: findUuid(number, files), mapping}
    }),
  )
  return all.filter(({mapping, type, isReadOnly}) => mapping.kind === 'mapped' || !isReadOnly || !UNWRITABLE_TYPES.includes(type))
}

interface BlockMount {
  readonly mountPoint: string
  readonly type: string
  readonly isReadOnly: boolean
  readonly number: DeviceNumber
  /** False for types that are mounted under a number that is no device's and of which only one device is known. */
  readonly isWhole: boolean
}

/**
 * Of every mount namespace, this process's first: what is mounted in one only is written to all the same.
 * proc_pid_mountinfo(5): the third field is the device, what follows " - " is type, source and options.
 */
export function findBlockMounts(files: Files): readonly BlockMount[] {
  const mounts = new Map<string, BlockMount>()
  for (const mountinfo of readMountinfos(files)) {
    for (const line of mountinfo.split('\n')) {
      const mount = parseMount(line, files)
      if (mount === null) continue
      const key = printDeviceNumber(mount.number)
      if (!mounts.has(key)) mounts.set(key, mount)
    }
  }
  return [...mounts.values()]
}

/** As a process in each mount namespace has it, this one first: mount_namespaces(7). */
function readMountinfos(files: Files): readonly string[] {
  const known = new Set<string | null>()
  return ['self', ...files.list('/proc').filter((name) => /^\d+$/.test(name))].flatMap((pid) => {
    const namespace = files.link(`/proc/${pid}/ns/mnt`)
    if (known.has(namespace)) return []
    const mountinfo = files.readText(`/proc/${pid}/mountinfo`)
    // A kernel thread's, or one that has just ended.
    if (mountinfo === null) return []
    known.add(namespace)
    return [mountinfo]
  })
}

/** Types whose superblock tells on how many devices they lie: `findElsewhere` looks there. */
const COUNTED_TYPES: readonly string[] = ['btrfs']

function parseMount(line: string, files: Files): BlockMount | null {
  const [front = '', back = ''] = line.split(' - ')
  const fields = front.split(' ')
  const [type = '', source = '', options = ''] = back.split(' ')
  const number = parseDeviceNumber(fields[2] ?? '')
  if (number === null) return null
  const mount = {mountPoint: decodeOctal(fields[4] ?? ''), type, isReadOnly: options.split(',').includes('ro')}
  if (number.major !== 0) return {...mount, number, isWhole: true}
  const device = source.startsWith('/dev/') ? files.blockDevice(decodeOctal(source)) : null
  return device === null ? null : {...mount, number: device, isWhole: COUNTED_TYPES.includes(type)}
}

/** The mount that something open in a process lies on. */
export interface OpenMount {
  readonly mountPoint: string
  readonly type: string
  readonly isOnBlockDevice: boolean
}

/** By the mount's number, as a file's own device number is no device's on btrfs: mnt_id in proc_pid_fdinfo(5). Null for a pipe, or who has ended. */
export function findMountOf({pid, fd}: {readonly pid: number | 'self'; readonly fd: number}, files: Files): OpenMount | null {
  const id = /^mnt_id:\s*(\d+)$/m.exec(files.readText(`/proc/${pid}/fdinfo/${fd}`) ?? '')?.[1]
  const line = (files.readText(`/proc/${pid}/mountinfo`) ?? '').split('\n').find((each) => each.startsWith(`${id} `))
  if (line === undefined) return null
  const [front = '', back = ''] = line.split(' - ')
  return {
    mountPoint: decodeOctal(front.split(' ')[4] ?? ''), type: back.split(' ')[0] ?? '', isOnBlockDevice: parseMount(line, files) !== null,
  }
}

interface Surroundings {
  readonly files: Files
  readonly dm: DeviceMapper
  readonly devices: readonly MappedDevice[]
}

async function findMapping(number: DeviceNumber, {files, dm, devices}: Surroundings): Promise<Mapping> {
  const device = devices.find((each) => each.number.major === number.major && each.number.minor === number.minor)
  if (device === undefined) {
    return {kind: 'unmapped', device: kernelName(number, files), reason: 'it is not a device-mapper device'}
  }
  const table = await dm.table(device.name)
  const obstacle = table.find(({kind}) => !REPEATABLE_TARGETS.includes(kind))
  if (obstacle !== undefined) {
    const name = obstacle.kind === 'other' ? obstacle.name : obstacle.kind
    return {kind: 'unmapped', device: device.name, reason: `its target '${name}' cannot be there twice`}
  }
  if (device.uuid.startsWith('CRYPT-') && table.length > 1) {
    return {kind: 'unmapped', device: device.name, reason: 'it is being reencrypted, wait until that is done'}
  }
  return {kind: 'mapped', device, table, pathUnder: pathUnder(device), isEncrypted: isEncrypted(number, files)}
}

/** Whether the device, or any below it, is one that cryptsetup made. */
export function isEncrypted(number: DeviceNumber, files: Files): boolean {
  return findEncryptions(number, files).length > 0
}

/** The names of those that cryptsetup made, of the device and all below it. */
export function findEncryptions(number: DeviceNumber, files: Files): readonly string[] {
  const directory = `/sys/dev/block/${printDeviceNumber(number)}`
  const name = (files.readText(`${directory}/dm/name`) ?? '').trim()
  const own = files.readText(`${directory}/dm/uuid`)?.startsWith('CRYPT-') === true ? [name] : []
  const below = files.list(`${directory}/slaves`).flatMap((slave) => {
    const slaveNumber = parseDeviceNumber((files.readText(`${directory}/slaves/${slave}/dev`) ?? '').trim())
    return slaveNumber === null ? [] : findEncryptions(slaveNumber, files)
  })
  return [...own, ...below]
}

/** From udev's own notes, or by the links it made of them. */
export function findUuid(number: DeviceNumber, files: Files): string {
  const notes = files.readText(`/run/udev/data/b${printDeviceNumber(number)}`) ?? ''
  const noted = /^E:ID_FS_UUID=(.+)$/m.exec(notes)?.[1]
  if (noted !== undefined) return noted
  const link = files.list('/dev/disk/by-uuid').find((name) => {
    const device = files.blockDevice(`/dev/disk/by-uuid/${name}`)
    return device !== null && printDeviceNumber(device) === printDeviceNumber(number)
  })
  return link ?? ''
}

/** Where the initramfs, before anything is mounted, finds a device. */
export function pathOf(number: DeviceNumber, devices: readonly MappedDevice[], files: Files): string {
  const mapped = devices.find((each) => each.number.major === number.major && each.number.minor === number.minor)
  return mapped === undefined ? `/dev/${kernelName(number, files)}` : pathUnder(mapped)
}

function kernelName(number: DeviceNumber, files: Files): string {
  const text = printDeviceNumber(number)
  const name = /^DEVNAME=(.+)$/m.exec(files.readText(`/sys/dev/block/${text}/uevent`) ?? '')?.[1]
  return name ?? text
}
