import {readFileSync} from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import {ImageError} from '../../../service/errors.js'
import {decodeChunks, encodeChunks, type Chunk} from '../../../service/image/chunk.js'
import {decodeHeader, encodeHeader, type ImageHeader} from '../../../service/image/header.js'
import {decodeFileSystem, encodeFileSystem} from '../../../service/image/records.js'

const example: ImageHeader = {
  kernel: {
    sysname: 'Linux',
    release: '6.12.0-permafrost',
    version: '#1 SMP PREEMPT_DYNAMIC',
    machine: 'x86_64',
    physicalPages: 262_144,
  },
  chunks: [
    {offset: 0, storedBytes: 70_000, rawBytes: 2 ** 20, digest: 0x1122334455667788n, codec: 'lz4'},
    {offset: 73_728, storedBytes: 4096, rawBytes: 4096, digest: 0x99aabbccddeeff00n, codec: 'stored'},
  ],
  fileSystems: [
    {
      path: '/dev/vda',
      uuid: '2f6d8a3e-0000-4000-8000-000000000001',
      type: 'ext4',
      regions: [
        {offset: 0, bytes: 4096, digest: 1n},
        {offset: 67_112_960, bytes: 4096, digest: 2n},
      ],
    },
  ],
  figures: {pause_ns: '148000000', pages_copied: '22000'},
  text: {cmdline: 'root=UUID=1 quiet', hostname: 'ice'},
}

const text = (maxLength: number) => fc.string({maxLength}).map((value) => value.replaceAll('\0', '').slice(0, maxLength))
const name = text(19).map((value) => `x${value}`)
const u64 = fc.bigInt({min: 0n, max: 2n ** 64n - 1n})
const chunks: fc.Arbitrary<Chunk> = fc
  .record({
    offset: fc.maxSafeNat(),
    rawBytes: fc.integer({min: 1, max: 2 ** 20}),
    storedBytes: fc.integer({min: 1, max: 2 ** 20}),
    digest: u64,
    codec: fc.constantFrom('stored' as const, 'lz4' as const),
  })
  .map((chunk) => ({
    ...chunk,
    storedBytes: chunk.codec === 'stored' ? chunk.rawBytes : Math.min(chunk.storedBytes, chunk.rawBytes),
  }))

const lines = fc.dictionary(
  fc.stringMatching(/^[a-z_]{1,12}$/),
  fc.string({maxLength: 40}).map((value) => value.replaceAll(/[\n\0]/g, '')),
  {noNullPrototype: true},
)

const headers: fc.Arbitrary<ImageHeader> = fc.record({
  kernel: fc.record({
    sysname: name,
    release: name,
    version: name,
    machine: name,
    physicalPages: fc.maxSafeNat(),
  }),
  chunks: fc.array(chunks, {minLength: 1, maxLength: 20}),
  fileSystems: fc.array(
    fc.record({
      path: text(30).map((path) => `/${path}`),
      uuid: text(36),
      type: text(8),
      regions: fc.array(
        fc.record({offset: fc.maxSafeNat(), bytes: fc.integer({min: 1, max: 2 ** 24}), digest: u64}),
        {maxLength: 4},
      ),
    }),
    {maxLength: 5},
  ),
  figures: lines,
  text: lines,
})

test('what is encoded is decoded to the same', (t) => {
  fc.assert(
    fc.property(headers, (header) => {
      const bytes = encodeHeader(header)
      t.is(bytes.length % 8, 0)
      t.deepEqual(decodeHeader(bytes, 'x'), header)
    }),
  )
})

test('version 1 is byte for byte what it was when it was fixed', (t) => {
  const golden = readFileSync(new URL('../../fixtures/header-v1.bin', import.meta.url))
  t.is(encodeHeader(example).toString('hex'), golden.toString('hex'))
  t.deepEqual(decodeHeader(golden, 'x'), example)
})

