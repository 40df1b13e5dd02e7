import test from 'ava'
import {fromBusError, REFUSALS, toBusError} from '../../../service/bus/errors.js'
import * as errors from '../../../service/errors.js'

const classes = Object.entries(errors).flatMap(([name, value]) =>
  typeof value === 'function' && value.prototype instanceof errors.PermafrostError && !['FileError', 'LineError'].includes(name) ? [{name, Class: value}] : [])

for (const {name, Class} of classes) {
  test(`knows on both ends of the bus whether ${name} is a refusal`, (t) => {
    const error: unknown = Reflect.construct(Class, ['a', 1, 'b', 'c'])
    if (!(error instanceof errors.PermafrostError)) {
      t.fail()
      return
    }
    const {name: busName, text} = toBusError(error)
    t.is(REFUSALS.has(busName), error instanceof errors.RefusedError)
    const remote = fromBusError(busName, text)
    t.is(remote instanceof errors.RefusedError, error instanceof errors.RefusedError)
    t.is(remote.busName, busName)
    t.is(remote.message, error.message)
  })
}

test('gives each cause a name of its own', (t) => {
  const names = classes
    .filter(({name}) => !['PermafrostError', 'FailedError'].includes(name))
    .map(({Class}) => (Reflect.construct(Class, ['a', 1, 'b', 'c']) as errors.PermafrostError).busName)
  t.deepEqual(names.filter((name, index) => names.indexOf(name) !== index), [])
})

test('sends no stack and no path of a bug over the bus', (t) => {
  const {name, text} = toBusError(new TypeError('oops'))
  t.deepEqual({name, text}, {name: 'org.permafrost1.Error.Failed', text: 'Cannot answer: oops'})
})
