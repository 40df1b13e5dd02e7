import {constants} from 'node:fs'
import {open, type FileHandle} from 'node:fs/promises'
import type {Files} from './files.js'

/** What lies in memory or on other files has no cache of its own. */
const WITHOUT_CACHE = /^(loop|ram|zram)\d/

/**
 * Writes the page cache of every block device to it and empties the caches of the disks. Not sync(2): that would wait
 * for file systems whose servers may be frozen. Throws the error of the system when a device cannot be written to.
 */
export async function syncDisks(files: Files): Promise<void> {
  for (const name of files.list('/sys/class/block')) {
    if (WITHOUT_CACHE.test(name) || (files.readText(`/sys/class/block/${name}/size`) ?? '0').trim() === '0') continue
    // sysfs has '!' where the name has a slash.
    await syncDevice(`/dev/${name.replaceAll('!', '/')}`)
  }
}

async function syncDevice(path: string): Promise<void> {
  const device = await openUnlessGone(path)
  if (device === null) return
  try {
    await device.sync()
  } finally {
    await device.close()
  }
}

/** Nobody can have written to a drive without a medium; a device that has just gone has nothing any more. */
const GONE_CODES: readonly unknown[] = ['ENOENT', 'ENXIO', 'ENODEV', 'ENOMEDIUM']

async function openUnlessGone(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    if (error instanceof Error && 'code' in error && GONE_CODES.includes(error.code)) return null
    throw error
  }
}