test('a header cut short anywhere is refused with a named error', (t) => {
  const bytes = encodeHeader(example)
  for (let length = 0; length < bytes.length - 8; length += 3) {
    const cut = bytes.subarray(0, length)
    const isWhole = isRecordBoundary(bytes, length)
    if (isWhole) continue
    t.throws(() => decodeHeader(cut, 'spare'), {instanceOf: ImageError})
  }
})

test('random bytes are refused with a named error', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({maxLength: 400}), (bytes) => {
      t.throws(() => decodeHeader(Buffer.from(bytes), 'spare'), {instanceOf: ImageError})
    }),
  )
})

test('a damaged byte, which its digest in the superblock tells, leads to no error but a named one', (t) => {
  fc.assert(
    fc.property(fc.nat({max: encodeHeader(example).length - 1}), fc.integer({min: 1, max: 255}), (place, difference) => {
      const bytes = encodeHeader(example)
      bytes.writeUInt8(bytes.readUInt8(place) ^ difference, place)
      try {
        decodeHeader(bytes, 'spare')
        t.pass()
      } catch (error) {
        t.true(error instanceof ImageError)
      }
    }),
  )
})

test('an unknown record that may be skipped is skipped', (t) => {
  t.deepEqual(decodeHeader(Buffer.concat([encodeHeader(example), record(0x80001234)]), 'x'), example)
})

test('an unknown record that may not be skipped is refused', (t) => {
  t.throws(() => decodeHeader(Buffer.concat([encodeHeader(example), record(0x1234)]), 'x'), {message: /4660.*unknown/})
})

test('a header with two kernels is refused', (t) => {
  const kernel = encodeHeader(example).subarray(0, 8 + 272)
  t.throws(() => decodeHeader(Buffer.concat([encodeHeader(example), kernel]), 'x'), {message: /exactly one record/})
})

test('a header of millions of file systems is refused as soon as there are too many', (t) => {
  const empty = Buffer.alloc(8)
  empty.writeUInt32LE(3, 0)
  const startedMs = performance.now()
  t.throws(() => decodeHeader(Buffer.alloc(2 ** 24).fill(empty), 'x'), {message: /too many file systems/})
  t.true(performance.now() - startedMs < 10_000)
})

const wrongChunks: readonly (readonly [string, number, number, RegExp])[] = [
  ['an unknown codec', 28, 2, /codec of chunk 0/],
  ['an unknown section', 24, 1, /section of chunk 0/],
  ['no stored bytes', 8, 0, /size of chunk 0/],
  ['more raw bytes than the list allows', 12, 2 ** 20 + 1, /size of chunk 0/],
  ['more stored bytes than raw ones', 8, 2 ** 20 + 1, /size of chunk 0/],
]

for (const [name, offset, value, message] of wrongChunks) {
  test(`a chunk with ${name} is refused`, (t) => {
    const bytes = encodeChunks(example.chunks)
    bytes.writeUInt32LE(value, 8 + offset)
    t.throws(() => decodeChunks(bytes, 'x'), {instanceOf: ImageError, message})
  })
}

test('a list of no chunks is refused', (t) => {
  t.throws(() => decodeChunks(encodeChunks([]), 'x'), {message: /number of chunks/})
})

test('a file system record whose text has a NUL is refused', (t) => {
  const bytes = encodeFileSystem({path: '/dev/a\0b', uuid: '', type: 'ext4', regions: []})
  t.throws(() => decodeFileSystem(bytes, 'x'), {instanceOf: ImageError, message: /NUL/})
})

test('a value of several lines becomes one line', (t) => {
  const header = {...example, text: {policy: 'a\nb'}}
  t.deepEqual(decodeHeader(encodeHeader(header), 'x').text, {policy: 'a b'})
})

function record(type: number): Buffer {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt32LE(type, 0)
  bytes.writeUInt32LE(5, 4)
  return bytes
}

/** Behind the two records that must be there, a header may end with any record. */
function isRecordBoundary(bytes: Buffer, length: number): boolean {
  let position = 0
  for (let count = 0; position < bytes.length; count++) {
    if (position === length) return count >= 2
    position += 8 + Math.ceil(bytes.readUInt32LE(position + 4) / 8) * 8
  }
  return false
}
