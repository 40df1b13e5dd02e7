import {readFileSync} from 'node:fs'
import {setTimeout as sleep} from 'node:timers/promises'
import test, {type ExecutionContext} from 'ava'
import {FAULT_POINTS, parseFaults, type FaultPoint} from '../../../service/edge/faults.js'
import {
  AbortedError,
  BusyError,
  CowFullError,
  FaultInjectedError,
  FreezeError,
  SnapshotError,
  SystemCallError,
} from '../../../service/errors.js'
import type {DeviceNumber} from '../../../service/edge/device-number.js'
import {DirectDevice} from '../../../service/edge/direct-device.js'
import {readChunks, readHeader} from '../../../service/image/read.js'
import type {MergeList} from '../../../service/image/merge-list.js'
import {decodeSuperblock, type ImageState} from '../../../service/image/superblock.js'
import {hibernate, type StoryState} from '../../../service/stories/hibernate.js'
import {recover} from '../../../service/stories/rollback.js'
import {assertAsBefore} from '../fakes/as-before.js'
import {fakeMachine, needed, ORIGINAL_TABLES, recordingRequest, type FakeMachine} from '../fakes/machine.js'

test('the created side ends with the power off, and by then the image is valid', async (t) => {
  const {fake, request, atPowerOff} = await hibernateUntilPowerOff(t)
  t.is(fake.kernel.poweredOff, 1)
  t.like(atPowerOff, {state: 'valid', streamBytes: fake.stream.length})
  t.deepEqual(request.states.slice(0, 6), ['checking', 'preparing', 'freezing', 'snapshot', 'saving', 'powering-off'])
})

test('the image holds the stream, the kernel, the file systems and the figures', async (t) => {
  const {fake, atPowerOff} = await hibernateUntilPowerOff(t)
  await using source = await DirectDevice.openForReading(fake.spare.name)
  const job = {source, superblock: atPowerOff, digest: fake.machine.digest, lz4: fake.machine.lz4, where: 'spare'}
  const header = await readHeader(job)
  t.deepEqual(header.kernel, {...fake.machine.host.kernel, physicalPages: 262_144})
  t.deepEqual(
    header.fileSystems.map(({path, uuid, type, regions}) => [path, uuid, type, regions.length]),
    [
      ['/dev/vda', '1111', 'ext4', 1],
      ['/dev/vdb', '2222', 'ext4', 1],
    ],
  )
  t.like(header.figures, {pause_ns: '148000000', pages_copied: '22000', frozen_tasks: '120', image_bytes: String(fake.stream.length)})
  t.like(header.text, {cmdline: 'root=UUID=1 quiet', hostname: 'ice'})
  const pieces: Buffer[] = []
  for await (const piece of readChunks(job, header, new AbortController().signal)) pieces.push(Buffer.from(piece))
  t.true(Buffer.concat(pieces).equals(fake.stream))
})

test('progress goes up to the whole', async (t) => {
  const {request} = await hibernateUntilPowerOff(t)
  const fractions = request.progress.map(({fraction}) => fraction)
  t.deepEqual(fractions, [...fractions].sort())
  t.is(fractions.at(-1), 1)
})

test('every file system is named to the kernel, with the memory that is to stay free', async (t) => {
  const {fake} = await hibernateUntilPowerOff(t)
  t.deepEqual(fake.kernel.snapshots, [
    {overheadPages: 16_384, freezerFd: 1000, devices: [{major: 254, minor: 0}, {major: 254, minor: 1}]},
  ])
})

test('page cache is dropped before the snapshot, unless the configuration keeps it', async (t) => {
  const {fake} = await hibernateUntilPowerOff(t)
  t.is(fake.kernel.pageCacheDrops, 1)
  const keeping = await fakeMachine(t, {side: 'resumed'})
  const configuration = {...keeping.machine.configuration, dropsPageCache: false}
  await hibernate(recordingRequest(), {...keeping.machine, configuration})
  t.is(keeping.kernel.pageCacheDrops, 0)
})

test('whom the policy names goes on after the freeze, and nobody else', async (t) => {
  const fake = await fakeMachine(t, {side: 'resumed', needed: [needed(70), needed(71), needed(72)]})
  fake.kernel.gone = [71]
  await hibernate(recordingRequest(), fake.machine)
  t.deepEqual([...fake.kernel.unfrozen], [70, 72])
})

