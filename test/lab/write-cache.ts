// Disks whose write cache a power cut empties. A killed QEMU leaves all it has written to the host, so QEMU is given a
// copy of each disk and logs every write and flush (its driver blklogwrites, in the format of dm-log-writes); the disk
// itself is made from the log afterwards: up to the last flush as it was written, after it as chance has it.
import {closeSync, fstatSync, fsyncSync, openSync, readSync, rmSync, writeFileSync, writeSync} from 'node:fs'
import type {Disk} from './disks.js'
import type {Machine} from './machine.js'
import {run} from './tool.js'

/** 0 to below 1. */
export type Random = () => number

export interface Settled {
  readonly writes: number
  /** Written after the last flush: by chance whole, in part or not at all on the disk. */
  readonly unflushed: number
  readonly lost: number
}

/** To be called before the machine starts: until `settleDisks` its disks stay what they are. */
export async function logWrites(machine: Machine): Promise<void> {
  const disks: Disk[] = []
  for (const disk of machine.state.disks) {
    const logged = {copy: `${disk.path}.run`, log: `${disk.path}.log`}
    await run('cp', ['--sparse=always', '--reflink=auto', disk.path, logged.copy])
    writeFileSync(logged.log, '')
    disks.push({...disk, logged})
  }
  machine.update({disks})
}

/** To be called when the machine is off: `random` null for one that was switched off in order, whose caches were emptied. */
export function settleDisks(machine: Machine, random: Random | null): Settled {
  const settled = {writes: 0, unflushed: 0, lost: 0}
  const disks = machine.state.disks.map(({logged, ...disk}) => {
    if (logged === undefined)
      return disk
    const one = replay(disk.path, logged.log, random)
    settled.writes += one.writes
    settled.unflushed += one.unflushed
    settled.lost += one.lost
    rmSync(logged.copy)
    rmSync(logged.log)
    return disk
  })
  machine.update({disks})
  return settled
}

/** How much was written to each disk since `logWrites`, in sectors, as the machine's own block layer counts them. */
export function countLogged(machine: Machine): ReadonlyMap<string, number> {
  return new Map(machine.state.disks.map(({name, logged}) => [name, logged === undefined ? 0 : sumSectors(logged.log)]))
}

function sumSectors(logPath: string): number {
  const log = openSync(logPath, 'r')
  try {
    return readEntries(log).reduce((sum, {sectorCount, isDiscard}) => isDiscard ? sum : sum + sectorCount, 0)
  } finally {
    closeSync(log)
  }
}

// Documentation/admin-guide/device-mapper/log-writes.rst; QEMU's block/blklogwrites.c.
const SECTOR_BYTES = 512
const MAGIC = 0x6a736677736872n
const FLUSH = 1n
const DISCARD = 4n

interface Entry {
  readonly sector: number
  readonly sectorCount: number
  readonly isFlush: boolean
  readonly isDiscard: boolean
  /** Of its data in the log. */
  readonly position: number
}

/** Makes the disk what it is after the run. */
export function replay(path: string, logPath: string, random: Random | null): Settled {
  const log = openSync(logPath, 'r')
  const disk = openSync(path, 'r+')
  try {
    const entries = readEntries(log)
    const durable = random === null ? entries.length : entries.map(({isFlush}) => isFlush).lastIndexOf(true) + 1
    let lost = 0
    entries.forEach((entry, index) => {
      const sectors = index < durable || random === null ? entry.sectorCount : survivingSectors(entry, random)
      if (sectors < entry.sectorCount)
        lost++
      apply(entry, sectors, log, disk)
    })
    fsyncSync(disk)
    return {writes: entries.length, unflushed: entries.length - durable, lost}
  } finally {
    closeSync(log)
    closeSync(disk)
  }
}

/** A drive writes its cache in any order, and what it is writing in the instant of the cut up to some sector only. */
function survivingSectors({sectorCount}: Entry, random: Random): number {
  const chance = random()
  if (chance < 0.45)
    return sectorCount
  return chance < 0.9 ? 0 : Math.floor(random() * sectorCount)
}

/** Up to the first that is not there: one that was on its way when QEMU was killed has left zeros. */
function readEntries(log: number): Entry[] {
  const size = fstatSync(log).size
  const entries: Entry[] = []
  const sector = Buffer.alloc(SECTOR_BYTES)
  if (size < SECTOR_BYTES)
    return entries
  readSync(log, sector, 0, SECTOR_BYTES, 0)
  if (![MAGIC, 0n].includes(sector.readBigUInt64LE(0)))
    throw new Error('Cannot read the log of writes: it is none of QEMU')
  let position = SECTOR_BYTES
  while (position + SECTOR_BYTES <= size) {
    readSync(log, sector, 0, SECTOR_BYTES, position)
    const flags = sector.readBigUInt64LE(16)
    const sectorCount = Number(sector.readBigUInt64LE(8))
    const isDiscard = (flags & DISCARD) !== 0n
    const dataBytes = isDiscard ? 0 : sectorCount * SECTOR_BYTES
    if ((flags === 0n && sectorCount === 0) || position + SECTOR_BYTES + dataBytes > size)
      break
    entries.push({sector: Number(sector.readBigUInt64LE(0)), sectorCount, isFlush: (flags & FLUSH) !== 0n, isDiscard, position: position + SECTOR_BYTES})
    position += SECTOR_BYTES + dataBytes
  }
  return entries
}

const PIECE_BYTES = 2 ** 20

function apply(entry: Entry, sectors: number, log: number, disk: number): void {
  const bytes = sectors * SECTOR_BYTES
  const buffer = Buffer.alloc(Math.min(bytes, PIECE_BYTES))
  for (let done = 0; done < bytes; done += buffer.length) {
    const count = Math.min(buffer.length, bytes - done)
    if (!entry.isDiscard)
      readSync(log, buffer, 0, count, entry.position + done)
    writeSync(disk, buffer, 0, count, entry.sector * SECTOR_BYTES + done)
  }
}
