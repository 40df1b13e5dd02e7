import {once} from 'node:events'
import {setTimeout as delay} from 'node:timers/promises'
import test from 'ava'
import {eitherOf} from '../../../service/edge/either-signal.js'
import {collectGarbage} from '../fakes/garbage.js'

test('is aborted with the reason of the first of them, once', (t) => {
  const [first, second] = [new AbortController(), new AbortController()]
  using either = eitherOf([first.signal, second.signal])
  t.false(either.signal.aborted)
  second.abort('second')
  first.abort('first')
  t.is(either.signal.reason, 'second')
})

test('is aborted at once when one of them is', (t) => {
  using either = eitherOf([new AbortController().signal, AbortSignal.abort('before')])
  t.is(either.signal.reason, 'before')
})

test('hears of none of them any more when it has been disposed of', (t) => {
  const controller = new AbortController()
  const either = eitherOf([controller.signal])
  either[Symbol.dispose]()
  controller.abort()
  t.false(either.signal.aborted)
})

test('a time that nobody else waits for runs out, whatever garbage is collected meanwhile', async (t) => {
  using either = eitherOf([new AbortController().signal, AbortSignal.timeout(100)])
  const aborted = once(either.signal, 'abort').then(() => 'aborted')
  await delay(1)
  collectGarbage()
  t.is(await Promise.race([aborted, delay(2000, 'never')]), 'aborted')
})
