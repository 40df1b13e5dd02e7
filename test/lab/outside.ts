// Checks made from the host on raw disks of a machine that is off.
import {rmSync} from 'node:fs'
import {open} from 'node:fs/promises'
import {readSpare} from './figures.js'
import {attempt, run} from './tool.js'
import type {Disk} from './disks.js'

export interface FsckResult {
  readonly isClean: boolean
  readonly output: string
}

/** Checks a file system without changing it. */
export async function fsck(disk: Disk): Promise<FsckResult> {
  const [command = '', ...words] = CHECKS[disk.type ?? ''] ?? ['e2fsck', '-f', '-n']
  const {status, stdout, stderr} = await attempt(command, [...words, disk.path])
  return {isClean: status === 0, output: (stderr + stdout).trim()}
}

const CHECKS: Readonly<Record<string, readonly string[]>> = {
  xfs: ['xfs_repair', '-n', '-f'],
  btrfs: ['btrfs', 'check', '--readonly'],
  vfat: ['fsck.vfat', '-n']
}

/**
 * The same of an ext4 that is frozen on the disk. Files that are deleted and open still are on its list of orphans, which
 * e2fsck takes for errors when it may not change anything; on a copy it clears them first, and ends with 0 if that was all.
 */
export async function fsckFrozen(disk: Disk): Promise<FsckResult> {
  const copy = `${disk.path}.check`
  await run('cp', ['--sparse=always', '--reflink=auto', disk.path, copy])
  try {
    const {status, stdout, stderr} = await attempt('e2fsck', ['-f', '-y', copy])
    return {isClean: status === 0, output: (stderr + stdout).trim()}
  } finally {
    rmSync(copy)
  }
}

const BLOCK_BYTES = 4 * 2 ** 20
const OVERLAP_BYTES = 512

/** Every match of the pattern in a part of a raw disk; a match is shorter than OVERLAP_BYTES. */
export async function findInDisk(
  path: string, pattern: RegExp, range: {readonly offset: number, readonly bytes: number} | null = null
): Promise<Set<string>> {
  const file = await open(path)
  try {
    const size = (await file.stat()).size
    const start = range?.offset ?? 0
    const end = Math.min(size, range === null ? size : start + range.bytes)
    const found = new Set<string>()
    const buffer = Buffer.alloc(BLOCK_BYTES + OVERLAP_BYTES)
    for (let at = start; at < end; at += BLOCK_BYTES) {
      const {bytesRead} = await file.read(buffer, 0, Math.min(buffer.length, end - at), at)
      if (!buffer.subarray(0, bytesRead).equals(zeros(bytesRead)))
        addMatches(found, buffer.toString('latin1', 0, bytesRead), pattern)
    }
    return found
  } finally {
    await file.close()
  }
}

function addMatches(found: Set<string>, text: string, pattern: RegExp): void {
  for (const match of text.matchAll(pattern))
    found.add(match[0])
}

const ZEROS = Buffer.alloc(BLOCK_BYTES + OVERLAP_BYTES)

function zeros(bytes: number): Buffer {
  return ZEROS.subarray(0, bytes)
}

/** The part of the spare device that takes what is written after the snapshot. */
export async function copyOnWriteArea(spare: Disk): Promise<{offset: number, bytes: number}> {
  const {superblock} = await readSpare(spare.path)
  return {offset: superblock.cowAreaOffset, bytes: superblock.cowAreaBytes}
}
