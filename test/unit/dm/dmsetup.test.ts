import test from 'ava'
import type {Exec, ExecOptions} from '../../../service/edge/exec.js'
import {CommandError, DeviceMapperError} from '../../../service/errors.js'
import {openDeviceMapper} from '../../../service/dm/dmsetup.js'
import {parseTable} from '../../../service/dm/table.js'
import {fakeFiles} from '../fakes/files.js'

const SYSFS = fakeFiles({texts: {'/sys/block/vda/dev': '254:0\n', '/sys/block/dm-7/dm/name': 'root-permafrost-base\n', '/sys/block/dm-7/dev': '252:7\n'}})
const TABLE = parseTable('0 8 linear 8:1 0', 'x')

test('devices are read from columns', async (t) => {
  const {dm} = answering('permafrost-vda|PERMAFROST-wrap-vda|254|0|L--w\nhome-permafrost-base||254|1|LI-r\n')
  t.deepEqual(await dm.list(), [
    {name: 'permafrost-vda', uuid: 'PERMAFROST-wrap-vda', number: {major: 254, minor: 0}, isReadOnly: false, hasInactiveTable: false},
    {name: 'home-permafrost-base', uuid: '', number: {major: 254, minor: 1}, isReadOnly: true, hasInactiveTable: true},
  ])
})

test('where there are no devices the list is empty', async (t) => {
  t.deepEqual(await answering('No devices found\n').dm.list(), [])
})

test('a device is created without waiting for udev, its table given through a pipe', async (t) => {
  const {dm, calls} = answering('')
  const number = await dm.create({name: 'root-permafrost-base', uuid: 'PERMAFROST-base-root', table: TABLE, isReadOnly: true})
  t.deepEqual(number, {major: 252, minor: 7})
  t.is(
    calls[0]?.command,
    'dmsetup create --noudevsync --noudevrules --readonly --uuid PERMAFROST-base-root -- root-permafrost-base',
  )
  t.is(calls[0]?.options?.input, '0 8 linear 8:1 0\n')
})

test('no call that could wait for udev does so', async (t) => {
  const {dm, calls} = answering('x||254|7|L--w\n')
  await dm.create({name: 'root-permafrost-base', uuid: 'y', table: TABLE, isReadOnly: false})
  await dm.resume('x')
  await dm.remove('x')
  for (const {command} of calls) {
    if (/ (create|resume|remove) /.test(command)) t.regex(command, /--noudevsync/)
  }
})

test('keys are asked for with the table, and never put into an argument', async (t) => {
  const {dm, calls} = answering('0 8 crypt aes-xts-plain64 00ff 0 8:1 0\n')
  const table = await dm.table('home')
  await dm.load('home', table)
  t.regex(calls[0]?.command ?? '', /--showkeys/)
  t.false(calls.some(({command}) => command.includes('00ff')))
  t.is(calls[1]?.options?.input, '0 8 crypt aes-xts-plain64 00ff 0 8:1 0\n')
})

test('of the status the part of the target is given', async (t) => {
  t.is(await answering('0 2097152 snapshot-merge 128/8192 16\n').dm.status('root'), '128/8192 16')
})

test('a failure says what the kernel answered, and on which device', async (t) => {
  const dm = openDeviceMapper(async () => {
    throw new CommandError('dmsetup', 1, 'device-mapper: reload ioctl on root failed: Device or resource busy\nCommand failed.\n')
  }, SYSFS)
  await t.throwsAsync(dm.load('root', TABLE), {
    instanceOf: DeviceMapperError,
    message: "Cannot load a table for 'root': reload ioctl on root failed: Device or resource busy",
  })
})

function answering(output: string) {
  const calls: {command: string; options: ExecOptions | undefined}[] = []
  const exec: Exec = async (program, parameters, options) => {
    calls.push({command: [program, ...parameters].join(' '), options})
    return {exitStatus: 0, output}
  }
  return {dm: openDeviceMapper(exec, SYSFS), calls}
}
