import {printDeviceNumber, type DeviceNumber} from './device-number.js'
import {SYSFS_SECTOR_BYTES} from './direct-device.js'
import type {Files} from './files.js'
import {decodeOctal} from './octal.js'

/** A block device that pages are swapped out to. */
export interface SwapDevice {
  readonly number: DeviceNumber
  readonly bytes: number
}

/** In the order of /proc/swaps: proc(5). Swap files are none. */
export function findSwapDevices(files: Files): readonly SwapDevice[] {
  return listSwapPaths(files).flatMap((path) => {
    const number = files.blockDevice(path)
    if (number === null) return []
    const sectors = files.readText(`${directoryOf(number)}/size`) ?? '0'
    return {number, bytes: Number(sectors) * SYSFS_SECTOR_BYTES}
  })
}

/** Of devices and of files, as the kernel names them. */
export function listSwapPaths(files: Files): readonly string[] {
  const [, ...lines] = (files.readText('/proc/swaps') ?? '').trim().split('\n')
  return lines.map((line) => decodeOctal(line.split(/\s/)[0] ?? ''))
}

/** Whether a driver found it on a bus, as a whole or in parts; what is made of other devices, of files or of memory has no such link. */
export function isDisk(number: DeviceNumber, files: Files): boolean {
  const directory = directoryOf(number)
  const whole = files.readText(`${directory}/partition`) === null ? directory : `${directory}/..`
  return files.list(`${whole}/device`).length > 0
}

function directoryOf(number: DeviceNumber): string {
  return `/sys/dev/block/${printDeviceNumber(number)}`
}
