// up NAME: makes the machine's disks when it has none, switches it on, returns when systemd is up.
import {copyFileSync, mkdirSync, rmSync} from 'node:fs'
import {join} from 'node:path'
import {boot} from '../boot.js'
import {makeBlank, makeDataDisk, makeSwapDisk, writeFstab, type Disk, type DiskWish} from '../disks.js'
import {UsageError} from '../errors.js'
import {attemptInside, inside, insideShell} from '../execute.js'
import {NO_FIGURES} from '../figures.js'
import type {Machine} from '../machine.js'
import {writeNetwork, type Network} from '../network.js'
import {identify} from '../qemu.js'
import {say} from '../say.js'
import {provideSystem, ROOT_UUID, type System} from '../system.js'
import {run} from '../tool.js'

export interface UpOptions {
  readonly memoryMib: number
  readonly cpus: number
  readonly disks: readonly DiskWish[]
  /** null: as much as the machine can need; 0: no spare device. */
  readonly spareBytes: number | null
  readonly swapBytes: number
  readonly network: Network | null
  readonly packages: readonly string[]
  readonly isDebug: boolean
  readonly diesWithStarter: boolean
  /** More words for the kernel command line. */
  readonly extra?: string
}

export const UP_DEFAULTS: UpOptions = {
  memoryMib: 1024,
  cpus: 2,
  disks: [],
  spareBytes: null,
  swapBytes: 0,
  network: null,
  packages: [],
  isDebug: false,
  diesWithStarter: false
}

/** Emulated, a boot takes some 15 seconds, with the debugging kernel two minutes and more. */
const BOOT_PATIENCE_MS = 900_000

export async function up(machine: Machine, options: UpOptions): Promise<void> {
  using _held = await machine.lock()
  if (machine.isRunning)
    throw new UsageError(`Machine '${machine.name}' is up already`)
  const isNew = !machine.exists
  if (isNew)
    await make(machine, options)
  else
    machine.update({memoryMib: options.memoryMib, cpus: options.cpus})
  say(isNew ? `${machine.name}: starting` : `${machine.name}: starting again on its disks (down --wipe removes them)`)
  const {identity} = await boot(machine, {...options, timeoutMs: BOOT_PATIENCE_MS})
  machine.update({agentIdentity: identity})
  await systemIsUp(machine)
  if (isNew)
    await prepareSpare(machine)
  say(`${machine.name}: up`)
}

async function make(machine: Machine, options: UpOptions): Promise<void> {
  const system = await provideSystem({packages: options.packages, isDebug: options.isDebug, isForced: false})
  machine.wipe()
  mkdirSync(machine.directory, {recursive: true})
  try {
    const disks = await makeDisks(machine.directory, system, options)
    copyFileSync(system.kernel.image, join(machine.directory, 'bzImage'))
    copyFileSync(system.initrd, join(machine.directory, 'initrd.img'))
    machine.write({
      memoryMib: options.memoryMib,
      cpus: options.cpus,
      kernel: join(machine.directory, 'bzImage'),
      initrd: join(machine.directory, 'initrd.img'),
      isDebug: options.isDebug,
      disks,
      network: options.network,
      boots: 0,
      qemu: null,
      owner: options.diesWithStarter ? identify(process.pid) : null,
      agentIdentity: null,
      figures: NO_FIGURES
    })
  } catch (thrown) {
    rmSync(machine.directory, {recursive: true, force: true})
    throw thrown
  }
}

async function makeDisks(directory: string, system: System, options: UpOptions): Promise<Disk[]> {
  const path = (name: string) => join(directory, `${name}.img`)
  await run('cp', ['--sparse=always', '--reflink=auto', system.rootImage, path('root')])
  const disks: Disk[] = [{name: 'root', role: 'root', path: path('root'), uuid: ROOT_UUID, type: 'ext4'}]
  for (const wish of options.disks)
    disks.push(await makeDataDisk(path(wish.name), wish))
  const spareBytes = options.spareBytes ?? sufficientSpare(options.memoryMib)
  if (spareBytes > 0) {
    makeBlank(path('spare'), spareBytes)
    disks.push({name: 'spare', role: 'spare', path: path('spare'), uuid: null, type: null})
  }
  if (options.swapBytes > 0)
    disks.push(await makeSwapDisk(path('swap'), options.swapBytes))
  await writeFstab(path('root'), disks)
  if (options.network !== null)
    await writeNetwork(path('root'), options.network)
  return disks
}

/** All of memory that does not compress, and as much again for what is written during the save. It is sparse. */
function sufficientSpare(memoryMib: number): number {
  return (2 * memoryMib + 512) * 2 ** 20
}

async function systemIsUp(machine: Machine): Promise<void> {
  const {stdout} = await attemptInside(machine, ['systemctl', 'is-system-running', '--wait'])
  if (stdout.trim() === 'running')
    return
  const failed = await inside(machine, ['systemctl', '--failed', '--plain', '--no-legend'])
  say(`${machine.name}: systemd is ${stdout.trim()}: ${failed.trim().replaceAll('\n', '; ')}`)
}

async function prepareSpare(machine: Machine): Promise<void> {
  const device = '/dev/disk/by-id/virtio-spare'
  if (machine.state.disks.some(disk => disk.role === 'spare'))
    await insideShell(machine, 'if command -v permafrost > /dev/null; then permafrost setup --yes "$1"; fi', device)
}
