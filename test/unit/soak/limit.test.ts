import test from 'ava'
import {Limit} from '../../soak/limit.js'

test('rounds are enough when there were as many as asked for', t => {
  const limit = new Limit({rounds: 2, minutes: Infinity})
  t.deepEqual([0, 1, 2, 3].map(done => limit.isReached(done)), [false, false, true, true])
})

test('rounds are enough when the time has passed, however few there were', async t => {
  const limit = new Limit({rounds: 1000, minutes: 0.05 / 60})
  t.false(limit.isReached(0))
  await new Promise(resolve => setTimeout(resolve, 100))
  t.true(limit.isReached(0))
})
