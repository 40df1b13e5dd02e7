import {constants as flags} from 'node:fs'
import {open, type FileHandle} from 'node:fs/promises'
import {constants} from 'node:os'
import type {Files} from './files.js'

/** What lies in memory or on other files has no cache of its own. */
const WITHOUT_CACHE = /^(loop|ram|zram)\d/

/**
 * Writes the page cache of every block device to it and empties the caches of the disks. Not sync(2): that would wait
 * for file systems whose servers may be frozen. Throws the error of the system when a device cannot be written to, and the
 * reason of the signal instead of beginning with another one.
 */
export async function syncDisks(files: Files, signal: AbortSignal): Promise<void> {
  for (const name of files.list('/sys/class/block')) {
    if (WITHOUT_CACHE.test(name) || (files.readText(`/sys/class/block/${name}/size`) ?? '0').trim() === '0') continue
    signal.throwIfAborted()
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

/**
 * Nobody can have written to a drive without a medium (ENOMEDIUM 123 and EMEDIUMTYPE 124 of asm-generic/errno.h, which Node has
 * no names for; the latter also of a DRBD device that is not the primary one); a device that has just gone has nothing any more.
 */
const GONE: readonly unknown[] = [constants.errno.ENOENT, constants.errno.ENXIO, constants.errno.ENODEV, 123, 124].map((errno) => -errno)

async function openUnlessGone(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, flags.O_RDONLY | flags.O_NONBLOCK)
  } catch (error) {
    if (error instanceof Error && 'errno' in error && GONE.includes(error.errno)) return null
    throw error
  }
}
