import test from 'ava'
import type {BlockAccess} from '../../../service/edge/block-access.js'
import {isStoreEmpty, readExceptions, type Exception} from '../../../service/dm/exception-store.js'
import {bytes, sectors} from '../../../service/dm/units.js'
import {loadDigest} from '../../../service/image/digest.js'
import {SAMPLES_MAXIMUM} from '../../../service/image/merge-list.js'
import {sampleBase} from '../../../service/stories/base-samples.js'

const CHUNK = 4096
const ENTRIES_PER_AREA = 256
const COW = {major: 254, minor: 1}
const BASE = {major: 254, minor: 2}
const STORE = {cow: COW, chunk: sectors(8), length: bytes(600 * CHUNK)}

test('a store is read in the order of writing, over all of its areas', async (t) => {
  for (const count of [0, 1, 255, 256, 257, 514, 596]) {
    const written = Array.from({length: count}, (_, index) => 1000 - index)
    const found = await all(storeWith(written))
    t.deepEqual(found.map(({baseChunk}) => baseChunk), written, String(count))
    t.true(found.every(({storeChunk}) => storeChunk >= 2))
    t.is(await isStoreEmpty(STORE, blocksWith({store: storeWith(written)})), count === 0)
  }
})

test('behind the last area of a slice that is full nothing is read', async (t) => {
  const written = Array.from({length: ENTRIES_PER_AREA}, (_, index) => index)
  const length = bytes((2 + ENTRIES_PER_AREA) * CHUNK)
  t.is((await all(storeWith(written).subarray(0, length), length)).length, ENTRIES_PER_AREA)
})

test('what is no store yet holds nothing, whatever was there before', async (t) => {
  const store = storeWith([1, 2, 3])
  store.fill(0, 0, CHUNK)
  t.deepEqual(await all(store), [])
})

test('samples are of superblocks, whether they are in the store or not, and of what was written first', async (t) => {
  const written = [...Array.from({length: 300}, (_, index) => 100 + index), 16]
  const samples = await sample(storeWith(written))
  t.is(samples.length, SAMPLES_MAXIMUM)
  t.deepEqual(samples.map(({chunk}) => chunk), [0, 16, ...written.slice(0, SAMPLES_MAXIMUM - 2)])
  t.deepEqual((await sample(storeWith([]))).map(({chunk}) => chunk), [0, 16])
})

test('a sample is of what the base has, each sector by itself', async (t) => {
  const base = Buffer.alloc(512 * CHUNK, 'before ')
  const before = await sample(storeWith([7]), base)
  base.writeUInt8(1, 7 * CHUNK + 3 * 512)
  const after = await sample(storeWith([7]), base)
  t.deepEqual(before.slice(0, 2), after.slice(0, 2))
  t.deepEqual(before[2]?.digests.map((digest, index) => digest === after[2]?.digests[index]), [true, true, true, false, true, true, true, true])
})

test('a chunk that the base does not have whole is no sample', async (t) => {
  t.deepEqual((await sample(storeWith([511, 512]))).map(({chunk}) => chunk), [0, 16, 511])
})

test('what is looked at is on the disk, and not in its cache only', async (t) => {
  const order: string[] = []
  const blocks = blocksWith({store: storeWith([])})
  const watched: BlockAccess = {
    ...blocks,
    flush: async ({minor}) => void order.push(`flush ${minor}`),
    openForReading: async (device) => {
      order.push(`open ${device.minor}`)
      return device.minor === BASE.minor ? {read: async (_, length) => Buffer.alloc(length), [Symbol.asyncDispose]: async () => {}} : await blocks.openForReading(device)
    },
  }
  await sampleBase({base: BASE, store: STORE, baseBytes: bytes(512 * CHUNK)}, {blocks: watched, digest: loadDigest()})
  t.deepEqual(order, ['open 1', 'flush 2', 'open 2'])
})

async function sample(store: Buffer, base = Buffer.alloc(512 * CHUNK)) {
  return await sampleBase({base: BASE, store: STORE, baseBytes: bytes(512 * CHUNK)}, {blocks: blocksWith({store, base}), digest: loadDigest()})
}

async function all(store: Buffer, length = STORE.length): Promise<readonly Exception[]> {
  const found: Exception[] = []
  for await (const exception of readExceptions({...STORE, length}, blocksWith({store}))) found.push(exception)
  return found
}

/** As the kernel leaves it: the next area is emptied before one is full. */
function storeWith(baseChunks: readonly number[]): Buffer {
  const store = Buffer.alloc(600 * CHUNK, 0xff)
  store.writeUInt32LE(0x70416e53, 0)
  for (let area = 0; area <= Math.floor(baseChunks.length / ENTRIES_PER_AREA); area += 1) {
    const start = (1 + area * (ENTRIES_PER_AREA + 1)) * CHUNK
    if (start < store.length) store.fill(0, start, start + CHUNK)
  }
  baseChunks.forEach((chunk, index) => {
    const area = Math.floor(index / ENTRIES_PER_AREA)
    const at = (1 + area * (ENTRIES_PER_AREA + 1)) * CHUNK + (index % ENTRIES_PER_AREA) * 16
    if (at >= store.length) return
    store.writeBigUInt64LE(BigInt(chunk), at)
    store.writeBigUInt64LE(BigInt(2 + index + area), at + 8)
  })
  return store
}

function blocksWith(contents: {readonly store: Buffer; readonly base?: Buffer}): BlockAccess {
  const refuse = () => Promise.reject(new Error('not expected here'))
  return {
    openForReading: async ({minor}) => ({
      read: async (offset, length) => {
        const content = minor === COW.minor ? contents.store : (contents.base ?? Buffer.alloc(0))
        if (offset + length > content.length) throw new Error(`the device ends before byte ${offset + length}`)
        return content.subarray(offset, offset + length)
      },
      [Symbol.asyncDispose]: async () => {},
    }),
    writeStart: refuse,
    readCachedStart: refuse,
    flush: async () => {},
  }
}
