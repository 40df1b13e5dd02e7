import {randomBytes} from 'node:crypto'
import {mkdtempSync, openSync, rmSync, truncateSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test from 'ava'
import {DirectDevice} from '../../../service/edge/direct-device.js'
import {ImageError} from '../../../service/errors.js'
import {loadDigest} from '../../../service/image/digest.js'
import {encodeHeader, type ImageHeader} from '../../../service/image/header.js'
import {loadLz4} from '../../../service/image/lz4.js'
import {readChunks, readHeader} from '../../../service/image/read.js'
import {NO_ID, type Superblock} from '../../../service/image/superblock.js'
import {chooseChunkBytes, writeImage, type ChunkTarget, type WriteJob, type WrittenStream} from '../../../service/image/write.js'

const MIB = 2 ** 20
const AREA = MIB
const HEADER = 60 * MIB
const digest = loadDigest()
const lz4 = loadLz4()

const directory = mkdtempSync(join(tmpdir(), 'permafrost-stream-'))
test.after.always(() => rmSync(directory, {recursive: true}))

const contents: readonly (readonly [string, Buffer])[] = [
  ['a page', randomBytes(4096)],
  ['exactly one chunk', Buffer.alloc(MIB, 'permafrost')],
  ['a chunk and a byte', Buffer.alloc(MIB + 1, 'ice ')],
  ['random bytes that do not compress', randomBytes(5 * MIB + 4096)],
  ['what compresses and what does not in turn', mixed(20)],
]

for (const [name, content] of contents) {
  for (const chunkBytes of [MIB, 4 * MIB]) {
    test(`${name} comes back as it was from chunks of ${chunkBytes / MIB} MiB`, async (t) => {
      await using device = await newDevice()
      const written = await write(device, content, {chunkBytes})
      t.is(written.streamBytes, content.length)
      t.is(written.chunks.length, Math.ceil(content.length / chunkBytes))
      t.deepEqual(written.firstPage, content.subarray(0, 4096))
      t.true(Buffer.concat(await readBack(device, written)).equals(content))
    })
  }
}

test('chunks are as large as there is memory for, since each has its price', (t) => {
  const sizes = [0, 127, 128, 255, 256, 4096].map((mib) => chooseChunkBytes({freeBytes: mib * MIB, threads: 2}) / MIB)
  t.deepEqual(sizes, [1, 1, 2, 2, 4, 4])
  t.is(chooseChunkBytes({freeBytes: 511 * MIB, threads: 16}), 2 * MIB)
  t.is(chooseChunkBytes({freeBytes: 512 * MIB, threads: 16}), 4 * MIB)
})

test('without room for all that comes every chunk that can be is compressed', async (t) => {
  await using device = await newDevice()
  const written = await write(device, Buffer.alloc(30 * MIB, 'permafrost'), {freeBytes: 4 * MIB})
  t.true(written.chunks.every((chunk) => chunk.codec === 'lz4'))
  t.true(written.storedBytes < MIB)
})

test('chunks are placed in the order of the stream, in whole blocks, one behind the other', async (t) => {
  await using device = await newDevice()
  const {chunks} = await write(device, mixed(16))
  let next = 0
  for (const chunk of chunks) {
    t.is(chunk.offset, next)
    next += Math.ceil(chunk.storedBytes / 4096) * 4096
  }
})

test('one wrong bit in a stored chunk is found', async (t) => {
  await using device = await newDevice()
  const written = await write(device, mixed(6))
  const place = AREA + (written.chunks[3]?.offset ?? 0)
  const block = await device.read(place, 4096)
  block.writeUInt8(block.readUInt8(100) ^ 4, 100)
  await device.writePadded(block, place)
  await t.throwsAsync(readBack(device, written), {instanceOf: ImageError, message: /digest of chunk 3/})
})

test('one wrong bit in the header section is found', async (t) => {
  await using device = await newDevice()
  const written = await write(device, mixed(2))
  const {superblock} = await saveHeader(device, written)
  const wrong = {...superblock, headerDigest: superblock.headerDigest ^ 1n}
  await t.throwsAsync(readHeader({source: device, superblock: wrong, digest, where: 'x'}), {message: /digest of the header/})
})

test('a stream shorter than announced is an error', async (t) => {
  await using device = await newDevice()
  await t.throwsAsync(write(device, randomBytes(4096), {streamBytes: 8192}), {
    instanceOf: ImageError,
    message: /announced 8192 bytes and gave 4096/,
  })
})

test('a write that fails ends the run with its error, and no write is under way any more', async (t) => {
  await using device = await newDevice()
  let underWay = 0
  const failing = async (): Promise<void> => {
    underWay++
    await new Promise((resolve) => setTimeout(resolve, 5))
    underWay--
    throw new Error('the disk is gone')
  }
  await t.throwsAsync(write(device, mixed(30), {writeBlock: failing}), {message: 'the disk is gone'})
  t.is(underWay, 0)
})

test('an abort ends the run between two chunks', async (t) => {
  await using device = await newDevice()
  const controller = new AbortController()
  let chunks = 0
  const onProgress = (): void => {
    chunks++
    if (chunks === 3) controller.abort(new Error('Esc was pressed'))
  }
  await t.throwsAsync(write(device, mixed(30), {onProgress, signal: controller.signal}), {message: 'Esc was pressed'})
  t.true(chunks < 20)
})

interface WriteOptions {
  readonly freeBytes?: number
  readonly streamBytes?: number
  readonly writeBlock?: ChunkTarget['write']
  readonly signal?: AbortSignal
  readonly onProgress?: WriteJob['onProgress']
  readonly isAdaptive?: boolean
  readonly chunkBytes?: number
}

function write(device: DirectDevice, content: Buffer, options: WriteOptions = {}): Promise<WrittenStream> {
  const file = join(directory, `stream-${randomBytes(4).toString('hex')}`)
  writeFileSync(file, content)
  let next = 0
  const target: ChunkTarget = {
    freeBytes: options.freeBytes ?? 1000 * MIB,
    reserve(bytes) {
      const offset = next
      next += bytes
      return offset
    },
    write: options.writeBlock ?? ((bytes, offset) => device.write(bytes, AREA + offset)),
  }
  return writeImage({
    fd: openSync(file, 'r'),
    streamBytes: options.streamBytes ?? content.length,
    target,
    lz4,
    digest,
    threads: 2,
    chunkBytes: options.chunkBytes ?? MIB,
    isAdaptive: options.isAdaptive ?? false,
    signal: options.signal ?? new AbortController().signal,
    onProgress: options.onProgress ?? (() => {}),
    where: 'spare',
  })
}

async function readBack(device: DirectDevice, written: WrittenStream): Promise<Buffer[]> {
  const {superblock} = await saveHeader(device, written)
  const job = {source: device, superblock, digest, lz4, where: 'spare'}
  const header = await readHeader(job)
  const pieces: Buffer[] = []
  for await (const piece of readChunks(job, header, new AbortController().signal)) pieces.push(Buffer.from(piece))
  return pieces
}

async function saveHeader(device: DirectDevice, written: WrittenStream): Promise<{superblock: Superblock}> {
  const header: ImageHeader = {
    kernel: {sysname: 'Linux', release: '6', version: '#1', machine: 'x86_64', physicalPages: 0},
    chunks: written.chunks,
    fileSystems: [],
    figures: {},
    text: {},
  }
  const bytes = encodeHeader(header)
  await device.writePadded(bytes, HEADER)
  const superblock: Superblock = {
    state: 'valid',
    deviceId: NO_ID,
    imageId: NO_ID,
    parentId: NO_ID,
    deviceBytes: 64 * MIB,
    imageAreaOffset: AREA,
    imageAreaBytes: 62 * MIB,
    cowAreaOffset: 63 * MIB,
    cowAreaBytes: MIB,
    headerOffset: HEADER,
    headerBytes: bytes.length,
    headerDigest: digest.ofBytes(bytes),
    createdUnixSeconds: 0,
    storedBytes: written.storedBytes,
    streamBytes: written.streamBytes,
  }
  return {superblock}
}

function newDevice(): Promise<DirectDevice> {
  const path = join(directory, `spare-${randomBytes(4).toString('hex')}_permafrost_delme`)
  writeFileSync(path, '')
  truncateSync(path, 64 * MIB)
  return DirectDevice.openForWriting(path, {isExclusive: true})
}

function mixed(mebibytes: number): Buffer {
  const pieces = Array.from({length: mebibytes}, (_, index) =>
    index % 3 === 0 ? randomBytes(MIB) : Buffer.alloc(MIB, `page ${index} `),
  )
  return Buffer.concat(pieces)
}
