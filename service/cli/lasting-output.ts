import {closeSync, constants, fstatSync, openSync, readFileSync, readSync, statfsSync, statSync} from 'node:fs'
import {findBlockMounts} from '../dm/filesystems.js'
import {deviceNumberOf, printDeviceNumber} from '../edge/device-number.js'
import {openFiles} from '../edge/files.js'
import type {Consumer} from './consumers.js'

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
  const own = whyFileIsLost(`/proc/self/fd/${STANDARD_OUTPUT}`)
  if (own !== null) return own
  for (const {pid} of consumers) {
    const why = whyFileIsLost(`/proc/${pid}/fd/${STANDARD_OUTPUT}`)
    if (why !== null) return `'${nameOf(pid)}' writes it to a file, but ${why}`
  }
  return null
}

/** What the last of the readers have left in the pipe when they ended. */
export interface Witness extends Disposable {
  readonly isAllRead: () => boolean
}

/** To be opened before standard output is closed. Of what is no pipe nothing is known. */
export function witnessPipe(): Witness {
  if (!fstatSync(STANDARD_OUTPUT).isFIFO()) return {isAllRead: () => true, [Symbol.dispose]() {}}
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

/** statfs(2), TMPFS_MAGIC, RAMFS_MAGIC and OVERLAYFS_SUPER_MAGIC of linux/magic.h. */
const FLEETING: ReadonlyMap<number, string> = new Map([
  [0x0102_1994, 'that is in memory'],
  [0x8584_58F6, 'that is in memory'],
  [0x794C_7630, 'an overlay lies on other file systems'],
])

/** Null also for what is no file: a device keeps what it gets. */
function whyFileIsLost(path: string): string | null {
  try {
    const status = statSync(path)
    if (!status.isFile()) return null
    const fleeting = FLEETING.get(statfsSync(path).type)
    if (fleeting !== undefined) return fleeting
    const device = printDeviceNumber(deviceNumberOf(status.dev))
    const mount = findBlockMounts(openFiles()).find(({number}) => printDeviceNumber(number) === device)
    return mount === undefined ? null : `what is written below '${mount.mountPoint}' after the snapshot goes with the power`
  } catch {
    // A process that has ended, or has closed it.
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
