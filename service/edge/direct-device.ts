import {constants} from 'node:fs'
import {open, readFile, type FileHandle} from 'node:fs/promises'
import {alignDown, alignUp, allocateAligned, DIRECT_IO_ALIGNMENT} from './aligned.js'
import {deviceNumberOf, printDeviceNumber} from './device-number.js'

/** sysfs counts in these whatever the device's own blocks are. */
export const SYSFS_SECTOR_BYTES = 512

/**
 * A block device, or a file in its place, read and written past the page cache:
 * what is read is what is on the disk, and saving an image takes no memory.
 */
export class DirectDevice implements AsyncDisposable {
  readonly #handle: FileHandle

  static async openForReading(path: string): Promise<DirectDevice> {
    try {
      return new DirectDevice(await open(path, constants.O_RDONLY | constants.O_DIRECT))
    } catch (error) {
      // Some file systems have no direct I/O for files; a device always has it.
      if (!(error instanceof Error) || Reflect.get(error, 'code') !== 'EINVAL') throw error
      return new DirectDevice(await open(path, constants.O_RDONLY))
    }
  }

  /** `isExclusive` refuses (EBUSY) a device that is mounted or otherwise held, and holds it while open. */
  static async openForWriting(path: string, {isExclusive}: {readonly isExclusive: boolean}): Promise<DirectDevice> {
    const exclusive = isExclusive ? constants.O_EXCL : 0
    return new DirectDevice(await open(path, constants.O_RDWR | constants.O_DIRECT | exclusive))
  }

  private constructor(handle: FileHandle) {
    this.#handle = handle
  }

  async sizeBytes(): Promise<number> {
    const status = await this.#handle.stat()
    if (!status.isBlockDevice()) return status.size
    const sectors = await readFile(`/sys/dev/block/${printDeviceNumber(deviceNumberOf(status.rdev))}/size`, 'latin1')
    return Number(sectors) * SYSFS_SECTOR_BYTES
  }

  /** Any offset and length; a copy. Throws where the device ends before. */
  async read(offset: number, length: number): Promise<Buffer> {
    const start = alignDown(offset)
    const blocks = allocateAligned(alignUp(offset + length) - start)
    const filled = await this.readInto(blocks, start)
    if (filled < offset + length - start) throw new Error(`the device ends before byte ${offset + length}`)
    return blocks.subarray(offset - start, offset - start + length)
  }

  /** `target` is aligned memory of an aligned length. Gives fewer bytes only at the end of the device. */
  async readInto(target: Buffer, offset: number): Promise<number> {
    let filled = 0
    while (filled < target.length) {
      const {bytesRead} = await this.#handle.read(target, filled, target.length - filled, offset + filled)
      filled += bytesRead
      if (bytesRead === 0 || filled % DIRECT_IO_ALIGNMENT !== 0) break
    }
    return filled
  }

  /** `bytes` is aligned memory of an aligned length. */
  async write(bytes: Buffer, offset: number): Promise<void> {
    let written = 0
    while (written < bytes.length) {
      const {bytesWritten} = await this.#handle.write(bytes, written, bytes.length - written, offset + written)
      written += bytesWritten
    }
  }

  /** For what is neither aligned nor long: a copy, padded with zeros to whole blocks. */
  async writePadded(bytes: Buffer, offset: number): Promise<void> {
    const blocks = allocateAligned(bytes.length)
    bytes.copy(blocks)
    await this.write(blocks, offset)
  }

  /** Returns when everything written is on the medium, whatever caches the device has. */
  async flush(): Promise<void> {
    await this.#handle.sync()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close()
  }
}
