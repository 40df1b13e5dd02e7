import test from 'ava'
import {DirectDevice} from '../../../service/edge/direct-device.js'
import {findFileSystems} from '../../../service/dm/filesystems.js'
import {prepareSnapshots} from '../../../service/dm/prepare.js'
import type {PendingMerge} from '../../../service/image/merge-list.js'
import {encodeSuperblock, type ImageState} from '../../../service/image/superblock.js'
import {preflight} from '../../../service/stories/preflight.js'
import {reportProgress, type Progress} from '../../../service/stories/progress.js'
import {recover} from '../../../service/stories/rollback.js'
import {fakeMachine, ORIGINAL_TABLES, type FakeMachine} from '../fakes/machine.js'

test('a start after an ordinary stop finds nothing to do', async (t) => {
  const fake = await fakeMachine(t)
  t.deepEqual(await recover(fake.machine), {restored: [], imageBefore: 'empty', imageAfter: 'empty'})
  t.deepEqual(fake.dm.changes, [])
})

test('a start without a spare device finds nothing to do', async (t) => {
  const fake = await fakeMachine(t, {isSetUp: false})
  t.deepEqual(await recover(fake.machine), {restored: [], imageBefore: null, imageAfter: null})
})

const killed: readonly {
  readonly when: string
  readonly isSwapped: boolean
  readonly state: 'writing' | 'valid' | 'resuming'
  readonly becomes: ImageState
}[] = [
  {when: 'before the snapshot', isSwapped: false, state: 'writing', becomes: 'aborted'},
  {when: 'while it saved', isSwapped: true, state: 'writing', becomes: 'aborted'},
  {when: 'before the power went off', isSwapped: true, state: 'valid', becomes: 'aborted'},
  {when: 'right after the resume', isSwapped: false, state: 'resuming', becomes: 'resumed'},
]

for (const {when, isSwapped, state, becomes} of killed) {
  test(`a daemon killed ${when} finds its way back, and the image becomes ${becomes}`, async (t) => {
    const fake = await fakeMachine(t)
    await leaveBehind(fake, {isSwapped, state})
    const report = await recover(fake.machine)
    t.deepEqual(report.restored.map(({live}) => live), ['permafrost-vda', 'permafrost-vdb'])
    t.is(report.imageAfter, becomes)
    t.is(await fake.imageState(), becomes)
    t.deepEqual(await fake.liveTables(), ORIGINAL_TABLES)
  })
}

test('a valid image beside a machine that was booted afresh stays for its owner to discard', async (t) => {
  const fake = await fakeMachine(t)
  await setState(fake, 'valid')
  t.like(await recover(fake.machine), {imageBefore: 'valid', imageAfter: 'valid'})
})

test('an image whose writing was cut off is given up', async (t) => {
  const fake = await fakeMachine(t)
  await setState(fake, 'writing')
  t.like(await recover(fake.machine), {imageBefore: 'writing', imageAfter: 'aborted'})
})

const INTERRUPTED: PendingMerge = {
  path: '/dev/vda',
  uuid: '1111',
  baseBytes: 2048 * 512,
  sliceOffset: 2 ** 20,
  sliceBytes: 2 ** 20,
  chunkSectors: 8,
  hasLostKey: false,
  samples: [],
}

test('a merge of an earlier boot is never begun again on a file system that was mounted without it, whatever name its device has now', async (t) => {
  const fake = await fakeMachine(t, {tree: {texts: {'/proc/sys/kernel/random/boot_id': `${'2'.repeat(32)}\n`}}})
  await fake.spare.recordMerges({bootId: '1'.repeat(32), merges: [{...INTERRUPTED, path: '/dev/vdc'}, {...INTERRUPTED, uuid: '3333', path: '/dev/vdx'}]})
  await recover({...fake.machine, blocks: fullSlices(fake)})
  t.deepEqual((await fake.spare.readMerges())?.merges.map(({path}) => path), ['/dev/vdx'])
  t.regex(fake.log.join('\n'), /'\/dev\/vdc' was mounted without.*check it/)
  t.regex(fake.log.join('\n'), /'\/dev\/vdx'.*attach it and boot again/)
  const checks = await preflight(fake.machine)
  t.regex(checks.find(({id}) => id === 'leftovers')?.remedy ?? '', /'\/dev\/vdx'/)
})

