import {printDeviceNumber} from '../edge/device-number.js'
import type {Exec} from '../edge/exec.js'
import type {Files} from '../edge/files.js'
import {SpareInUseError} from '../errors.js'

/** blkid(8): nothing was found. */
const NOTHING_FOUND = 2
/** blkid(8): several signatures contradict one another. */
const AMBIVALENT = 8

/**
 * Throws SpareInUseError, naming it, when there is a signature of a file system, swap area,
 * volume, container or partition table on the device. Our own superblock survives mkfs
 * of some of them, so it alone proves nothing.
 */
export async function refuseForeignSignature(device: string, exec: Exec): Promise<void> {
  const {exitStatus, output} = await exec('blkid', ['-p', '-o', 'export', '--', device], {
    accept: [0, NOTHING_FOUND, AMBIVALENT],
  })
  if (exitStatus === AMBIVALENT) throw new SpareInUseError(device, 'it has signatures of several file systems')
  const found = nameSignature(output)
  if (found !== null) throw new SpareInUseError(device, `it has a signature of ${found}`)
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

function nameSignature(output: string): string | null {
  const values = new Map(
    output.split('\n').map((line): [string, string] => {
      const separator = line.indexOf('=')
      return [line.slice(0, separator), line.slice(separator + 1)]
    }),
  )
  const type = values.get('TYPE')
  if (type !== undefined) return `'${type}'`
  const table = values.get('PTTYPE')
  return table === undefined ? null : `a '${table}' partition table`
}
