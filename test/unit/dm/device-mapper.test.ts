import {constants} from 'node:os'
import test from 'ava'
import {DeviceMapperError} from '../../../service/errors.js'
import {openDeviceMapper} from '../../../service/dm/device-mapper.js'
import type {DeviceInfo, RawTarget, Task, TaskResult} from '../../../service/dm/libdevmapper.js'
import {parseTable} from '../../../service/dm/table.js'

const {EBUSY, ENOSPC} = constants.errno
const TABLE = parseTable('0 8 linear 8:1 0\n8 8 error', 'x')
const INFO: DeviceInfo = {exists: true, uuid: 'uuid', number: {major: 252, minor: 7}, isReadOnly: false, hasInactiveTable: true}
const BASE = {name: 'root-permafrost-base', uuid: 'PERMAFROST-base-root', table: TABLE, isReadOnly: true}

test('every device is listed with what is known of it', async (t) => {
  const {dm} = answering({list: {names: ['root', 'home']}})
  const {exists: _, ...known} = INFO
  t.deepEqual(await dm.list(), [{name: 'root', ...known}, {name: 'home', ...known}])
})

test('a device that goes while devices are listed is left out', async (t) => {
  const {dm} = answering({list: {names: ['root']}, info: {info: {...INFO, exists: false}}})
  t.deepEqual(await dm.list(), [])
})

test('a device is created, its table loaded and made live, and its number given', async (t) => {
  const {dm, tasks} = answering()
  t.deepEqual(await dm.create(BASE), {major: 252, minor: 7})
  t.deepEqual(tasks.map(({kind, device}) => `${kind} ${device}`), [
    'create root-permafrost-base',
    'load root-permafrost-base',
    'resume root-permafrost-base',
  ])
  t.is(tasks[0]?.uuid, 'PERMAFROST-base-root')
  t.true(tasks[1]?.isReadOnly)
  t.deepEqual(tasks[1]?.targets, [
    {start: 0, length: 8, type: 'linear', parameters: '8:1 0'},
    {start: 8, length: 8, type: 'error', parameters: ''},
  ])
})

test('a device whose table is refused is removed again', async (t) => {
  const {dm, tasks} = answering({load: {errno: ENOSPC}})
  await t.throwsAsync(dm.create(BASE), {message: "Cannot load a table for 'root-permafrost-base': ENOSPC"})
  t.is(tasks.at(-1)?.kind, 'remove')
})

test('a device that exists already is not removed when it cannot be created', async (t) => {
  const {dm, tasks} = answering({create: {errno: EBUSY}})
  await t.throwsAsync(dm.create(BASE), {message: "Cannot create 'root-permafrost-base': EBUSY"})
  t.deepEqual(tasks.map(({kind}) => kind), ['create'])
})

test('udev leaves alone what is created and removed, and hears of a live device that is resumed', async (t) => {
  const {dm, tasks} = answering()
  await dm.create(BASE)
  await dm.remove(BASE.name)
  for (const {kind, isPrivate} of tasks) if (kind !== 'load') t.true(isPrivate, kind)
  await dm.resume('root')
  t.falsy(tasks.at(-1)?.isPrivate)
})

test('a table is read as it is loaded', async (t) => {
  const targets = [
    {start: 0, length: 8, type: 'linear', parameters: '8:1 0'},
    {start: 8, length: 8, type: 'error', parameters: ''},
  ]
  const {dm, tasks} = answering({table: {targets}})
  const table = await dm.table('root')
  t.deepEqual(table, TABLE)
  await dm.load('root', table)
  t.deepEqual(tasks.at(-1)?.targets, targets)
})

test('a device without a table has none to read', async (t) => {
  const {dm} = answering({table: {targets: []}})
  await t.throwsAsync(dm.table('root'), {instanceOf: DeviceMapperError, message: "Cannot read the table of 'root': it has none"})
})

test('of the status the part of the target is given', async (t) => {
  const targets = [{start: 0, length: 2_097_152, type: 'snapshot-merge', parameters: '128/8192 16 '}]
  t.is(await answering({status: {targets}}).dm.status('root'), '128/8192 16')
})

test('a device that is not there has no status', async (t) => {
  const {dm} = answering({status: {info: {...INFO, exists: false}}})
  await t.throwsAsync(dm.status('root'), {message: "Cannot ask for the status of 'root': ENXIO"})
})

test('a failure says what was tried, on which device, and what the kernel answered', async (t) => {
  const {dm} = answering({load: {errno: EBUSY}, list: {errno: EBUSY}})
  await t.throwsAsync(dm.load('root', TABLE), {instanceOf: DeviceMapperError, message: "Cannot load a table for 'root': EBUSY"})
  await t.throwsAsync(dm.list(), {message: "Cannot list 'all devices': EBUSY"})
})

interface Answer {
  readonly errno?: number
  readonly info?: DeviceInfo
  readonly names?: readonly string[]
  readonly targets?: readonly RawTarget[]
}

/** The kernel: done, unless `answers` has something else for that kind of task. */
function answering(answers: Partial<Record<Task['kind'], Answer>> = {}) {
  const tasks: Task[] = []
  const run = async (task: Task): Promise<TaskResult> => {
    tasks.push(task)
    const {errno, info = INFO, names = [], targets = []} = answers[task.kind] ?? {}
    return errno === undefined ? {kind: 'done', info, names, targets} : {kind: 'failed', errno}
  }
  return {dm: openDeviceMapper(run), tasks}
}
