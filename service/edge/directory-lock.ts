import {closeSync, constants, openSync} from 'node:fs'
import {constants as osConstants} from 'node:os'
import koffi from 'koffi'

// include/uapi/asm-generic/fcntl.h.
const LOCK_EX = 2
const LOCK_NB = 4

/**
 * Has a directory for oneself until it is disposed of or the process ends: flock(2). Gives null when somebody else has it.
 * Where the file system has no such locks everybody gets one. Throws what open(2) throws.
 */
export function lockDirectory(directory: string): Disposable | null {
  const flock = koffi.load('libc.so.6').func('int flock(int fd, int operation)')
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  // Once: its number may be somebody else's by the next time.
  let isOpen = true
  const unlock = (): void => {
    if (isOpen) closeSync(fd)
    isOpen = false
  }
  if (Number(flock(fd, LOCK_EX | LOCK_NB)) < 0 && koffi.errno() === osConstants.errno.EWOULDBLOCK) {
    unlock()
    return null
  }
  return {[Symbol.dispose]: unlock}
}
