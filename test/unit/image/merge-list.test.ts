import test from 'ava'
import fc from 'fast-check'
import {loadDigest} from '../../../service/image/digest.js'
import {decodeMergeList, encodeMergeList, MERGE_LIST_BYTES, type MergeList} from '../../../service/image/merge-list.js'

const digest = loadDigest()
const text = (maximum: number) => fc.array(fc.constantFrom(...'abz/-09'), {maxLength: maximum}).map((letters) => letters.join(''))

const lists: fc.Arbitrary<MergeList> = fc.record({
  bootId: fc.uint8Array({minLength: 16, maxLength: 16}).map((bytes) => Buffer.from(bytes).toString('hex')),
  merges: fc.array(
    fc.record({
      path: text(415),
      uuid: text(63),
      baseBytes: fc.maxSafeNat(),
      sliceOffset: fc.maxSafeNat(),
      sliceBytes: fc.maxSafeNat(),
      chunkSectors: fc.nat(1024),
      hasLostKey: fc.boolean(),
    }),
    {maxLength: 64},
  ),
})

test('what is encoded is decoded to the same', (t) => {
  fc.assert(
    fc.property(lists, (list) => {
      const bytes = encodeMergeList(list, digest)
      t.is(bytes.length, MERGE_LIST_BYTES)
      t.deepEqual(decodeMergeList(bytes, digest, 'spare'), list)
    }),
    {numRuns: 30},
  )
})

test('a list that was not written to its end is none', (t) => {
  const [list] = fc.sample(lists.filter(({merges}) => merges.length > 8), 1)
  const bytes = encodeMergeList(list ?? {bootId: '', merges: []}, digest)
  bytes.fill(0, 4096)
  t.is(decodeMergeList(bytes, digest, 'spare'), null)
  t.is(decodeMergeList(Buffer.alloc(MERGE_LIST_BYTES), digest, 'spare'), null)
})

test('a list with one bit wrong is none, and never a different one', (t) => {
  const merge = {path: '/dev/vda', uuid: '1', baseBytes: 1, sliceOffset: 2, sliceBytes: 3, chunkSectors: 8, hasLostKey: false}
  const good = encodeMergeList({bootId: 'ab'.repeat(16), merges: [merge]}, digest)
  fc.assert(
    fc.property(fc.nat((64 + 512 + 8) * 8 - 1), (bit) => {
      const bytes = Buffer.from(good)
      bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      t.is(decodeMergeList(bytes, digest, 'spare'), null)
    }),
  )
})

test('a list of another version is refused although its digest is right', (t) => {
  const bytes = encodeMergeList({bootId: 'ab'.repeat(16), merges: []}, digest)
  bytes.writeUInt32LE(2, 16)
  bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(0, 64)), 64)
  t.throws(() => decodeMergeList(bytes, digest, 'spare'), {message: /version 2 of its merge list/})
})

test('more than there is room for is refused', (t) => {
  const merge = {path: '/dev/vda', uuid: '1', baseBytes: 1, sliceOffset: 2, sliceBytes: 3, chunkSectors: 8, hasLostKey: false}
  t.throws(() => encodeMergeList({bootId: '', merges: Array.from({length: 65}, () => merge)}, digest), {instanceOf: RangeError})
  t.throws(() => encodeMergeList({bootId: '', merges: [{...merge, path: 'x'.repeat(416)}]}, digest), {instanceOf: RangeError})
})
