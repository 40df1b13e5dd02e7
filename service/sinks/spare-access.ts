import {DIRECT_IO_ALIGNMENT} from '../edge/aligned.js'
import {DirectDevice} from '../edge/direct-device.js'
import type {Files} from '../edge/files.js'
import {NoSpareDeviceError, PermafrostError, SinkError, SpareInUseError} from '../errors.js'
import type {Digest} from '../image/digest.js'
import {decodeSuperblock, encodeSuperblock, type Superblock} from '../image/superblock.js'
import {describeHolder} from './claim.js'

/** Refuses, saying who, when anybody holds the device, and holds it while open. */
export async function openExclusive(path: string, files: Files): Promise<DirectDevice> {
  try {
    return await DirectDevice.openForWriting(path, {isExclusive: true})
  } catch (cause) {
    if (hasCode(cause, 'EBUSY')) throw new SpareInUseError(path, describeHolder(path, files))
    throw new NoSpareDeviceError(path, {cause})
  }
}

/** For when our own copy-on-write slices hold the device. */
export async function openShared(path: string): Promise<DirectDevice> {
  try {
    return await DirectDevice.openForWriting(path, {isExclusive: false})
  } catch (cause) {
    throw new NoSpareDeviceError(path, {cause})
  }
}

export async function readSuperblock(device: DirectDevice, path: string, digest: Digest): Promise<Superblock> {
  const block = await attempt('read', path, () => device.read(0, DIRECT_IO_ALIGNMENT))
  return decodeSuperblock(block, digest, path)
}

/**
 * On the medium when it returns. Only the first 512 bytes change, in one write of one block: a
 * device whose sectors are larger writes all of it or none as well.
 */
export async function writeSuperblock(
  device: DirectDevice,
  path: string,
  superblock: Superblock,
  digest: Digest,
): Promise<void> {
  await attempt(`mark an image ${superblock.state} on`, path, async () => {
    const block = await device.read(0, DIRECT_IO_ALIGNMENT)
    encodeSuperblock(superblock, digest).copy(block)
    await device.write(block, 0)
    await device.flush()
  })
}

/** Errors of the system become SinkError; our own pass as they are. */
export async function attempt<Value>(what: string, path: string, act: () => Promise<Value>): Promise<Value> {
  try {
    return await act()
  } catch (cause) {
    throw cause instanceof PermafrostError ? cause : new SinkError(what, path, {cause})
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && Reflect.get(error, 'code') === code
}
