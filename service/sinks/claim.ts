import {printDeviceNumber} from '../edge/device-number.js'
import type {Files} from '../edge/files.js'
import {listSwapPaths} from '../edge/swaps.js'
import {SpareInUseError} from '../errors.js'
import type {FindSignature, Signature} from './signature.js'

/**
 * Throws SpareInUseError, naming it, when there is a signature of a file system, swap area,
 * volume, container or partition table on the device. Our own superblock survives mkfs
 * of some of them, so it alone proves nothing.
 */
export async function refuseForeignSignature(device: string, findSignature: FindSignature): Promise<void> {
  const complaint = describeSignature(await findSignature(device))
  if (complaint === null) return
  throw new SpareInUseError(device, `${complaint}; if nothing on it is needed, 'permafrost setup --force ${device}' takes it`)
}

/** What holds a device that cannot be opened exclusively, or a partition of it, as far as the kernel tells. */
export function describeHolder(device: string, files: Files): string {
  const number = files.blockDevice(device)
  if (number === null) return 'it is held by somebody'
  const directory = `/sys/dev/block/${printDeviceNumber(number)}`
  const own = describeUse(directory, files.realPath(device) ?? device, files)
  if (own !== null) return `it is ${own}`
  for (const name of files.list(directory)) {
    if (files.readText(`${directory}/${name}/partition`) === null) continue
    const use = describeUse(`${directory}/${name}`, `/dev/${name}`, files)
    if (use !== null) return `its partition '${name}' is ${use}`
  }
  return 'it or a partition of it is held by somebody'
}

/** `directory` is the device's in sysfs, `path` its node. */
function describeUse(directory: string, path: string, files: Files): string | null {
  const number = files.readText(`${directory}/dev`)?.trim()
  const mount = (files.readText('/proc/self/mountinfo') ?? '').split('\n').find((line) => line.split(' ')[2] === number)
  if (mount !== undefined) return `mounted on '${mount.split(' ')[4] ?? ''}'`
  if (listSwapPaths(files).includes(path)) return 'used for swapping'
  const holders = files.list(`${directory}/holders`).map((name) => files.readText(`${directory}/holders/${name}/dm/name`)?.trim() ?? name)
  return holders.length > 0 ? `held by '${holders.join("', '")}'` : null
}

function describeSignature(signature: Signature): string | null {
  switch (signature.kind) {
    case 'none':
      return null
    case 'content':
      return `it has a signature of '${signature.type}'`
    case 'partitions':
      return `it has a signature of a '${signature.type}' partition table`
    case 'ambivalent':
      return 'it has signatures of several file systems'
    default:
      return signature satisfies never
  }
}
