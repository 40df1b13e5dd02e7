import test from 'ava'
import fc from 'fast-check'
import {loadDigest} from '../../../service/image/digest.js'
import {
  decodeMergeLists, encodeMergeList, MERGE_SLOT_BYTES, MERGE_SLOTS_BYTES, SAMPLE_SECTORS, SAMPLES_MAXIMUM, type MergeList, type PendingMerge,
} from '../../../service/image/merge-list.js'

const digest = loadDigest()
const text = (maximum: number) => fc.array(fc.constantFrom(...'abz/-09'), {maxLength: maximum}).map((letters) => letters.join(''))

const lists: fc.Arbitrary<MergeList> = fc.record({
  bootId: fc.uint8Array({minLength: 16, maxLength: 16}).map((bytes) => Buffer.from(bytes).toString('hex')),
  merges: fc.array(
    fc.record({
      path: text(411),
      uuid: text(63),
      baseBytes: fc.maxSafeNat(),
      sliceOffset: fc.maxSafeNat(),
      sliceBytes: fc.maxSafeNat(),
      chunkSectors: fc.nat(1024),
      hasLostKey: fc.boolean(),
      samples: fc.array(
        fc.record({chunk: fc.maxSafeNat(), digests: fc.array(fc.nat(2 ** 32 - 1), {minLength: SAMPLE_SECTORS, maxLength: SAMPLE_SECTORS})}),
        {maxLength: SAMPLES_MAXIMUM},
      ),
    }),
    {maxLength: 64},
  ),
})

const GOOD: PendingMerge = {
  path: '/dev/vda',
  uuid: '1',
  baseBytes: 1,
  sliceOffset: 2,
  sliceBytes: 3,
  chunkSectors: 8,
  hasLostKey: false,
  samples: [{chunk: 7, digests: [1, 2, 3, 4, 5, 6, 7, 2 ** 32 - 1]}],
}
const BOOT = 'ab'.repeat(16)

test('what is encoded is decoded to the same', (t) => {
  fc.assert(
    fc.property(lists, fc.integer({min: 1, max: 2 ** 40}), fc.nat(1), (list, sequence, slot) => {
      const bytes = encodeMergeList(list, sequence, digest)
      t.is(bytes.length, MERGE_SLOT_BYTES)
      t.deepEqual(decode(slot === 0 ? [bytes] : [null, bytes]), {...list, sequence, slot})
    }),
    {numRuns: 30},
  )
})

test('there is room for as many as may be', (t) => {
  const samples = Array.from({length: SAMPLES_MAXIMUM}, (_, chunk) => ({chunk, digests: Array.from({length: SAMPLE_SECTORS}, () => chunk)}))
  const merges = Array.from({length: 64}, () => ({...GOOD, samples}))
  t.deepEqual(decode([encodeMergeList({bootId: BOOT, merges}, 1, digest)])?.merges, merges)
})

test('of two lists the last one counts, and the one before it while that is not written to its end', (t) => {
  const one = encodeMergeList({bootId: BOOT, merges: [GOOD]}, 7, digest)
  const two = encodeMergeList({bootId: BOOT, merges: [GOOD, GOOD]}, 8, digest)
  t.like(decode([one, two]), {slot: 1, sequence: 8})
  t.like(decode([two, one]), {slot: 0, sequence: 8})
  two.fill(0, 512)
  t.like(decode([two, one]), {slot: 1, sequence: 7})
})

test('a list that was not written to its end is none', (t) => {
  const [list] = fc.sample(lists.filter(({merges}) => merges.length > 8), 1)
  const bytes = encodeMergeList(list ?? {bootId: '', merges: []}, 1, digest)
  bytes.fill(0, 4096)
  t.is(decode([bytes]), null)
  t.is(decode([]), null)
})

test('a list with one bit wrong is none, and never a different one', (t) => {
  const good = encodeMergeList({bootId: BOOT, merges: [GOOD]}, 1, digest)
  fc.assert(
    fc.property(fc.nat((64 + 512 + 40 + 8) * 8 - 1), (bit) => {
      const bytes = Buffer.from(good)
      bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      t.is(decode([bytes]), null)
    }),
  )
})

test('a list of another version is refused although its digest is right', (t) => {
  const bytes = encodeMergeList({bootId: BOOT, merges: []}, 1, digest)
  bytes.writeUInt32LE(1, 16)
  bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(0, 64)), 64)
  t.throws(() => decode([bytes]), {message: /version 1 of its merge list/})
})

test('more than there is room for is refused', (t) => {
  const encode = (merges: readonly PendingMerge[]) => encodeMergeList({bootId: '', merges}, 1, digest)
  t.throws(() => encode(Array.from({length: 65}, () => GOOD)), {instanceOf: RangeError})
  t.throws(() => encode([{...GOOD, path: 'x'.repeat(412)}]), {instanceOf: RangeError})
  t.throws(() => encode([{...GOOD, samples: Array.from({length: 65}, () => ({chunk: 1, digests: []}))}]), {instanceOf: RangeError})
})

/** What lies in the slots, one behind the other. */
function decode(slots: readonly (Buffer | null)[]): ReturnType<typeof decodeMergeLists> {
  const bytes = Buffer.alloc(MERGE_SLOTS_BYTES)
  slots.forEach((slot, index) => slot?.copy(bytes, index * MERGE_SLOT_BYTES))
  return decodeMergeLists(bytes, digest, 'spare')
}
