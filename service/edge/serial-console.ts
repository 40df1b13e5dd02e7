import {closeSync, constants, openSync, readFileSync, readSync} from 'node:fs'
import path from 'node:path'
import koffi from 'koffi'
import type {Keyboards} from './keyboard.js'

/** A person who presses a key waits that long without noticing. */
const LOOK_EVERY_MS = 100

/**
 * Tells of Esc typed on every serial console of the machine, until disposed. Meanwhile what is typed there is taken
 * from whoever reads the terminal, who is frozen, and is not echoed; the terminal is then as it was. A daemon that is
 * killed leaves it as `stty -icanon -echo` does.
 */
export function openSerialConsoles(onEscape: () => void, dev = '/dev', active = '/sys/class/tty/console/active'): Keyboards {
  const lines = consoleNames(active).flatMap((name) => openQuietly(path.join(dev, name)) ?? [])
  const timer = setInterval(() => {
    if (lines.filter((line) => line.takeEscape()).length > 0) onEscape()
  }, LOOK_EVERY_MS)
  timer.unref()
  return {
    count: lines.length,
    [Symbol.dispose]() {
      clearInterval(timer)
      for (const line of lines.splice(0)) line[Symbol.dispose]()
    },
  }
}

interface Line extends Disposable {
  /** Whether Esc was among what was typed since the last look, or the one before at its end. */
  takeEscape(): boolean
}

// struct termios of glibc's bits/termios-struct.h on x86-64, and flags of asm-generic/termbits.h.
const TERMIOS_BYTES = 60
const LOCAL_FLAGS_OFFSET = 12
const ICANON = 0o2
const ECHO = 0o10
const TCSANOW = 0

/** Those of Documentation/ABI/testing/sysfs-tty, without virtual terminals, whose keys the keyboards give. */
function consoleNames(active: string): readonly string[] {
  try {
    return readFileSync(active, 'latin1').trim().split(' ').filter((name) => name !== '' && !/^tty\d+$/.test(name))
  } catch {
    return [] // No consoles at all.
  }
}

/** Null where there is no such terminal. */
function openQuietly(file: string): Line | null {
  try {
    const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
    const restore = takeEachKey(fd)
    if (restore !== null) {
      return {
        takeEscape: escapesOf(() => readQuietly(fd)),
        [Symbol.dispose]() {
          restore()
          closeSync(fd)
        },
      }
    }
    closeSync(fd)
    return null
  } catch {
    return null // It is gone.
  }
}

/** Lets a read have each key at once, and not a line at its end. Gives what takes that back; null where it is no terminal. */
function takeEachKey(fd: number): (() => void) | null {
  const libc = koffi.load('libc.so.6')
  const get = libc.func('int tcgetattr(int fd, void *termios)')
  const set = libc.func('int tcsetattr(int fd, int when, const void *termios)')
  const before = Buffer.alloc(TERMIOS_BYTES)
  if (get(fd, before) !== 0) return null
  const each = Buffer.from(before)
  each.writeUInt32LE(before.readUInt32LE(LOCAL_FLAGS_OFFSET) & ~(ICANON | ECHO), LOCAL_FLAGS_OFFSET)
  if (set(fd, TCSANOW, each) !== 0) return null
  return () => void set(fd, TCSANOW, before)
}

/** Empty where nothing was typed, or the line is gone. */
function readQuietly(fd: number): Buffer {
  const bytes = Buffer.alloc(256)
  try {
    return bytes.subarray(0, readSync(fd, bytes))
  } catch {
    return Buffer.alloc(0)
  }
}

const ESCAPE = 0x1b
/** Behind Esc they begin what an arrow or function key sends: ECMA-48, CSI and SS3. */
const KEY_SEQUENCES = '[O'

/**
 * Tells at each look whether Esc is among what `read` gives: an Esc at its end may begin the sequence of a key, which
 * the next look shows.
 */
export function escapesOf(read: () => Buffer): () => boolean {
  let held = Buffer.alloc(0)
  return () => {
    const typed = read()
    const end = typed.at(-1) === ESCAPE ? typed.length - 1 : typed.length
    const judged = Buffer.concat([held, typed.subarray(0, end)])
    held = Buffer.from(typed.subarray(end))
    return hasEscape(judged)
  }
}

function hasEscape(typed: Buffer): boolean {
  return typed.some((byte, index) => {
    const next = typed[index + 1]
    return byte === ESCAPE && (next === undefined || !KEY_SEQUENCES.includes(String.fromCharCode(next)))
  })
}
