import {createHash} from 'node:crypto'
import {accessSync, closeSync, constants, openSync, readdirSync, readFileSync, readSync, statSync} from 'node:fs'
import path from 'node:path'
import {isTrusted} from '../configuration/drop-ins.js'

/** SHA-256 of loaders, as hexadecimal digits; null where there is none. */
export interface Loaders {
  readonly installed: string | null
  /** In the initramfs file of the running kernel; null when there is no such file. */
  readonly built: {readonly file: string; readonly digest: string | null} | null
  /** In the initramfs this boot came from. */
  readonly booted: string | null
}

export interface LoaderPlaces {
  readonly installed: string
  readonly initramfs: string
  readonly booted: string
}

export const LOADER = '/usr/lib/permafrost/permafrost-loader'

/** The initramfs of a kernel, where Debian has it. */
export function loaderPlaces(release: string): LoaderPlaces {
  return {installed: LOADER, initramfs: `/boot/initrd.img-${release}`, booted: `/run/permafrost/${MARK}`}
}

/**
 * Which loader is where. Nothing is unpacked: units/initramfs/hook puts a mark in front of what is compressed,
 * and units/initramfs/init-top keeps that of its boot.
 */
export function findLoaders(places: LoaderPlaces): Loaders {
  const loader = orNull(() => readFileSync(places.installed))
  return {
    installed: loader === null ? null : createHash('sha256').update(loader).digest('hex'),
    built: orNull(() => ({file: places.initramfs, digest: readMark(places.initramfs, MARK_PATH)})),
    booted: orNull(() => readFileSync(places.booted, 'latin1').trim()),
  }
}

/** What an initramfs needs to bring an image back that went elsewhere. */
export interface WayBackMarks {
  /** What the initramfs file of the running kernel says of itself; null when there is no such file. */
  readonly built: {readonly file: string; readonly words: readonly string[]} | null
  /** Of what is now in the places of the certificate, its key and the authority; null where one is missing. */
  readonly tlsDigest: string | null
  /** The programs of resume.d that only root may write to. */
  readonly programs: readonly string[]
}

export interface WayBackPlaces {
  readonly initramfs: string
  /** In the order in which units/initramfs/hook digests them. */
  readonly tlsFiles: readonly string[]
  readonly programs: string
}

/** `net`: network cards have their drivers there. `tls=DIGEST`: openssl and those files are there. */
export function findWayBackMarks({initramfs, tlsFiles, programs}: WayBackPlaces): WayBackMarks {
  return {
    built: orNull(() => ({file: initramfs, words: (readMark(initramfs, WAY_BACK_PATH) ?? '').split(' ')})),
    tlsDigest: orNull(() => createHash('sha256').update(Buffer.concat(tlsFiles.map((file) => readFileSync(file)))).digest('hex')),
    programs: isSafe(programs) ? readdirSync(programs).filter((name) => isExecutable(path.join(programs, name)) && isSafe(path.join(programs, name))) : [],
  }
}

/** As the hook judges it. */
function isSafe(file: string): boolean {
  return orNull(() => isTrusted(statSync(file))) ?? false
}

function isExecutable(file: string): boolean {
  return orNull(() => accessSync(file, constants.X_OK)) !== null
}

const MARK = 'loader.sha256'
const MARK_PATH = `permafrost/${MARK}`
const WAY_BACK_PATH = 'permafrost/way-back'

// The "newc" archives an initramfs is made of: Documentation/driver-api/early-userspace/buffer-format.rst
const MAGIC = '070701'
const HEADER_BYTES = 110
const FILE_SIZE_OFFSET = 54
const NAME_SIZE_OFFSET = 94
const FIELD_DIGITS = 8
const ALIGNMENT = 4
/** Archives are padded with zeros to as much as this. */
const PADDING_BYTES = 512
/** Microcode and the like are a handful of files. */
const ENTRIES_MAXIMUM = 1000

/** The mark among the archives that are not compressed, or null. Throws where there is no such file. */
function readMark(file: string, markPath: string): string | null {
  const fd = openSync(file, 'r')
  try {
    let offset = 0
    for (let entry = 0; entry < ENTRIES_MAXIMUM; entry += 1) {
      offset += countZeros(readAt(fd, offset, PADDING_BYTES))
      const header = readAt(fd, offset, HEADER_BYTES).toString('latin1')
      if (header.length < HEADER_BYTES || !header.startsWith(MAGIC)) return null
      const nameBytes = readField(header, NAME_SIZE_OFFSET)
      const fileBytes = readField(header, FILE_SIZE_OFFSET)
      const contentOffset = align(offset + HEADER_BYTES + nameBytes)
      if (nameBytes === markPath.length + 1 && readAt(fd, offset + HEADER_BYTES, nameBytes - 1).toString('latin1') === markPath) {
        return readAt(fd, contentOffset, Math.min(fileBytes, PADDING_BYTES)).toString('latin1').trim()
      }
      offset = align(contentOffset + fileBytes)
    }
    return null
  } finally {
    closeSync(fd)
  }
}

function readField(header: string, offset: number): number {
  return Number.parseInt(header.slice(offset, offset + FIELD_DIGITS), 16)
}

function countZeros(bytes: Buffer): number {
  const first = bytes.findIndex((byte) => byte !== 0)
  return first === -1 ? bytes.length : first
}

function align(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT
}

/** As much as there is. */
function readAt(fd: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  return bytes.subarray(0, readSync(fd, bytes, 0, length, offset))
}

/** What is not there, or not to be read, is answered like that. */
function orNull<Value>(read: () => Value): Value | null {
  try {
    return read()
  } catch {
    return null
  }
}
