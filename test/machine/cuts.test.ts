// A few of the power cuts of `npm run soak -- cuts`, at other instants each time.
import test from 'ava'
import {runCuts} from '../soak/cuts.js'
import {Limit} from '../soak/limit.js'

const ROUNDS = 2

test('a power cut at a random instant of a save or a resume ends in a full resume or an ordinary boot, and nothing is lost', async t => {
  const seed = String(Date.now() % 1_000_000)
  const {tried, failures} = await runCuts({limit: new Limit({rounds: ROUNDS, minutes: Infinity}), seed})
  t.is(tried, ROUNDS)
  t.deepEqual(failures, [], `seed ${seed}`)
})
