import test, {type ExecutionContext} from 'ava'
import {findFileSystems} from '../../../service/dm/filesystems.js'
import {prepareSnapshots} from '../../../service/dm/prepare.js'
import {beginMerges} from '../../../service/dm/restore.js'
import {noteMerges} from '../../../service/stories/merge-notes.js'
import {fakeMachine, type FakeMachine} from '../fakes/machine.js'

test('what is noted once is not written again', async (t) => {
  const fake = await onSnapshots(t)
  await noteMerges(fake.machine)
  await noteMerges(fake.machine)
  t.is((await fake.spare.readMerges())?.sequence, 1)
})

test('what has been written since is noted before a merge begins', async (t) => {
  const fake = await onSnapshots(t)
  await noteMerges(fake.machine)
  const before = await samplesOf(fake)
  await noteMerges(withBase(fake, 'written'))
  t.is((await fake.spare.readMerges())?.sequence, 2)
  t.notDeepEqual(await samplesOf(fake), before)
})

test('once a merge is under way, what was seen before stays', async (t) => {
  const fake = await onSnapshots(t)
  await noteMerges(fake.machine)
  const before = await samplesOf(fake)
  t.true(before.every((samples) => samples.length > 0))
  await beginMerges(fake.machine)
  await noteMerges(withBase(fake, 'merged'))
  t.is((await fake.spare.readMerges())?.sequence, 1)
  t.deepEqual(await samplesOf(fake), before)
})

test('a base that cannot be looked at is noted all the same, and said', async (t) => {
  const fake = await onSnapshots(t)
  const openForReading = () => Promise.reject(new Error('a bad sector'))
  await noteMerges({...fake.machine, blocks: {...fake.machine.blocks, openForReading}})
  t.deepEqual(await samplesOf(fake), [[], []])
  t.regex(fake.log.join('\n'), /Cannot look at '\/dev\/vda' before it is merged: a bad sector/)
})

/** As after a snapshot, with the slices still empty. */
async function onSnapshots(t: ExecutionContext): Promise<FakeMachine> {
  const fake = await fakeMachine(t)
  const fileSystems = await findFileSystems(fake.machine.files, fake.dm)
  const prepared = await prepareSnapshots(fileSystems, {...(await fake.spare.area()), isEncrypted: false}, fake.machine)
  for (const {number} of prepared) fake.dm.swap(number)
  return fake
}

function withBase({machine}: FakeMachine, content: string): FakeMachine['machine'] {
  const reader = {read: async (_: number, length: number) => Buffer.alloc(length, content), [Symbol.asyncDispose]: async () => {}}
  return {...machine, blocks: {...machine.blocks, openForReading: async () => reader}}
}

async function samplesOf({spare}: FakeMachine) {
  return (await spare.readMerges())?.merges.map(({samples}) => samples) ?? []
}
