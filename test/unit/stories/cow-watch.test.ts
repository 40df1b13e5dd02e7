import {setTimeout as delay} from 'node:timers/promises'
import test, {type ExecutionContext} from 'ava'
import {parseTable} from '../../../service/dm/table.js'
import type {PreparedFileSystem} from '../../../service/dm/prepare.js'
import {bytes} from '../../../service/dm/units.js'
import {AbortedError, CowFullError, DeviceMapperError, type FailedError} from '../../../service/errors.js'
import {watchSlices} from '../../../service/stories/cow-watch.js'
import {FakeDeviceMapper} from '../fakes/device-mapper.js'

const MIB = 2 ** 20

const ends: readonly {name: string; statuses: string[]; error: new (...words: never[]) => FailedError; message: RegExp}[] = [
  {
    name: 'three quarters of a slice are used',
    statuses: ['49152/65536 16', '49160/65536 16'],
    error: CowFullError,
    message: /written to '\/home' meanwhile, 8 MiB of 32 MiB for it are left; let fewer daemons/,
  },
  {name: 'a slice fills so fast that it would not last', statuses: ['16/65536 16', '32768/65536 16'], error: CowFullError, message: /16 MiB of 32 MiB for it are left/},
  {name: 'a write has failed for want of room', statuses: ['16/65536 16', 'Overflow'], error: CowFullError, message: /nothing of 32 MiB for it is left/},
  {name: 'a slice is broken', statuses: ['Invalid'], error: DeviceMapperError, message: /its state is 'Invalid'/},
]

for (const {name, statuses, error, message} of ends) {
  test(`ends the save when ${name}`, async (t) => {
    const {dm, watch} = await newWatch(t, statuses)
    const reason = await reasonOf(watch.signal)
    t.true(reason instanceof error, String(reason))
    t.regex(reason instanceof Error ? reason.message : '', message)
    t.is(dm.statuses.length, 1)
  })
}

test('lets a save go on that writes a burst, or slowly, and stops looking when it ends', async (t) => {
  const {dm, watch} = await newWatch(t, ['16/65536 16', '16384/65536 16', '20000/65536 16'])
  while (dm.statuses.length > 1) await delay(1)
  await delay(20)
  t.false(watch.signal.aborted)
  await watch[Symbol.asyncDispose]()
  dm.statuses = ['16/65536 16', 'Overflow']
  await delay(20)
  t.is(dm.statuses.length, 2)
})

test('passes on that the save was aborted', async (t) => {
  const controller = new AbortController()
  const {watch} = await newWatch(t, ['16/65536 16'], controller.signal)
  controller.abort(new AbortedError())
  t.true((await reasonOf(watch.signal)) instanceof AbortedError)
})

async function newWatch(t: ExecutionContext, statuses: string[], signal = new AbortController().signal) {
  const dm = new FakeDeviceMapper()
  const table = parseTable('0 2048 linear 252:0 0', 'x')
  const number = dm.add('home', '', table)
  const [device] = await dm.list()
  if (device === undefined) throw new Error('the fake has no device')
  dm.statuses = statuses
  const mapping = {kind: 'mapped', device, table, pathUnder: '/dev/vda', isEncrypted: false} as const
  const mounted = {mountPoint: '/home', type: 'ext4', uuid: '', isReadOnly: false, number, mapping}
  const fileSystem: PreparedFileSystem = {mounted, number, base: number, deviceBytes: bytes(MIB)}
  const watch = watchSlices({dm, fileSystems: [fileSystem], signal, intervalMs: 5})
  t.teardown(() => watch[Symbol.asyncDispose]())
  return {dm, watch}
}

async function reasonOf(signal: AbortSignal): Promise<unknown> {
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve))
  return signal.reason
}