test('nobody but the service runs when the power goes', async (t) => {
  const fake = await fakeMachine(t, {needed: [needed(70), needed(71)]})
  await hibernate(recordingRequest(), fake.machine)
  t.deepEqual(fake.kernel.runningAtPowerOff, [[]])
})

test('a base that cannot be read ends the save', async (t) => {
  const fake = await fakeMachine(t)
  let isSaving = false
  const blocks = {
    ...fake.machine.blocks,
    openForReading: (device: DeviceNumber) =>
      isSaving ? Promise.reject(new Error('the base does not answer')) : fake.machine.blocks.openForReading(device),
  }
  const onState = (state: StoryState): void => void (isSaving = state === 'saving')
  const outcome = await hibernate({...recordingRequest(), onState}, {...fake.machine, blocks})
  t.regex(outcome.kind === 'rolled-back' ? outcome.cause.message : '', /the base does not answer/)
  await assertAsBefore(t, fake)
})

test('a stream that cannot be saved is given up when nobody reads a base any more', async (t) => {
  const fake = await fakeMachine(t)
  let readers = 0
  const blocks = {
    ...fake.machine.blocks,
    openForReading: async (device: DeviceNumber) => {
      readers++
      await sleep(300)
      readers--
      return await fake.machine.blocks.openForReading(device)
    },
  }
  const begin = fake.spare.begin.bind(fake.spare)
  fake.spare.begin = async () => Object.assign(await begin(), {write: () => Promise.reject(new Error('the disk is broken'))})
  const readersThen: number[] = []
  const onState = (state: StoryState): void => void (state === 'rolling-back' && readersThen.push(readers))
  const outcome = await hibernate({...recordingRequest(), onState}, {...fake.machine, blocks})
  t.regex(outcome.kind === 'rolled-back' ? outcome.cause.message : '', /the disk is broken/)
  t.is(readersThen[0], 0)
  await assertAsBefore(t, fake)
})

test('when the power does not go, the needed processes run again before the file systems are put back', async (t) => {
  const fake = await fakeMachine(t, {needed: [needed(70)]})
  fake.kernel.failing = {call: 'powerOff', error: new SystemCallError('power off', 1)}
  await hibernate(recordingRequest(), fake.machine)
  t.deepEqual([...fake.kernel.unfrozen], [70])
})

test('the resumed side thaws, drops what was prepared and marks the image resumed', async (t) => {
  const fake = await fakeMachine(t, {side: 'resumed'})
  const request = recordingRequest()
  const outcome = await hibernate(request, fake.machine)
  t.is(outcome.kind, 'resumed')
  t.like(outcome.figures, {frozen_tasks: 120, needed_processes: 0})
  t.false(fake.kernel.isFrozen)
  t.is(fake.kernel.poweredOff, 0)
  t.deepEqual(await fake.liveTables(), ORIGINAL_TABLES)
  t.is(await fake.imageState(), 'resumed')
  t.deepEqual(request.states, ['checking', 'preparing', 'freezing', 'snapshot', 'resuming'])
  t.regex(fake.log.join('\n'), /^Resumed: .*frozen_tasks=120/m)
})

test('in the resumed system the figures are those of the image', async (t) => {
  const fake = await fakeMachine(t, {side: 'resumed'})
  fake.spare.readFigures = async () => ({pause_ns: '151000000', save_ms: '900', note: 'x'})
  const outcome = await hibernate(recordingRequest(), fake.machine)
  t.like(outcome.figures, {pause_ns: 151_000_000, save_ms: 900, frozen_tasks: 120})
  t.false('note' in outcome.figures)
})

test('what fails in the resumed system keeps nobody frozen', async (t) => {
  const fake = await fakeMachine(t, {side: 'resumed'})
  fake.dm.failing = 'remove permafrost-vda-permafrost-cow'
  const outcome = await hibernate(recordingRequest(), fake.machine)
  t.is(outcome.kind, 'resumed')
  t.false(fake.kernel.isFrozen)
  t.is(await fake.imageState(), 'resumed')
  t.regex(fake.log.join('\n'), /Cannot remove bases and slices after the resume.*, ignoring/)
})

test('the random generator has new keys before anybody is thawed in the resumed system', async (t) => {
  const fake = await fakeMachine(t, {side: 'resumed'})
  await hibernate(recordingRequest(), fake.machine)
  t.deepEqual(fake.kernel.reseeds, [true])
})

