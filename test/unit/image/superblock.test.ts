import {readFileSync} from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import {ImageError} from '../../../service/errors.js'
import {loadDigest} from '../../../service/image/digest.js'
import {
  decodeSuperblock,
  encodeSuperblock,
  hasMagic,
  IMAGE_STATES,
  NO_ID,
  withoutImage,
  type Superblock,
} from '../../../service/image/superblock.js'

const MIB = 2 ** 20
const digest = loadDigest()

const example: Superblock = {
  state: 'valid',
  deviceId: '000102030405060708090a0b0c0d0e0f',
  imageId: 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff',
  deviceBytes: 1024 * MIB,
  imageAreaOffset: MIB,
  imageAreaBytes: 900 * MIB,
  cowAreaOffset: 901 * MIB,
  cowAreaBytes: 64 * MIB,
  headerOffset: 500 * MIB,
  headerBytes: 4096,
  headerDigest: 0x0123456789abcdefn,
  createdUnixSeconds: 1_700_000_000,
  storedBytes: 400 * MIB + 17,
  streamBytes: 800 * MIB,
  parentId: NO_ID,
}

const identity = fc.uint8Array({minLength: 16, maxLength: 16}).map((bytes) => Buffer.from(bytes).toString('hex'))
const blocks = (maximum: number) => fc.integer({min: 1, max: maximum}).map((count) => count * 4096)

const superblocks: fc.Arbitrary<Superblock> = fc
  .record({
    state: fc.constantFrom(...IMAGE_STATES),
    deviceId: identity,
    imageId: identity,
    parentId: identity,
    imageAreaOffset: blocks(1000),
    imageAreaBytes: blocks(2 ** 30).map((bytes) => bytes + 32 * MIB),
    cowAreaBytes: blocks(2 ** 20),
    headerBytes: fc.integer({min: 1, max: 2 ** 20}).map((words) => words * 8),
    headerDigest: fc.bigInt({min: 0n, max: 2n ** 64n - 1n}),
    createdUnixSeconds: fc.nat(),
    storedBytes: fc.maxSafeNat(),
    streamBytes: fc.maxSafeNat(),
  })
  .map((fields) => {
    const cowAreaOffset = fields.imageAreaOffset + fields.imageAreaBytes
    const deviceBytes = cowAreaOffset + fields.cowAreaBytes
    return {...fields, cowAreaOffset, deviceBytes, headerOffset: fields.imageAreaOffset}
  })

test('what is encoded is decoded to the same', (t) => {
  fc.assert(
    fc.property(superblocks, (superblock) => {
      t.deepEqual(decodeSuperblock(encodeSuperblock(superblock, digest), digest, 'x'), superblock)
    }),
  )
})

test('version 1 is byte for byte what it was when it was fixed', (t) => {
  const golden = readFileSync(new URL('../../fixtures/superblock-v1.bin', import.meta.url))
  t.is(encodeSuperblock(example, digest).toString('hex'), golden.toString('hex'))
  t.deepEqual(decodeSuperblock(golden, digest, 'x'), example)
})

test('any changed bit is refused', (t) => {
  fc.assert(
    fc.property(fc.integer({min: 0, max: 512 * 8 - 1}), (bit) => {
      const bytes = encodeSuperblock(example, digest)
      bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      t.throws(() => decodeSuperblock(bytes, digest, 'spare'), {instanceOf: ImageError, message: /'spare'/})
    }),
  )
})

test('random bytes are refused', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({maxLength: 600}), (bytes) => {
      t.throws(() => decodeSuperblock(Buffer.from(bytes), digest, 'spare'), {instanceOf: ImageError})
    }),
  )
})

const malformed: readonly (readonly [string, (bytes: Buffer) => void, RegExp])[] = [
  ['an unknown version', (bytes) => bytes.writeUInt32LE(2, 16), /version 2, and only version 1 can/],
  ['another length of itself', (bytes) => bytes.writeUInt32LE(4096, 20), /superblock_bytes/],
  ['an unknown state', (bytes) => bytes.write('thawed', 24), /state/],
  ['a state with something behind it', (bytes) => bytes.writeUInt8(1, 39), /state/],
  ['a size no number can hold', (bytes) => bytes.writeBigUInt64LE(2n ** 60n, 152), /streamBytes is out of bounds/],
  ['areas that overlap', (bytes) => bytes.writeBigUInt64LE(BigInt(900 * MIB), 96), /overlap/],
  ['an area that is not aligned', (bytes) => bytes.writeBigUInt64LE(BigInt(MIB + 1), 80), /aligned/],
  ['an area behind the device', (bytes) => bytes.writeBigUInt64LE(BigInt(965 * MIB - 1), 72), /ends behind the device/],
  ['a header outside the image area', (bytes) => bytes.writeBigUInt64LE(4096n, 112), /header section/],
  ['a header of no length', (bytes) => bytes.writeBigUInt64LE(0n, 120), /header section/],
]

for (const [name, damage, message] of malformed) {
  test(`${name} is refused although the digest is right`, (t) => {
    const bytes = encodeSuperblock(example, digest)
    damage(bytes)
    bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(0, 504)), 504)
    t.throws(() => decodeSuperblock(bytes, digest, 'spare'), {instanceOf: ImageError, message})
  })
}

test('a damaged superblock still shows its magic, zeros do not', (t) => {
  const bytes = encodeSuperblock(example, digest)
  bytes.fill(0, 16)
  t.true(hasMagic(bytes))
  t.false(hasMagic(Buffer.alloc(512)))
})

test('without its image a superblock keeps what belongs to the device only', (t) => {
  const empty = withoutImage(example, 'aborted')
  t.is(empty.state, 'aborted')
  t.is(empty.imageId, NO_ID)
  t.is(empty.headerBytes, 0)
  t.is(empty.deviceId, example.deviceId)
  t.is(empty.cowAreaOffset, example.cowAreaOffset)
})
