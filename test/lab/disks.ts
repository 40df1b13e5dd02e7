// The raw disks of a machine: what they are for, how they are made.
import {randomUUID} from 'node:crypto'
import {closeSync, existsSync, ftruncateSync, openSync} from 'node:fs'
import {UsageError} from './errors.js'
import {changeRoot} from './root-image.js'
import {ROOT_UUID} from './system.js'
import {run} from './tool.js'

export type DiskRole = 'root' | 'data' | 'spare' | 'swap'

export interface Disk {
  readonly name: string
  readonly role: DiskRole
  readonly path: string
  /** Of its file system or swap area; null when it has neither. */
  readonly uuid: string | null
  readonly type: string | null
  /** There while writes are logged, see write-cache.ts: what QEMU works on, and the log of every write and flush. */
  readonly logged?: {readonly copy: string, readonly log: string}
  /** One that cannot be read, of 512 bytes. */
  readonly badSector?: number
}

export interface DiskWish {
  readonly name: string
  readonly bytes: number
  readonly type: string
}

/** What mkfs asks for at least. */
const MINIMUM_MIB: Readonly<Record<string, number>> = {ext4: 1, xfs: 300, btrfs: 120, vfat: 1, none: 0}
const RESERVED = ['root', 'spare', 'swap']
const UNITS: Readonly<Record<string, number>> = {'': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40}

/** '512M' → bytes. */
export function parseSize(text: string): number {
  const [, number, unit] = /^(\d+)([KMGT]?)$/i.exec(text) ?? []
  const factor = UNITS[unit?.toUpperCase() ?? '']
  if (number === undefined || factor === undefined)
    throw new UsageError(`Cannot read size '${text}': expected a number with K, M, G or T behind it`)
  return Number(number) * factor
}

/** 'data=512M:ext4' → what --disk asks for. */
export function parseDiskWish(text: string): DiskWish {
  const [, name, size, type] = /^([a-z0-9-]+)=([^:]+)(?::([a-z0-9]+))?$/.exec(text) ?? []
  if (name === undefined || size === undefined)
    throw new UsageError(`Cannot read disk '${text}': expected NAME=SIZE:FS`)
  if (RESERVED.includes(name) || name.length > 20)
    throw new UsageError(`Cannot name a disk '${name}': the name is taken or longer than 20 characters`)
  const wanted = type ?? 'ext4'
  const minimum = MINIMUM_MIB[wanted]
  if (minimum === undefined)
    throw new UsageError(`Cannot make file system '${wanted}' on '${name}': expected ext4, xfs, btrfs, vfat or none`)
  const bytes = parseSize(size)
  if (bytes < minimum * 2 ** 20)
    throw new UsageError(`Cannot make ${wanted} on '${name}': mkfs.${wanted} asks for ${minimum}M at least`)
  return {name, bytes, type: wanted}
}

/** An empty disk: takes room only where it is written. */
export function makeBlank(path: string, bytes: number): void {
  const fd = openSync(path, 'wx')
  ftruncateSync(fd, bytes)
  closeSync(fd)
}

/** Makes a data disk with its file system. */
export async function makeDataDisk(path: string, wish: DiskWish): Promise<Disk> {
  makeBlank(path, wish.bytes)
  const disk = {name: wish.name, role: 'data' as const, path}
  if (wish.type === 'none')
    return {...disk, uuid: null, type: null}
  return {...disk, uuid: await makeFileSystem(path, wish.type), type: wish.type}
}

/** Gives its UUID, as fstab wants it. */
async function makeFileSystem(path: string, type: string): Promise<string> {
  const uuid = randomUUID()
  switch (type) {
    case 'vfat': {
      const serial = uuid.slice(0, 8).toUpperCase()
      await run('mkfs.vfat', ['-i', serial, path])
      return `${serial.slice(0, 4)}-${serial.slice(4)}`
    }
    case 'xfs':
      await run('mkfs.xfs', ['-q', '-m', `uuid=${uuid}`, path])
      return uuid
    case 'btrfs':
      await run('mkfs.btrfs', ['-q', '-U', uuid, path])
      return uuid
    default:
      await run('mke2fs', ['-q', '-t', 'ext4', '-U', uuid, path])
      return uuid
  }
}

/** Makes a swap disk. */
export async function makeSwapDisk(path: string, bytes: number): Promise<Disk> {
  const uuid = randomUUID()
  makeBlank(path, bytes)
  await run('mkswap', ['--uuid', uuid, path])
  return {name: 'swap', role: 'swap', path, uuid, type: 'swap'}
}

/** systemd.mount(5): after 90 s it would go into its emergency mode, which a busy host, or the debugging kernel, does to a machine. */
const HOWEVER_LONG = 'x-systemd.device-timeout=15min'

/** Writes the machine's fstab and its mount points into its root image. */
export async function writeFstab(root: string, disks: readonly Disk[]): Promise<void> {
  const mounted = disks.filter(disk => disk.role === 'data' && disk.uuid !== null)
  const lines = [
    `UUID=${ROOT_UUID} / ext4 errors=remount-ro 0 1`,
    ...mounted.map(disk => `UUID=${disk.uuid ?? ''} /mnt/${disk.name} ${disk.type ?? ''} ${HOWEVER_LONG} 0 2`),
    ...disks.filter(disk => disk.role === 'swap').map(disk => `UUID=${disk.uuid ?? ''} none swap sw,${HOWEVER_LONG} 0 0`)
  ]
  await changeRoot(root, {
    directories: mounted.map(disk => `/mnt/${disk.name}`),
    files: {'/etc/fstab': `${lines.join('\n')}\n`},
    links: {}
  })
}

/** The device of a disk in the machine: virtio names them in the order QEMU got them. */
export function deviceOf(disks: readonly Disk[], disk: Disk): string {
  return `/dev/vd${String.fromCharCode('a'.charCodeAt(0) + disks.indexOf(disk))}`
}

/** What outside checks read: `disks NAME`. */
export function describeDisks(disks: readonly Disk[]): Record<string, unknown> {
  return Object.fromEntries(disks.filter(disk => existsSync(disk.path)).map(disk => [disk.name, {
    path: disk.path,
    role: disk.role,
    device: deviceOf(disks, disk),
    byId: `/dev/disk/by-id/virtio-${disk.name}`,
    uuid: disk.uuid,
    type: disk.type,
    mountPoint: disk.role === 'root' ? '/' : disk.role === 'data' && disk.uuid !== null ? `/mnt/${disk.name}` : null
  }]))
}
