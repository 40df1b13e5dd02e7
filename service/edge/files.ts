import {readdirSync, readFileSync, readlinkSync, realpathSync, statSync} from 'node:fs'
import {deviceNumberOf, type DeviceNumber} from './device-number.js'

/**
 * What the kernel and the system tell through files: /proc, /sys, /dev, /run. All of them
 * are small and answer at once, so reading is synchronous. Null where a file is not there.
 */
export interface Files {
  readText(path: string): string | null
  list(path: string): readonly string[]
  /** The number of a block device's node, symbolic links followed. */
  blockDevice(path: string): DeviceNumber | null
  realPath(path: string): string | null
  /** What a symbolic link says. */
  link(path: string): string | null
}

export function openFiles(): Files {
  return {
    readText: (path) => orNull(() => readFileSync(path, 'utf8')),
    list: (path) => orNull(() => readdirSync(path)) ?? [],
    blockDevice: (path) =>
      orNull(() => {
        const status = statSync(path)
        return status.isBlockDevice() ? deviceNumberOf(status.rdev) : null
      }),
    realPath: (path) => orNull(() => realpathSync(path)),
    link: (path) => orNull(() => readlinkSync(path)),
  }
}

/** Not being there is an answer; so is being unreadable, as sysfs has files that only some drivers fill. */
function orNull<Value>(read: () => Value): Value | null {
  try {
    return read()
  } catch (error) {
    if (isSystemError(error)) return null
    throw error
  }
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error
}
