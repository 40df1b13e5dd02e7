/** How our devices are called; restoring after a crash knows them by these names alone. */
const BASE_SUFFIX = '-permafrost-base'
const COW_SUFFIX = '-permafrost-cow'
/** Given by the initramfs to the linear device around a plain partition: this, and the kernel's name of it. */
const WRAP_UUID_PREFIX = 'PERMAFROST-wrap-'

export function baseName(live: string): string {
  return `${live}${BASE_SUFFIX}`
}

export function cowName(live: string): string {
  return `${live}${COW_SUFFIX}`
}

export function baseUuid(live: string): string {
  return `PERMAFROST-base-${live}`
}

export function cowUuid(live: string): string {
  return `PERMAFROST-cow-${live}`
}

/** The live device to which a base or copy-on-write device belongs, or null when it is neither. */
export function liveNameOf(name: string): string | null {
  const suffix = [BASE_SUFFIX, COW_SUFFIX].find((known) => name.endsWith(known))
  return suffix === undefined ? null : name.slice(0, -suffix.length)
}

/** Where the initramfs, before anything is mounted, finds what is under a file system. */
export function pathUnder(device: {readonly name: string; readonly uuid: string}): string {
  return device.uuid.startsWith(WRAP_UUID_PREFIX)
    ? `/dev/${device.uuid.slice(WRAP_UUID_PREFIX.length)}`
    : `/dev/mapper/${device.name}`
}
