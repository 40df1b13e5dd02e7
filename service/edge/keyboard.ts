import {closeSync, constants, openSync, readdirSync, readFileSync, readSync} from 'node:fs'
import path from 'node:path'

/** Keyboards on which somebody may press Esc. */
export interface Keyboards extends Disposable {
  readonly count: number
}

/** A person who presses a key waits that long without noticing. */
const LOOK_EVERY_MS = 100

/**
 * Tells of Esc on every keyboard of the machine, until disposed. It listens to the input devices and
 * not to a terminal: whoever was reading the terminal when it was frozen would get the key.
 */
export function openKeyboards(onEscape: () => void, place = '/dev/input', sys = '/sys/class/input'): Keyboards {
  const fds = keyboardNames(place, sys).flatMap((name) => openQuietly(path.join(place, name)) ?? [])
  // The devices cannot be waited for: to Node they are files.
  const timer = setInterval(() => {
    if (fds.filter(hasEscape).length > 0) onEscape()
  }, LOOK_EVERY_MS)
  timer.unref()
  return {
    count: fds.length,
    [Symbol.dispose]() {
      clearInterval(timer)
      for (const fd of fds.splice(0)) closeSync(fd)
    },
  }
}

// linux/input-event-codes.h
const EV_KEY = 1
const KEY_ESC = 1
const PRESSED = 1
// struct input_event of linux/input.h on 64-bit machines: two longs of time, type, code, value.
const EVENT_BYTES = 24
const TYPE_OFFSET = 16
const CODE_OFFSET = 18
const VALUE_OFFSET = 20

function keyboardNames(place: string, sys: string): readonly string[] {
  return listQuietly(place).filter((name) => /^event\d+$/.test(name) && canEscape(path.join(sys, name)))
}

/** capabilities/key is a bitmap in words, the lowest last: drivers/input/input.c. */
function canEscape(directory: string): boolean {
  try {
    const lowest = readFileSync(path.join(directory, 'device/capabilities/key'), 'utf8').trim().split(' ').at(-1) ?? '0'
    return (BigInt(`0x${lowest}`) >> BigInt(KEY_ESC)) % 2n === 1n
  } catch {
    return false // It is gone, or no input device.
  }
}

function hasEscape(fd: number): boolean {
  const events = Buffer.alloc(64 * EVENT_BYTES)
  const length = readQuietly(fd, events)
  for (let start = 0; start + EVENT_BYTES <= length; start += EVENT_BYTES) {
    const event = events.subarray(start, start + EVENT_BYTES)
    const isKey = event.readUInt16LE(TYPE_OFFSET) === EV_KEY && event.readUInt16LE(CODE_OFFSET) === KEY_ESC
    if (isKey && event.readInt32LE(VALUE_OFFSET) === PRESSED) return true
  }
  return false
}

function openQuietly(file: string): number | null {
  try {
    return openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch {
    return null // Unplugged: nobody presses a key on it.
  }
}

/** 0 where nothing was pressed, or the keyboard is gone. */
function readQuietly(fd: number, target: Buffer): number {
  try {
    return readSync(fd, target)
  } catch {
    return 0
  }
}

function listQuietly(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
  } catch {
    return [] // A machine without any.
  }
}
