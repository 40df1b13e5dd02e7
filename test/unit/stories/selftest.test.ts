import test from 'ava'
import {parseFaults} from '../../../service/edge/faults.js'
import {AbortedError, FaultInjectedError, SystemCallError} from '../../../service/errors.js'
import {selfTest} from '../../../service/stories/selftest.js'
import {assertAsBefore} from '../fakes/as-before.js'
import {fakeMachine, ORIGINAL_TABLES, recordingRequest} from '../fakes/machine.js'

test('back at the instant of the snapshot everybody runs on their own tables, and no image was begun', async (t) => {
  const fake = await fakeMachine(t, {side: 'resumed'})
  const request = recordingRequest()
  const outcome = await selfTest(request, fake.machine)
  t.is(outcome.kind, 'resumed')
  t.deepEqual(request.states, ['checking', 'preparing', 'freezing', 'snapshot', 'resuming'])
  t.deepEqual(await fake.liveTables(), ORIGINAL_TABLES)
  t.false(fake.kernel.isFrozen)
  t.deepEqual(fake.kernel.reseeds, [true])
  t.is(await fake.imageState(), 'empty')
  t.deepEqual(Object.keys(outcome.figures).sort(), ['freeze_ns', 'frozen_tasks', 'needed_processes', 'prepare_ms', 'round_trip_ms'])
  t.true(Number(outcome.figures['round_trip_ms']) >= 0)
})

test('goes back out of memory, and the power stays on', async (t) => {
  const fake = await fakeMachine(t)
  await selfTest(recordingRequest(), fake.machine)
  t.is(fake.kernel.returns, 1)
  t.is(fake.kernel.poweredOff, 0)
})

test('a driver that cannot leaves everything as it was, and is named', async (t) => {
  const fake = await fakeMachine(t)
  fake.kernel.failing = {call: 'resumeSnapshot', error: new SystemCallError('go back to the snapshot', 16)}
  const outcome = await selfTest(recordingRequest(), fake.machine)
  t.is(outcome.kind === 'rolled-back' ? outcome.cause.message : '', 'Cannot go back to the snapshot: EBUSY')
  await assertAsBefore(t, fake)
})

test('Esc before the way back makes it go on as it was', async (t) => {
  const fake = await fakeMachine(t)
  const outcome = await selfTest({...recordingRequest(AbortSignal.abort(new AbortedError()))}, fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof AbortedError)
  t.is(fake.kernel.returns, 0)
  await assertAsBefore(t, fake)
})

for (const point of ['tables-loaded', 'frozen', 'needed-running', 'snapshot-taken'] as const) {
  test(`a failure at '${point}' leaves everything as it was`, async (t) => {
    const fake = await fakeMachine(t, {faults: parseFaults(`${point}:fail`)})
    const outcome = await selfTest(recordingRequest(), fake.machine)
    t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof FaultInjectedError)
    await assertAsBefore(t, fake)
  })
}
