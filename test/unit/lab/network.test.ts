import test from 'ava'
import {UsageError} from '../../lab/errors.js'
import {networkArguments, parseNetwork} from '../../lab/network.js'

test('machines of one segment share a group, and no two addresses share a card', t => {
  const [one, two, other] = ['blue=10.7.0.1/24', 'blue=10.7.0.2/24', 'red=10.7.0.1/24'].map(text => networkArguments(parseNetwork(text)))
  t.is(one?.[1], two?.[1])
  t.not(one?.[1], other?.[1])
  t.not(one?.[3], two?.[3])
})

for (const text of ['10.7.0.1/24', 'blue=10.7.0.1', 'Blue=10.7.0.1/24', 'blue=fe80::1/64'])
  test(`does not take '${text}' for a network`, t => {
    t.throws(() => parseNetwork(text), {instanceOf: UsageError, message: /expected SEGMENT=ADDRESS\/PREFIX/})
  })
