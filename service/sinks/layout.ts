import {SpareTooSmallError} from '../errors.js'
import {NO_ID, type Superblock} from '../image/superblock.js'

const MIB = 2 ** 20

/** Before it: the superblock, and zeros where signatures of others would be. */
const IMAGE_AREA_OFFSET = MIB
/** Unused behind everything: RAID and partition tables keep copies at the end of a device, and blkid looks there. */
const TAIL_BYTES = MIB
/** What needed daemons write in the minute that saving takes fits many times over. */
const COW_BYTES_MINIMUM = 64 * MIB
/** Larger machines have more daemons and more memory to write while they run. */
const COW_PARTS = 16
/** A small device is for the image first. */
const COW_PARTS_AT_LEAST = 4
/** Less holds no image of any machine that runs Node. */
const DEVICE_BYTES_MINIMUM = 32 * MIB

/** How a spare device is divided when it is set up: superblock, image, copy-on-write slices, nothing. */
export function layOutDevice(request: {
  readonly device: string
  readonly deviceBytes: number
  readonly deviceId: string
}): Superblock {
  const {device, deviceId} = request
  const deviceBytes = Math.floor(request.deviceBytes / MIB) * MIB
  if (deviceBytes < DEVICE_BYTES_MINIMUM) throw new SpareTooSmallError(device, DEVICE_BYTES_MINIMUM, request.deviceBytes)
  const wanted = Math.max(COW_BYTES_MINIMUM, deviceBytes / COW_PARTS)
  const cowAreaBytes = Math.floor(Math.min(deviceBytes / COW_PARTS_AT_LEAST, wanted) / MIB) * MIB
  const cowAreaOffset = deviceBytes - TAIL_BYTES - cowAreaBytes
  return {
    state: 'empty',
    deviceId,
    imageId: NO_ID,
    deviceBytes,
    imageAreaOffset: IMAGE_AREA_OFFSET,
    imageAreaBytes: cowAreaOffset - IMAGE_AREA_OFFSET,
    cowAreaOffset,
    cowAreaBytes,
    headerOffset: 0,
    headerBytes: 0,
    headerDigest: 0n,
    createdUnixSeconds: 0,
    storedBytes: 0,
    streamBytes: 0,
    parentId: NO_ID,
  }
}
