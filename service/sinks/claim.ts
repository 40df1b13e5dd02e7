import {printDeviceNumber} from '../edge/device-number.js'
import type {Files} from '../edge/files.js'
import {SpareInUseError} from '../errors.js'
import type {FindSignature, Signature} from './signature.js'

/**
 * Throws SpareInUseError, naming it, when there is a signature of a file system, swap area,
 * volume, container or partition table on the device. Our own superblock survives mkfs
 * of some of them, so it alone proves nothing.
 */
export async function refuseForeignSignature(device: string, findSignature: FindSignature): Promise<void> {
  const complaint = describeSignature(await findSignature(device))
  if (complaint !== null) throw new SpareInUseError(device, complaint)
}

/** What holds a device that cannot be opened exclusively, as far as the kernel tells. */
export function describeHolder(device: string, files: Files): string {
  const number = files.blockDevice(device)
  if (number === null) return 'it is held by somebody'
  const text = printDeviceNumber(number)
  const mount = (files.readText('/proc/self/mountinfo') ?? '').split('\n').find((line) => line.split(' ')[2] === text)
  if (mount !== undefined) return `it is mounted on '${mount.split(' ')[4] ?? ''}'`
  const swaps = (files.readText('/proc/swaps') ?? '').split('\n').slice(1)
  if (swaps.some((line) => line.split(/\s/)[0] === files.realPath(device))) return 'it is used for swapping'
  const holders = files.list(`/sys/dev/block/${text}/holders`)
  return holders.length > 0 ? `it is held by '${holders.join("', '")}'` : 'it or a partition of it is held by somebody'
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
