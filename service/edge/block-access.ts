import {allocateAligned} from './aligned.js'
import {printDeviceNumber, type DeviceNumber} from './device-number.js'
import {DirectDevice} from './direct-device.js'
import type {Files} from './files.js'

/** Block devices by number, past the page cache. */
export interface BlockAccess {
  openForReading(device: DeviceNumber): Promise<BlockReader>
  /** Overwrites the first `bytes` of the device with zeros. */
  zeroStart(device: DeviceNumber, bytes: number): Promise<void>
}

export interface BlockReader extends AsyncDisposable {
  read(offset: number, length: number): Promise<Buffer>
}

export function openBlockAccess(files: Files): BlockAccess {
  return {
    openForReading: (device) => DirectDevice.openForReading(nodeOf(device, files)),
    async zeroStart(device, bytes) {
      await using opened = await DirectDevice.openForWriting(nodeOf(device, files), {isExclusive: false})
      await opened.write(allocateAligned(bytes), 0)
      await opened.flush()
    },
  }
}

/** The node the kernel itself makes in /dev, which is there without udev. */
function nodeOf(device: DeviceNumber, files: Files): string {
  const text = printDeviceNumber(device)
  const name = /^DEVNAME=(.+)$/m.exec(files.readText(`/sys/dev/block/${text}/uevent`) ?? '')?.[1]
  if (name === undefined) throw new Error(`Cannot open block device '${text}': there is none`)
  return `/dev/${name}`
}
