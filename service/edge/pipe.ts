import {closeSync, fstatSync, openSync, read, write} from 'node:fs'
import {Socket} from 'node:net'
import {setTimeout as delay} from 'node:timers/promises'
import {StreamOutput} from './stream-output.js'

/** Bytes that can only be read in order. */
export interface ByteInput {
  /** Fills `target`; gives fewer bytes only where there are no more. */
  fill(target: Buffer): Promise<number>
}

/** Bytes that can only be written in order. */
export interface ByteOutput {
  append(bytes: Buffer): Promise<void>
}

/**
 * A file descriptor that somebody else opened: a pipe, a socket, a file. Each call waits on another thread; where the
 * descriptor was made non-blocking by whoever shares it (ssh does), it is asked again until it can.
 */
export function inputFrom(fd: number): ByteInput {
  return {
    async fill(target) {
      let filled = 0
      while (filled < target.length) {
        const count = await patiently(() => once((done) => read(fd, target, filled, target.length - filled, null, done)))
        if (count === 0) break
        filled += count
      }
      return filled
    },
  }
}

export function outputTo(fd: number): ByteOutput {
  return {
    async append(bytes) {
      let written = 0
      while (written < bytes.length) {
        written += await patiently(() => once((done) => write(fd, bytes, written, bytes.length - written, null, done)))
      }
    },
  }
}

/**
 * Standard output. Node makes a pipe there non-blocking for everybody who shares it; another description of the same pipe
 * can be waited for like any other.
 */
export function openStandardOutput(): ByteOutput & {close(): void} {
  if (!fstatSync(STANDARD_OUTPUT).isFIFO()) return {...outputTo(STANDARD_OUTPUT), close: () => closeSync(STANDARD_OUTPUT)}
  const socket = new Socket({fd: openSync(`/proc/self/fd/${STANDARD_OUTPUT}`, 'w'), readable: false, writable: true})
  const output = new StreamOutput(socket)
  return {
    append: (bytes) => output.append(bytes),
    close() {
      socket.destroy()
      closeSync(STANDARD_OUTPUT)
    },
  }
}

const STANDARD_OUTPUT = 1

/** Such a descriptor tells nobody through libuv's file calls when it is ready. */
const ASKED_AGAIN_MS = 5

async function patiently(act: () => Promise<number>): Promise<number> {
  for (;;) {
    try {
      return await act()
    } catch (error) {
      if (!(error instanceof Error) || Reflect.get(error, 'code') !== 'EAGAIN') throw error
      await delay(ASKED_AGAIN_MS)
    }
  }
}

function once(act: (done: (error: Error | null, count: number) => void) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    act((error, count) => {
      if (error) reject(error)
      else resolve(count)
    })
  })
}
