import test from 'ava'
import {parseSliceStatus} from '../../../service/dm/slice.js'

test('a slice tells what is used, in bytes', (t) => {
  t.deepEqual(parseSliceStatus('24/2048 16'), {kind: 'usable', used: 12_288, total: 1_048_576, bookkeeping: 8192})
})

test('a slice that had no room is not one that is broken', (t) => {
  t.deepEqual(parseSliceStatus('Overflow'), {kind: 'overflowed'})
  for (const status of ['Invalid', 'Merge failed', 'Unknown', '', '1/2']) t.deepEqual(parseSliceStatus(status), {kind: 'broken', status})
})
