import test from 'ava'
import {CompressionChoice} from '../../../service/image/compression-choice.js'

const MIB = 2 ** 20
const PLENTY = {freeBytes: 1000 * MIB, remainingBytes: 500 * MIB}

test('compresses while nothing is known yet', (t) => {
  t.true(new CompressionChoice(2).shouldCompress(PLENTY))
})

test('compresses when the disk is slower than the compressors', (t) => {
  t.true(observed({compressMs: 2, writeMs: 8}).shouldCompress(PLENTY))
})

test('does not compress when the disk is faster than the compressors', (t) => {
  t.false(observed({compressMs: 12, writeMs: 0.5}).shouldCompress(PLENTY))
})

test('compresses all the same when there is no room for the rest as it is', (t) => {
  const choice = observed({compressMs: 12, writeMs: 0.5})
  t.true(choice.shouldCompress({freeBytes: 500 * MIB, remainingBytes: 500 * MIB}))
})

test('goes back to compressing when the disk becomes slow', (t) => {
  const choice = observed({compressMs: 12, writeMs: 0.5})
  for (let count = 0; count < 30; count++) choice.observeWrite({elapsedMs: 40, bytes: MIB, sharers: 1})
  t.true(choice.shouldCompress(PLENTY))
})

test('compresses a chunk now and then although it does not pay', (t) => {
  const choice = observed({compressMs: 12, writeMs: 0.5})
  const decisions = Array.from({length: 96}, () => choice.shouldCompress(PLENTY))
  t.is(decisions.filter(Boolean).length, 2)
})

test('several writes under way at once share the time they took', (t) => {
  const alone = new CompressionChoice(1)
  alone.observeCompression({elapsedMs: 3, rawBytes: MIB, storedBytes: MIB / 2})
  alone.observeWrite({elapsedMs: 8, bytes: MIB, sharers: 8})
  t.false(alone.shouldCompress(PLENTY))
})

function observed({compressMs, writeMs}: {compressMs: number; writeMs: number}): CompressionChoice {
  const choice = new CompressionChoice(2)
  for (let count = 0; count < 30; count++) {
    choice.observeCompression({elapsedMs: compressMs, rawBytes: MIB, storedBytes: MIB / 2})
    choice.observeWrite({elapsedMs: writeMs, bytes: MIB, sharers: 1})
  }
  return choice
}