test('a random generator that cannot be reseeded keeps nobody frozen', async (t) => {
  const fake = await fakeMachine(t, {side: 'resumed'})
  fake.kernel.failing = {call: 'reseedRandom', error: new SystemCallError('reseed the random generator', 1)}
  const outcome = await hibernate(recordingRequest(), fake.machine)
  t.is(outcome.kind, 'resumed')
  t.false(fake.kernel.isFrozen)
  t.regex(fake.log.join('\n'), /Cannot reseed the random generator after the resume: .*EPERM.*, ignoring/)
})

test('a preflight that does not pass changes nothing', async (t) => {
  const fake = await fakeMachine(t, {isSetUp: false})
  const request = recordingRequest()
  await t.throwsAsync(hibernate(request, fake.machine), {message: /permafrost setup/})
  t.deepEqual(fake.dm.changes, [])
  t.false(fake.kernel.isFrozen)
  t.deepEqual(request.states, ['checking'])
})

test('a second hibernation at the same time is refused', async (t) => {
  const fake = await fakeMachine(t, {side: 'resumed'})
  const first = hibernate(recordingRequest(), fake.machine)
  await t.throwsAsync(hibernate(recordingRequest(), fake.machine), {instanceOf: BusyError})
  t.is((await first).kind, 'resumed')
})

const failures: readonly (readonly [string, (fake: FakeMachine) => void, RegExp])[] = [
  [
    'nobody can be frozen',
    ({kernel}) => void (kernel.failing = {call: 'freezeProcesses', error: new FreezeError(110, {pid: 9, command: 'dd'})}),
    /'dd'/,
  ],
  ['the snapshot fails', ({kernel}) => void (kernel.failing = {call: 'snapshotKernel', error: new SnapshotError(12, 500)}), /: 2 MiB more memory needed/],
  [
    'the power does not go off',
    ({kernel}) => void (kernel.failing = {call: 'powerOff', error: new SystemCallError('power off', 1)}),
    /power off/,
  ],
  ['a base cannot be made', ({dm}) => void (dm.failing = 'create permafrost-vdb-permafrost-base'), /permafrost-vdb-permafrost-base/],
]

for (const [name, breakIt, message] of failures) {
  test(`when ${name} the machine goes on as it was`, async (t) => {
    const fake = await fakeMachine(t)
    breakIt(fake)
    const outcome = await hibernate(recordingRequest(), fake.machine)
    t.is(outcome.kind, 'rolled-back')
    t.regex(outcome.kind === 'rolled-back' ? outcome.cause.message : '', message)
    await assertAsBefore(t, fake)
  })
}

/** Passed on the way to a valid image, before which a failure must leave none behind. */
const OF_CREATED_SIDE = FAULT_POINTS.slice(1, FAULT_POINTS.indexOf('resumed'))

for (const point of OF_CREATED_SIDE) {
  test(`a failure at '${point}' ends thawed, with the tables as they were and no valid image`, async (t) => {
    const fake = await fakeMachine(t, {faults: parseFaults(point)})
    const outcome = await hibernate(recordingRequest(), fake.machine)
    t.is(outcome.kind, 'rolled-back')
    t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof FaultInjectedError)
    await assertAsBefore(t, fake)
  })
}

test("a failure at 'preflight-passed' has changed nothing", async (t) => {
  const fake = await fakeMachine(t, {faults: parseFaults('preflight-passed')})
  await t.throwsAsync(hibernate(recordingRequest(), fake.machine), {instanceOf: FaultInjectedError})
  await assertAsBefore(t, fake)
})

for (const point of ['resumed', 'resumed-thawed'] satisfies FaultPoint[]) {
  test(`a failure at '${point}' still ends resumed and thawed`, async (t) => {
    const fake = await fakeMachine(t, {side: 'resumed', faults: parseFaults(point)})
    t.is((await hibernate(recordingRequest(), fake.machine)).kind, 'resumed')
    t.false(fake.kernel.isFrozen)
  })
}

test('an image on a device that is not back yet is marked resumed later', async (t) => {
  const fake = await fakeMachine(t, {side: 'resumed'})
  const marks: string[] = []
  fake.spare.readState = async () => 'resuming'
  const marked = new Promise<void>((resolve) => {
    fake.spare.mark = async (state) => {
      marks.push(state)
      if (marks.length === 1) throw new Error('the device ends before byte 4096')
      resolve()
    }
  })
  t.is((await hibernate(recordingRequest(), fake.machine)).kind, 'resumed')
  t.false(fake.kernel.isFrozen)
  // The timer of the daemon does not keep a program running.
  await Promise.race([marked, sleep(10_000)])
  t.deepEqual(marks, ['resumed', 'resumed'])
})

