// What a hibernation cost: read from the image on the spare's raw disk, or from the kernel's log for the stock path.
import {open} from 'node:fs/promises'
import {loadDigest} from '../../service/image/digest.js'
import type {ImageHeader} from '../../service/image/header.js'
import {readHeader, type ImageSource} from '../../service/image/read.js'
import {decodeSuperblock, SUPERBLOCK_BYTES, type Superblock} from '../../service/image/superblock.js'

/** The fields of the JSON line of hibernate, stock and resume; null where nothing says. */
export interface Figures {
  readonly pauseMs: number | null
  readonly imageBytes: number | null
  readonly storedBytes: number | null
  readonly pagesCopied: number | null
  readonly pagesInPlace: number | null
}

export const NO_FIGURES: Figures = {
  pauseMs: null, imageBytes: null, storedBytes: null, pagesCopied: null, pagesInPlace: null
}

export interface SavedImage {
  readonly superblock: Superblock
  /** null when there is none: nothing was ever saved. */
  readonly header: ImageHeader | null
}

/** What is on a spare device, read from the host with the service's own reader; throws when it is damaged. */
export async function readSpare(path: string): Promise<SavedImage> {
  const file = await open(path)
  try {
    const source: ImageSource = {
      read: async (offset, length) => {
        const buffer = Buffer.alloc(length)
        const {bytesRead} = await file.read(buffer, 0, length, offset)
        return buffer.subarray(0, bytesRead)
      },
      readInto: async (target, offset) => (await file.read(target, 0, target.length, offset)).bytesRead
    }
    const digest = loadDigest()
    const superblock = decodeSuperblock(await source.read(0, SUPERBLOCK_BYTES), digest, path)
    const header = superblock.headerBytes === 0 ? null : await readHeader({source, superblock, digest, where: path})
    return {superblock, header}
  } finally {
    await file.close()
  }
}

export function figuresOfImage(saved: SavedImage): Figures {
  const lines = saved.header?.figures ?? {}
  const number = (key: string) => {
    const text = lines[key]
    return text === undefined || !/^\d+$/.test(text) ? null : Number(text)
  }
  const pauseNs = number('pause_ns')
  return {
    pauseMs: pauseNs === null ? null : Math.round(pauseNs / 1e6),
    imageBytes: saved.superblock.streamBytes,
    storedBytes: saved.superblock.storedBytes,
    pagesCopied: number('pages_copied'),
    pagesInPlace: number('pages_in_place')
  }
}

const PAGE_BYTES = 4096

/**
 * What the stock path says on the console while it saves. It stops all user processes from the freeze until the
 * power goes, so its pause is the whole save.
 */
export function figuresOfConsole(text: string): Figures {
  const copied = lastNumber(text, /Image created \((\d+) pages copied/g)
  const storedKilobytes = lastNumber(text, /Image size after compression: (\d+) kbytes/g)
  const frozenAt = lastNumber(text, /^\[\s*([\d.]+)\] Freezing user space processes\r?$/gm)
  const endedAt = lastNumber(text, /^\[\s*([\d.]+)\]/gm)
  return {
    pauseMs: frozenAt === null || endedAt === null ? null : Math.round((endedAt - frozenAt) * 1000),
    imageBytes: copied === null ? null : copied * PAGE_BYTES,
    storedBytes: storedKilobytes === null ? null : storedKilobytes * 1024,
    pagesCopied: copied,
    pagesInPlace: null
  }
}

function lastNumber(text: string, pattern: RegExp): number | null {
  const digits = [...text.matchAll(pattern)].at(-1)?.[1]
  return digits === undefined ? null : Number(digits)
}
