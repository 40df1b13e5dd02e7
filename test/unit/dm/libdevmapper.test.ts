import {constants} from 'node:os'
import {existsSync, openSync, closeSync} from 'node:fs'
import {randomBytes} from 'node:crypto'
import test from 'ava'
import {openLibdevmapper, type TaskResult} from '../../../service/dm/libdevmapper.js'

const hasDriver = existsSync('/sys/class/misc/device-mapper') && process.getuid?.() === 0
const driverTest = hasDriver ? test.serial : test.skip
const withoutDriver = hasDriver ? '' : ' (skipped: root and the device-mapper driver are missing)'
const TARGET = {start: 0, length: 8, type: 'error', parameters: ''}

test('the library refuses a name that is too long, or finds no driver', async (t) => {
  const result = await openLibdevmapper()({kind: 'info', device: 'x'.repeat(200)})
  t.deepEqual(result, {kind: 'failed', errno: hasDriver ? constants.errno.EINVAL : constants.errno.ENODEV})
})

test('tasks asked for at once are all answered, through whichever opening of the library', async (t) => {
  const runs = [openLibdevmapper(), openLibdevmapper()]
  const results = await Promise.all(Array.from({length: 20}, (_, index) => runs[index % 2]?.({kind: 'list', device: null})))
  t.deepEqual(new Set(results.map((result) => result?.kind)), new Set([hasDriver ? 'done' : 'failed']))
})

driverTest(`a device is made, listed, read and removed${withoutDriver}`, async (t) => {
  const run = openLibdevmapper()
  const device = `${randomBytes(4).toString('hex')}_permafrost_delme`
  const {info} = done(await run({kind: 'create', device, uuid: `uuid-${device}`, isPrivate: true}))
  try {
    await run({kind: 'load', device, targets: [TARGET], isReadOnly: true})
    t.true(done(await run({kind: 'info', device})).info.hasInactiveTable)
    await run({kind: 'resume', device, isPrivate: true})
    t.true(done(await run({kind: 'list', device: null})).names.includes(device))
    t.deepEqual(done(await run({kind: 'table', device})).targets, [TARGET])
    t.like(done(await run({kind: 'info', device})).info, {
      exists: true,
      uuid: `uuid-${device}`,
      number: info.number,
      isReadOnly: true,
      hasInactiveTable: false,
    })
  } finally {
    await run({kind: 'remove', device, isPrivate: true})
  }
  t.false(done(await run({kind: 'info', device})).info.exists)
  t.deepEqual(await run({kind: 'table', device}), {kind: 'failed', errno: constants.errno.ENXIO})
})

driverTest(`a device held for a moment is removed once it is let go, while other work goes on${withoutDriver}`, async (t) => {
  const run = openLibdevmapper()
  const device = `${randomBytes(4).toString('hex')}_permafrost_delme`
  const {number} = done(await run({kind: 'create', device, isPrivate: true})).info
  await run({kind: 'load', device, targets: [TARGET]})
  await run({kind: 'resume', device, isPrivate: true})
  const fd = openSync(`/dev/dm-${number.minor}`, 'r')
  setTimeout(() => closeSync(fd), 300)
  t.is((await run({kind: 'remove', device, isPrivate: true})).kind, 'done')
})

function done(result: TaskResult): Extract<TaskResult, {kind: 'done'}> {
  if (result.kind === 'failed') throw new Error(`Cannot run the task: errno ${result.errno}`)
  return result
}
