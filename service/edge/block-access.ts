import {open} from 'node:fs/promises'
import {printDeviceNumber, type DeviceNumber} from './device-number.js'
import {DirectDevice} from './direct-device.js'
import type {Files} from './files.js'

/** Block devices by number, past the page cache where nothing else is said. */
export interface BlockAccess {
  openForReading(device: DeviceNumber): Promise<BlockReader>
  /** Overwrites the beginning of the device; a whole number of blocks. */
  writeStart(device: DeviceNumber, content: Buffer): Promise<void>
  /** The first `bytes` of the device as the kernel has them in memory, or, where it has not, from the disk. */
  readCachedStart(device: DeviceNumber, bytes: number): Promise<Buffer>
  /** Returns when everything that was written to the device, or through it, is on the medium. */
  flush(device: DeviceNumber): Promise<void>
}

export interface BlockReader extends AsyncDisposable {
  read(offset: number, length: number): Promise<Buffer>
}

export function openBlockAccess(files: Files): BlockAccess {
  return {
    openForReading: (device) => DirectDevice.openForReading(nodeOf(device, files)),
    async writeStart(device, content) {
      await using opened = await DirectDevice.openForWriting(nodeOf(device, files), {isExclusive: false})
      await opened.writePadded(content, 0)
      await opened.flush()
    },
    async readCachedStart(device, bytes) {
      const handle = await open(nodeOf(device, files), 'r')
      try {
        const {buffer, bytesRead} = await handle.read(Buffer.alloc(bytes), 0, bytes, 0)
        if (bytesRead < bytes) throw new Error(`the device ends before byte ${bytes}`)
        return buffer
      } finally {
        await handle.close()
      }
    },
    async flush(device) {
      await using opened = await DirectDevice.openForReading(nodeOf(device, files))
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