test('of merges of an earlier boot those that have ended are forgotten, and nobody is told to check anything', async (t) => {
  const fake = await fakeMachine(t, {tree: {texts: {'/proc/sys/kernel/random/boot_id': `${'2'.repeat(32)}\n`}}})
  await fake.spare.recordMerges({bootId: '1'.repeat(32), merges: [INTERRUPTED, {...INTERRUPTED, uuid: '3333', path: '/dev/vdx', hasLostKey: true}]})
  await recover(fake.machine)
  t.deepEqual((await fake.spare.readMerges())?.merges.map(({path}) => path), ['/dev/vdx'])
  t.notRegex(fake.log.join('\n'), /vda/)
})

test('a list of merges that cannot be read is no missing list', async (t) => {
  const fake = await fakeMachine(t)
  fake.spare.readMerges = () => Promise.reject(new Error('a bad sector'))
  const checks = await preflight(fake.machine)
  t.regex(checks.find(({id}) => id === 'leftovers')?.remedy ?? '', /a bad sector/)
})

test('merges of this boot that have ended are forgotten', async (t) => {
  const fake = await fakeMachine(t, {tree: {texts: {'/proc/sys/kernel/random/boot_id': `${'1'.repeat(32)}\n`}}})
  await fake.spare.recordMerges({bootId: '1'.repeat(32), merges: [INTERRUPTED]})
  await recover(fake.machine)
  t.is(await fake.spare.readMerges(), null)
  t.deepEqual(fake.log, [])
})

test('the time left is judged once there is something to judge by', (t) => {
  let nowMs = 0
  const told: Progress[] = []
  const report = reportProgress((progress) => told.push(progress), () => nowMs)
  for (const [atMs, bytesRead] of [[10, 1], [50, 2], [120, 3], [1000, 25], [2000, 100]] as const) {
    nowMs = atMs
    report({bytesRead, bytesTotal: 100, bytesStored: bytesRead / 2})
  }
  t.deepEqual(told.map(({bytesRead, secondsLeft}) => [bytesRead, secondsLeft]), [[1, null], [3, null], [25, 3], [100, 0]])
})

/** Each has something that is not merged. */
function fullSlices({machine}: FakeMachine): FakeMachine['machine']['blocks'] {
  const reader = {read: async (_: number, length: number) => Buffer.alloc(length, 1), [Symbol.asyncDispose]: async () => {}}
  return {...machine.blocks, openForReading: async () => reader}
}

async function leaveBehind(fake: FakeMachine, {isSwapped, state}: {isSwapped: boolean; state: 'writing' | 'valid' | 'resuming'}): Promise<void> {
  const fileSystems = await findFileSystems(fake.machine.files, fake.dm)
  const prepared = await prepareSnapshots(fileSystems, {...(await fake.spare.area()), isEncrypted: false}, fake.machine)
  if (isSwapped) for (const {number} of prepared) fake.dm.swap(number)
  await setState(fake, state)
}

/** "resuming" is written by the loader only. */
async function setState(fake: FakeMachine, state: 'writing' | 'valid' | 'resuming'): Promise<void> {
  await using session = await fake.spare.begin()
  if (state === 'writing') return
  await session.complete({header: Buffer.alloc(64, 1), storedBytes: 1, streamBytes: 1})
  if (state === 'resuming') await markResuming(fake)
}

async function markResuming(fake: FakeMachine): Promise<void> {
  await using device = await DirectDevice.openForWriting(fake.spare.name, {isExclusive: false})
  const superblock = await fake.spare.readSuperblock()
  await device.writePadded(encodeSuperblock({...superblock, state: 'resuming'}, fake.machine.digest), 0)
}
