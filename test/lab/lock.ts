// Locks between processes by flock(2): the kernel drops them when their holder dies, however it dies.
import {closeSync, openSync} from 'node:fs'
import {setTimeout as delay} from 'node:timers/promises'
import koffi from 'koffi'
import {LaboratoryError} from './errors.js'

const LOCK_EX = 2
const LOCK_NB = 4
const POLL_MS = 50

/** A held lock; disposing of it lets the next one in. */
export class FileLock implements Disposable {
  readonly #fd: number

  constructor(fd: number) {
    this.#fd = fd
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

/** Takes the lock at once or gives null. */
export function tryLock(file: string): FileLock | null {
  const fd = openSync(file, 'a')
  if (loadFlock()(fd, LOCK_EX | LOCK_NB) === 0)
    return new FileLock(fd)
  closeSync(fd)
  return null
}

/** Waits for the lock; `what` names the thing for the message when it does not come. */
export async function lock(file: string, what: string, signal: AbortSignal): Promise<FileLock> {
  for (;;) {
    const held = tryLock(file)
    if (held !== null)
      return held
    if (signal.aborted)
      throw new LaboratoryError(`Cannot lock ${what}: another process holds '${file}'`)
    await delay(POLL_MS)
  }
}

function loadFlock(): (fd: number, operation: number) => number {
  const flock = koffi.load('libc.so.6').func('int flock(int fd, int operation)')
  return (fd, operation) => Number(flock(fd, operation))
}
