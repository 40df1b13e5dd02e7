import {closeSync, constants, fstatSync, openSync, readFileSync, readSync, type Stats, statSync} from 'node:fs'
import {findMountOf} from '../dm/filesystems.js'
import {openFiles} from '../edge/files.js'
import {type Consumer, isLogAround} from './consumers.js'

const STANDARD_OUTPUT = 1

/**
 * Why what is written to standard output would not be there when the power has gone; null when nothing is known against it.
 * The snapshot takes every file system on a block device back to its instant, memory is lost, and of who started this
 * command, or reads from a socket, nobody can tell when he has all of it.
 */
export function whyOutputIsLost(consumers: readonly Consumer[]): string | null {
  const status = fstatSync(STANDARD_OUTPUT)
  if (status.isSocket()) return 'it goes to a socket, and nobody can tell when the other side has kept it'
  if (status.isFIFO() && consumers.length === 0) return 'who started this command reads it, and would not get the end before the power goes'
  return whyFileIsLost('self')
}

/** What compresses to less than this part of what was sent is no image. */
const IMAGE_PART = 1 / 64

/** The same of the files of those who read, once they have got everything; what is much smaller is what they say about it. */
export function whyImageIsLost(consumers: readonly Consumer[], sentBytes: number): string | null {
  for (const {pid} of consumers) {
    const path = `/proc/${pid}/fd/${STANDARD_OUTPUT}`
    if ((fileOf(path)?.size ?? 0) < sentBytes * IMAGE_PART || isLogAround(path)) continue
    const why = whyFileIsLost(pid)
    if (why !== null) return `'${nameOf(pid)}' writes it to a file, but ${why}`
  }
  return null
}

/** What the last of the readers have left in the pipe when they ended. */
export interface Witness extends Disposable {
  readonly isAllRead: () => boolean
}

/** To be opened before standard output is closed. Where nobody else is known to read, who started us may still be reading. */
export function witnessPipe(consumers: readonly Consumer[]): Witness {
  if (consumers.length === 0 || !fstatSync(STANDARD_OUTPUT).isFIFO()) return {isAllRead: () => true, [Symbol.dispose]() {}}
  const fd = openSync(`/proc/self/fd/${STANDARD_OUTPUT}`, constants.O_RDONLY | constants.O_NONBLOCK)
  return {isAllRead: () => isEmpty(fd), [Symbol.dispose]: () => closeSync(fd)}
}

function isEmpty(fd: number): boolean {
  try {
    return readSync(fd, Buffer.alloc(1)) === 0
  } catch {
    // EAGAIN: somebody else has the pipe open for writing, and nothing is in it.
    return true
  }
}

const MEMORY_TYPES: readonly string[] = ['tmpfs', 'ramfs', 'devtmpfs']

/** Null also for what is no file: a device keeps what it gets. */
function whyFileIsLost(pid: number | 'self'): string | null {
  if (fileOf(`/proc/${pid}/fd/${STANDARD_OUTPUT}`) === null) return null
  const mount = findMountOf({pid, fd: STANDARD_OUTPUT}, openFiles())
  if (mount === null) return null
  const {mountPoint, type, isOnBlockDevice} = mount
  if (MEMORY_TYPES.includes(type)) return `what is below '${mountPoint}' is in memory`
  if (isOnBlockDevice || type === 'overlay') return `what is written below '${mountPoint}' after the snapshot goes with the power`
  return null
}

/** Null for what is no file, and where the process has ended or has closed it. */
function fileOf(path: string): Stats | null {
  try {
    const status = statSync(path)
    return status.isFile() ? status : null
  } catch {
    return null
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  } catch {
    return String(pid)
  }
}
