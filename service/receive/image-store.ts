import {readdirSync, rmSync} from 'node:fs'
import {open, readdir, rename, rm, statfs, type FileHandle} from 'node:fs/promises'
import path from 'node:path'
import {lockDirectory} from '../edge/directory-lock.js'
import type {ByteInput} from '../edge/pipe.js'
import {ImageError, StoreError} from '../errors.js'
import type {Digest} from '../image/digest.js'
import {decodeOpening, OPENING_BYTES} from '../image/stream-form.js'
import {receiveImage, type PieceTarget} from '../image/stream-read.js'
import {isImageName, type ServerRequest} from '../image/request-form.js'

export const IMAGE_SUFFIX = '.permafrost'
const PART_SUFFIX = '.part'
/** What is written without waiting for the disk, so that the last flush is a short one. */
const UNFLUSHED_BYTES_MAXIMUM = 64 * 2 ** 20

/** An image that is kept, open. */
export interface KeptImage extends AsyncDisposable {
  readonly file: FileHandle
  readonly bytes: number
}

/**
 * A directory of images, one for each name. PROTOCOL.md says what is on the disk when: what has a valid name is whole.
 */
export class ImageStore {
  readonly #directory: string
  readonly #digest: Digest
  /** The names of which an image is coming. */
  readonly #coming = new Set<string>()

  constructor(directory: string, digest: Digest) {
    this.#directory = directory
    this.#digest = digest
  }

  /**
   * Has the directory for one server, until it is disposed of, and removes what one that was killed has left. Throws
   * StoreError where another server has it, or where it cannot be read.
   */
  claim(): Disposable {
    let lock: Disposable | null = null
    try {
      lock = lockDirectory(this.#directory)
      if (lock === null) throw new Error('another server keeps its images there')
      for (const name of readdirSync(this.#directory)) {
        if (name.startsWith('.') && name.endsWith(PART_SUFFIX)) rmSync(path.join(this.#directory, name))
      }
      return lock
    } catch (cause) {
      lock?.[Symbol.dispose]()
      throw new StoreError('keep images in', this.#directory, {cause})
    }
  }

  async freeBytes(): Promise<number> {
    const {bavail, bsize} = await statfs(this.#directory)
    return bavail * bsize
  }

  /** Takes the stream to its end. Whoever comes while an image of the same name is coming is refused. */
  async keep({name, imageId}: ServerRequest, input: ByteInput): Promise<void> {
    this.refuseUnlessFree(name)
    this.#coming.add(name)
    const part = path.join(this.#directory, `.${name}.${imageId}${PART_SUFFIX}`)
    try {
      await this.#write(part, imageId, input)
      await rename(part, this.#pathOf(name))
      await this.#flushDirectory()
    } catch (error) {
      await rm(part, {force: true})
      throw error
    } finally {
      this.#coming.delete(name)
    }
  }

  refuseUnlessFree(name: string): void {
    if (this.#coming.has(name)) throw new StoreError('keep', name, {cause: new Error('another image of that name is coming')})
  }

  /** Throws ImageError where that very image is not kept under that name. */
  async open({name, imageId}: ServerRequest): Promise<KeptImage> {
    const file = await open(this.#pathOf(name)).catch((): never => {
      throw new ImageError(name, 'none is kept under that name')
    })
    try {
      const bytes = Buffer.alloc(OPENING_BYTES)
      const {bytesRead} = await file.read(bytes, 0, OPENING_BYTES, 0)
      const opening = decodeOpening(bytes.subarray(0, bytesRead), this.#digest, name)
      if (opening.imageId !== imageId) throw new ImageError(name, 'what is kept under that name is another one')
      return {file, bytes: (await file.stat()).size, [Symbol.asyncDispose]: () => file.close()}
    } catch (error) {
      await file.close()
      throw error
    }
  }

  async names(): Promise<readonly string[]> {
    const files = await readdir(this.#directory).catch((cause: unknown): never => {
      throw new StoreError('list', this.#directory, {cause})
    })
    return files
      .filter((name) => name.endsWith(IMAGE_SUFFIX))
      .map((name) => name.slice(0, -IMAGE_SUFFIX.length))
      .filter(isImageName)
      .sort()
  }

  #pathOf(name: string): string {
    return path.join(this.#directory, `${name}${IMAGE_SUFFIX}`)
  }

  async #write(part: string, imageId: string, input: ByteInput): Promise<void> {
    const file = await open(part, 'wx', 0o600)
    try {
      const copy = new CopiedInput(input, file)
      const target: PieceTarget = {
        async open(opening) {
          if (opening.imageId !== imageId) throw new ImageError(part, 'the stream is that of another image')
        },
        async take() {},
      }
      await receiveImage({input: copy, digest: this.#digest, where: 'the stream'}, target, NEVER)
      await file.sync()
    } finally {
      await file.close()
    }
  }

  async #flushDirectory(): Promise<void> {
    const directory = await open(this.#directory)
    try {
      await directory.sync()
    } finally {
      await directory.close()
    }
  }
}

const NEVER = new AbortController().signal

/** Writes to a file all that is read through it. */
class CopiedInput implements ByteInput {
  readonly #input: ByteInput
  readonly #file: FileHandle
  #unflushedBytes = 0

  constructor(input: ByteInput, file: FileHandle) {
    this.#input = input
    this.#file = file
  }

  async fill(target: Buffer): Promise<number> {
    const count = await this.#input.fill(target)
    for (let written = 0; written < count; ) {
      written += (await this.#file.write(target, written, count - written)).bytesWritten
    }
    this.#unflushedBytes += count
    if (this.#unflushedBytes >= UNFLUSHED_BYTES_MAXIMUM) {
      this.#unflushedBytes = 0
      await this.#file.datasync()
    }
    return count
  }
}
