import {spawnSync} from 'node:child_process'
import test from 'ava'
import {FAULT_POINTS, NO_FAULTS, parseFaults} from '../../../service/edge/faults.js'
import {FaultInjectedError} from '../../../service/errors.js'

test('no point fails when the variable is not set', (t) => {
  for (const setting of [undefined, '']) {
    const faults = parseFaults(setting)
    t.is(faults, NO_FAULTS)
    for (const point of FAULT_POINTS) t.notThrows(() => faults.hit(point))
  }
})

test('the named point fails and no other', (t) => {
  const faults = parseFaults('frozen')
  t.throws(() => faults.hit('frozen'), {instanceOf: FaultInjectedError, message: /'frozen'/})
  t.notThrows(() => faults.hit('snapshot-taken'))
})

test('several points fail, each for itself', (t) => {
  const faults = parseFaults('stream-written,merge-begun:fail')
  for (const point of ['stream-written', 'merge-begun'] as const) t.throws(() => faults.hit(point), {message: new RegExp(`'${point}'`)})
  t.notThrows(() => faults.hit('thawed'))
})

for (const setting of ['freezing', 'frozen:explode', ':kill', 'frozen,', 'frozen,thawing']) {
  test(`'${setting}' is refused, with the names there are`, (t) => {
    t.throws(() => parseFaults(setting), {message: /expected NAME.*snapshot-taken/})
  })
}

test('a point that kills ends the process as a crash would', (t) => {
  const script = `
    const {parseFaults} = await import('./service/edge/faults.ts')
    parseFaults('frozen:kill').hit('frozen')
    console.log('still alive')`
  const {signal, stdout} = spawnSync(
    process.execPath,
    ['--import=./test/lib/register.mjs', '--input-type=module', '--eval', script],
    {encoding: 'utf8'},
  )
  t.is(signal, 'SIGKILL')
  t.is(stdout, '')
})
