/** A block device as the kernel names it in sysfs, in mountinfo and in device-mapper tables. */
export interface DeviceNumber {
  readonly major: number
  readonly minor: number
}

export function printDeviceNumber(device: DeviceNumber): string {
  return `${device.major}:${device.minor}`
}

/** Null when `text` is not of the form "major:minor". */
export function parseDeviceNumber(text: string): DeviceNumber | null {
  const match = /^(\d{1,7}):(\d{1,7})$/.exec(text)
  return match === null ? null : {major: Number(match[1]), minor: Number(match[2])}
}

/** Splits the `rdev` of stat(2) as gnu_dev_major() and gnu_dev_minor() do. */
export function deviceNumberOf(rdev: number): DeviceNumber {
  const wide = BigInt(rdev)
  return {
    major: Number(((wide >> 8n) & 0xfffn) | ((wide >> 32n) & 0xfffff000n)),
    minor: Number((wide & 0xffn) | ((wide >> 12n) & 0xffffff00n)),
  }
}
