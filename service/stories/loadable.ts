import {TooLittleMemoryError} from '../errors.js'
import {PAGE_BYTES} from '../page.js'
import {readMeminfo} from './meminfo.js'

/** What memory may be missing for, in the words of TooLittleMemoryError. */
export const FOR_THE_COPY = "for the kernel's copy"
export const TO_LOAD = 'to load the image at the next boot'

/**
 * A kernel that has just started, an initramfs and the buffers of the loader, with some MiB for what it may not be short of. An image
 * with larger chunks, for which the loader has larger buffers, is made only where far more than those is free: chooseChunkBytes().
 */
const LOADER_BYTES = 64 * 2 ** 20

/** For lists of page frames and the like: the kernel wants a page for each 170 of the image, prepare_image() in kernel/power/snapshot.c. */
const LISTS_PART = 1 / 128

/** What the system that loads an image at the next boot needs of memory beside it, in bytes; by this machine's memory. */
export function loaderBytes(totalBytes: number): number {
  return LOADER_BYTES + Math.ceil(totalBytes * LISTS_PART)
}

/**
 * An image of almost all of memory could not be loaded again: throws TooLittleMemoryError. `pages` counts what is
 * copied and what is in place, zeros included, for each of them takes a page while the image is loaded.
 */
export function checkLoadable(meminfo: string, pages: number): void {
  const totalBytes = readMeminfo(meminfo)('MemTotal')
  const missingBytes = pages * PAGE_BYTES + loaderBytes(totalBytes) - totalBytes
  if (totalBytes > 0 && missingBytes > 0) throw new TooLittleMemoryError(missingBytes, TO_LOAD)
}
