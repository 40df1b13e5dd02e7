import {readFileSync} from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import type {ByteInput} from '../../../service/edge/pipe.js'
import {ImageError, SinkError} from '../../../service/errors.js'
import {loadDigest} from '../../../service/image/digest.js'
import {encodeHeader, type ImageHeader} from '../../../service/image/header.js'
import {receiveImage, type ReceivedImage} from '../../../service/image/stream-read.js'
import {StreamSession} from '../../../service/sinks/stream-session.js'

const digest = loadDigest()
const IMAGE_ID = '5a'.repeat(16)
const PIECES = [Buffer.alloc(8192, 'page'), Buffer.alloc(4096, 'ice '), Buffer.alloc(12_288, 7)]
const STREAM_BYTES = 24_576

test('what is written in any order arrives in order, whole, with its header', async (t) => {
  const bytes = await write([2, 0, 1])
  const {pieces, received} = await receive(bytes)
  t.deepEqual(Buffer.concat(pieces), Buffer.concat(PIECES))
  t.is(received.superblock.imageId, IMAGE_ID)
  t.is(received.superblock.createdUnixSeconds, 1_700_000_000)
  t.is(received.superblock.streamBytes, STREAM_BYTES)
  t.deepEqual(received.header, header())
})

test('version 1 is byte for byte what it was when it was fixed', async (t) => {
  const golden = readFileSync(new URL('../../fixtures/stream-v1.bin', import.meta.url))
  t.true((await write([0, 1, 2])).equals(golden))
  t.deepEqual((await receive(golden)).received.header, header())
})

test('what follows the image is not looked at', async (t) => {
  const bytes = Buffer.concat([await write([0, 1, 2]), Buffer.alloc(5000, 0xff)])
  t.is((await receive(bytes)).received.superblock.state, 'valid')
})

test('a stream cut short anywhere is refused with a named error', async (t) => {
  const bytes = await write([0, 1, 2])
  await fc.assert(fc.asyncProperty(fc.integer({min: 0, max: bytes.length - 1}), async (length) => {
    await t.throwsAsync(receive(bytes.subarray(0, length)), {instanceOf: ImageError, message: /ends before|no image stream/})
  }))
})

test('a stream with any bit wrong is refused with a named error', async (t) => {
  const bytes = await write([0, 1, 2])
  await fc.assert(fc.asyncProperty(fc.integer({min: 0, max: bytes.length * 8 - 1}), async (bit) => {
    const damaged = Buffer.from(bytes)
    damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    await t.throwsAsync(receive(damaged), {instanceOf: ImageError})
  }), {numRuns: 300})
})

test('frames whose digests are right are refused all the same when they make no sense', async (t) => {
  const bytes = await write([0, 1, 2])
  await fc.assert(fc.asyncProperty(
    fc.integer({min: 0, max: 5}), fc.constantFrom(0, 4, 8), fc.oneof(fc.nat(10), fc.integer({min: 0, max: 2 ** 32 - 1})),
    async (index, field, value) => {
      const frame = frameStarts(bytes)[index] ?? 0
      const changed = Buffer.from(bytes)
      // Where the closing superblock's own frame says it lies has no meaning.
      if (changed.readUInt32LE(frame + field) === value || (index === 4 && field === 8)) return
      changed.writeUInt32LE(value, frame + field)
      changed.writeBigUInt64LE(digest.ofBytes(changed.subarray(frame, frame + 24)), frame + 24)
      await t.throwsAsync(receive(changed), {instanceOf: ImageError})
    }), {numRuns: 300})
})

test('an unknown version is refused', async (t) => {
  const bytes = await write([0, 1, 2])
  bytes.writeUInt32LE(2, 16)
  await t.throwsAsync(receive(bytes), {instanceOf: ImageError, message: /stream version 2 is unknown/})
})

test('when the reader has gone, everybody who waits hears of it, and the image is not complete', async (t) => {
  let count = 0
  const append = async (): Promise<void> => {
    if (count++ > 1) throw Object.assign(new Error('write EPIPE'), {code: 'EPIPE', syscall: 'write'})
  }
  const session = new StreamSession({output: {append}, digest, opening: {imageId: IMAGE_ID, streamBytes: 0}, name: 'pipe'})
  const writes = PIECES.map((piece) => ({piece, offset: session.reserve(piece.length)})).reverse()
  const outcomes = await Promise.allSettled(writes.map(({piece, offset}) => session.write(piece, offset)))
  t.deepEqual(outcomes.map(({status}) => status), ['rejected', 'rejected', 'rejected'])
  await t.throwsAsync(session.complete({header: encodeHeader(header()), storedBytes: 1, streamBytes: 1}), {
    instanceOf: SinkError,
    message: "Cannot write the image to 'pipe': whoever read it has gone",
  })
})

function header(): ImageHeader {
  let offset = 0
  const chunks = PIECES.map((piece) => {
    const chunk = {offset, storedBytes: piece.length, rawBytes: piece.length, digest: digest.ofBytes(piece), codec: 'stored' as const}
    offset += piece.length
    return chunk
  })
  return {
    kernel: {sysname: 'Linux', release: '6.12', version: '#1', machine: 'x86_64', physicalPages: 1024},
    chunks,
    fileSystems: [],
    figures: {},
    text: {hostname: 'ice'},
  }
}

async function write(order: readonly number[]): Promise<Buffer> {
  const written: Buffer[] = []
  const output = {append: async (bytes: Buffer) => void written.push(Buffer.from(bytes))}
  const session = new StreamSession({output, digest, opening: {imageId: IMAGE_ID, streamBytes: STREAM_BYTES}, name: 'pipe'})
  const places = PIECES.map((piece) => session.reserve(piece.length))
  await Promise.all(order.map((index) => session.write(PIECES[index] ?? Buffer.alloc(0), places[index] ?? 0)))
  const encoded = encodeHeader(header())
  await session.complete({header: encoded, storedBytes: STREAM_BYTES, streamBytes: STREAM_BYTES, createdUnixSeconds: 1_700_000_000})
  return Buffer.concat(written)
}

async function receive(bytes: Buffer): Promise<{readonly pieces: readonly Buffer[]; readonly received: ReceivedImage}> {
  const pieces: Buffer[] = []
  const target = {open: async () => {}, take: async (piece: Buffer) => void pieces.push(Buffer.from(piece))}
  const received = await receiveImage({input: inputOf(bytes), digest, where: 'pipe'}, target, new AbortController().signal)
  return {pieces, received}
}

function inputOf(bytes: Buffer): ByteInput {
  let position = 0
  return {
    async fill(target) {
      const count = bytes.copy(target, 0, position)
      position += count
      return count
    },
  }
}

/** Three pieces, the header section, the closing superblock. */
function frameStarts(bytes: Buffer): readonly number[] {
  const starts: number[] = []
  for (let at = 64; at < bytes.length; at += 32 + bytes.readUInt32LE(at + 4)) starts.push(at)
  return starts
}