for (const point of FAULT_POINTS.slice(FAULT_POINTS.indexOf('image-given-up'))) {
  test(`a roll-back that fails at '${point}' ends thawed, and the next start of the daemon finishes it`, async (t) => {
    const fake = await fakeMachine(t, {faults: parseFaults(point)})
    fake.kernel.failing = {call: 'powerOff', error: new SystemCallError('power off', 1)}
    const outcome = await hibernate(recordingRequest(), fake.machine)
    t.is(outcome.kind, 'rolled-back')
    t.false(fake.kernel.isFrozen)
    t.is(await fake.imageState(), 'aborted')
    await recover(fake.machine)
    await assertAsBefore(t, fake)
  })
}

test('what is merged is on the spare device before the first merge begins, and no longer there after the last', async (t) => {
  const fake = await fakeMachine(t, {faults: parseFaults('stream-written')})
  const seen: (MergeList | null)[] = []
  const {load} = fake.dm
  fake.dm.load = async (name, table) => {
    if (table[0]?.kind === 'snapshot-merge' || name.endsWith('-base')) seen.push(await fake.spare.readMerges())
    await load.call(fake.dm, name, table)
  }
  await hibernate(recordingRequest(), fake.machine)
  t.is(seen.length, 4)
  for (const list of seen) {
    t.deepEqual(list?.merges.map(({path, uuid, baseBytes, chunkSectors, hasLostKey}) => [path, uuid, baseBytes, chunkSectors, hasLostKey]), [
      ['/dev/vda', '1111', 2048 * 512, 8, false],
      ['/dev/vdb', '2222', 4096 * 512, 8, false],
    ])
  }
  const {cowAreaOffset} = await fake.spare.readSuperblock()
  t.is(seen[0]?.merges[0]?.sliceOffset, cowAreaOffset)
  t.is(await fake.spare.readMerges(), null)
})

for (const {times, merges, log} of [
  {times: 1, merges: [2, 2], log: null},
  {times: 2, merges: [0, 0], log: /Merging although it could not be written down/},
]) {
  test(`no merge begins before everybody runs where the list cannot be written ${times === 1 ? 'at first' : 'at all'}`, async (t) => {
    const fake = await fakeMachine(t, {faults: parseFaults('stream-written')})
    const {recordMerges} = fake.spare
    let failures = times
    fake.spare.recordMerges = async (list) => {
      if (failures-- > 0) throw new Error('a bad sector')
      await recordMerges.call(fake.spare, list)
    }
    const begun: {isFrozen: boolean; noted: number}[] = []
    const {load} = fake.dm
    fake.dm.load = async (name, table) => {
      if (table[0]?.kind === 'snapshot-merge') begun.push({isFrozen: fake.kernel.isFrozen, noted: (await fake.spare.readMerges())?.merges.length ?? 0})
      await load.call(fake.dm, name, table)
    }
    await hibernate(recordingRequest(), fake.machine)
    t.deepEqual(begun, merges.map((noted) => ({isFrozen: false, noted})))
    t.regex(fake.log.join('\n'), log ?? /Cannot write down what is merged.*a bad sector/)
    await assertAsBefore(t, fake)
  })
}

test('the image is given up before what it has in memory and on swap devices is let go', async (t) => {
  const fake = await fakeMachine(t)
  fake.kernel.failing = {call: 'powerOff', error: new SystemCallError('power off', 1)}
  const marks: {state: string; isImageOpen: boolean}[] = []
  const {mark} = fake.spare
  fake.spare.mark = async (state) => {
    marks.push({state, isImageOpen: fake.kernel.isImageOpen})
    await mark.call(fake.spare, state)
  }
  await hibernate(recordingRequest(), fake.machine)
  t.deepEqual(marks[0], {state: 'aborted', isImageOpen: true})
})

test('whatever the disks have in their caches is flushed before the image is valid', async (t) => {
  const flushed: string[] = []
  const {machine, spare} = await swappingMachine(t)
  const flush = async ({major, minor}: DeviceNumber) => void flushed.push(`${major}:${minor} while ${await spare.readState()}`)
  await hibernate(recordingRequest(), {...machine, blocks: {...machine.blocks, flush}})
  t.deepEqual(flushed.filter((each) => each.endsWith('writing')).sort(), ['251:0 while writing', '252:64 while writing', '254:2 while writing', '254:3 while writing'])
})

