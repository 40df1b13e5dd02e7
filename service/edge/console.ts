import {closeSync, constants, openSync, writeSync} from 'node:fs'

/** The machine's console: the one place a person can look at while everything else is frozen. */
export interface Console extends Disposable {
  /** Writes a line, or as much of it as fits without waiting. */
  write(line: string): void
}

/** Where there is no console, lines go nowhere. */
export function openConsole(file = '/dev/console'): Console {
  const fd = openQuietly(file)
  return {
    write(line) {
      if (fd !== null) writeQuietly(fd, `${line}\n`)
    },
    [Symbol.dispose]() {
      if (fd !== null) closeSync(fd)
    },
  }
}

function openQuietly(file: string): number | null {
  try {
    return openSync(file, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch {
    return null // No console: progress is a courtesy.
  }
}

function writeQuietly(fd: number, text: string): void {
  try {
    writeSync(fd, text)
  } catch {
    // The console is full or gone: progress is a courtesy.
  }
}