test('the image knows whether anybody else swaps before it is resumed', async (t) => {
  const {machine, spare} = await swappingMachine(t)
  await hibernate(recordingRequest(), machine)
  const {fileSystems} = await spare.readHeader()
  const swaps = fileSystems.filter(({type}) => type === 'swap')
  t.deepEqual(swaps.map(({path, uuid, regions}) => [path, uuid, regions.length]), [['/dev/vde', '5555', 65]])
  t.deepEqual(swaps[0]?.regions.map(({offset, bytes}) => [offset, bytes]).at(-1), [64 * 2 ** 20, 4096])
})

/** Swaps to a disk of 64 MiB and 4 KiB, to compressed memory and to a file. */
async function swappingMachine(t: ExecutionContext): Promise<FakeMachine> {
  return await fakeMachine(t, {
    tree: {
      texts: {
        '/proc/swaps': 'Filename Type Size Used Priority\n/dev/vde partition 65540 0 -2\n/dev/zram0 partition 4096 0 100\n/swap file 4096 0 -3\n',
        '/sys/dev/block/252:64/uevent': 'DEVNAME=vde\n',
        '/sys/dev/block/252:64/size': '131080\n',
        '/sys/dev/block/252:64/device/vendor': '0x1af4\n',
        '/run/udev/data/b252:64': 'E:ID_FS_UUID=5555\n',
        '/sys/dev/block/251:0/uevent': 'DEVNAME=zram0\n',
        '/sys/dev/block/251:0/size': '8192\n',
      },
      blockDevices: {'/dev/vde': {major: 252, minor: 64}, '/dev/zram0': {major: 251, minor: 0}},
    },
  })
}

test('an abort while saving ends thawed, with the tables as they were and no valid image', async (t) => {
  const fake = await fakeMachine(t)
  const controller = new AbortController()
  const request = {...recordingRequest(controller.signal), onProgress: () => controller.abort(new AbortedError())}
  const outcome = await hibernate(request, fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof AbortedError)
  await assertAsBefore(t, fake)
})

test('a slice without room ends the save thawed, with the tables as they were and no valid image', async (t) => {
  const fake = await fakeMachine(t)
  fake.dm.statuses = ['Overflow']
  const outcome = await hibernate(recordingRequest(), fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof CowFullError)
  await assertAsBefore(t, fake)
})

test('a slice that is lost restarts the machine before anything is merged', async (t) => {
  const fake = await fakeMachine(t)
  fake.dm.statuses = ['Invalid']
  await hibernate(recordingRequest(), fake.machine)
  t.is(fake.kernel.restarts.length, 1)
  t.regex(fake.kernel.restarts[0] ?? '', /^Cannot go back: .* has failed, and with it what was written to 'permafrost-vda', 'permafrost-vdb'/)
  t.deepEqual(fake.dm.changes.filter((change) => /^(load|resume) permafrost-vd.-permafrost-base/.test(change)), [])
})

test('the image is given up before a base is made writable, and merging begins before the thaw', async (t) => {
  const fake = await fakeMachine(t, {faults: parseFaults('stream-written')})
  const seen: {change: string; isFrozen: boolean; isImageOpen: boolean; state: ImageState}[] = []
  const {load} = fake.dm
  fake.dm.load = async (name, table) => {
    const {isFrozen, isImageOpen} = fake.kernel
    seen.push({change: `load ${name}`, isFrozen, isImageOpen, state: await fake.imageState()})
    await load.call(fake.dm, name, table)
  }
  await hibernate(recordingRequest(), fake.machine)
  const base = seen.find(({change}) => change === 'load permafrost-vda-permafrost-base')
  t.deepEqual(base, {change: 'load permafrost-vda-permafrost-base', isFrozen: true, isImageOpen: false, state: 'aborted'})
})

/** What is on the spare device is looked at in the instant of the power-off: the test goes on with a roll-back. */
async function hibernateUntilPowerOff(t: ExecutionContext) {
  const sectors: Buffer[] = []
  const fake: FakeMachine = await fakeMachine(t, {onPowerOff: () => sectors.push(readFileSync(fake.spare.name).subarray(0, 512))})
  const request = recordingRequest()
  await hibernate(request, fake.machine)
  return {fake, request, atPowerOff: decodeSuperblock(sectors[0] ?? Buffer.alloc(0), fake.machine.digest, 'spare')}
}
