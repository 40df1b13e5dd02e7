import test from 'ava'
import type {BlockAccess} from '../../../service/edge/block-access.js'
import {NO_FAULTS} from '../../../service/edge/faults.js'
import {DeviceMapperError, UnmappedFileSystemError} from '../../../service/errors.js'
import {findFileSystems} from '../../../service/dm/filesystems.js'
import {findMergeNeeds} from '../../../service/dm/merges.js'
import {prepareSnapshots} from '../../../service/dm/prepare.js'
import {beginMerges, findLeftovers, leaveLostSlices, finishMerges, removeLeftovers} from '../../../service/dm/restore.js'
import {loadTemplates, parseTable, printTable} from '../../../service/dm/table.js'
import {FakeDeviceMapper} from '../fakes/device-mapper.js'
import {fakeFiles} from '../fakes/files.js'

const MIB = 2 ** 20
const fillTemplate = loadTemplates(new URL('../../../dm-tables', import.meta.url).pathname)
const {blocks} = storesWith([7n])
const AREA = {device: {major: 252, minor: 48}, offsetBytes: 100 * MIB, bytes: 64 * MIB, isEncrypted: false}

test('every file system gets a read-only base, a slice of its own and an inactive snapshot table', async (t) => {
  const {dm, prepare, zeroed} = await twoFileSystems()
  const prepared = await prepare()
  t.deepEqual(await tables(dm, ['root-permafrost-base', 'root-permafrost-cow', 'home-permafrost-cow']), [
    '0 2048 linear 252:0 0\n',
    '0 65536 linear 252:48 204800\n',
    '0 65536 linear 252:48 270336\n',
  ])
  t.true((await dm.list()).find(({name}) => name === 'root-permafrost-base')?.isReadOnly)
  t.deepEqual(dm.devices.find(({name}) => name === 'root')?.inactive?.map((target) => target.kind), ['snapshot'])
  t.deepEqual(prepared.map(({number, base}) => [number.minor, base.minor]), [[0, 2], [1, 3]])
  t.deepEqual(zeroed, ['254:4 4096', '254:5 4096'])
})

const encryptions = [
  ['a plain spare device', false, 'crypt'],
  ['an encrypted spare device', true, 'linear'],
] as const

for (const [spare, isEncrypted, target] of encryptions) {
  test(`the slice of an encrypted file system on ${spare} is ${target}`, async (t) => {
    const {dm, prepare} = await twoFileSystems({...AREA, isEncrypted}, {'/sys/dev/block/254:0/dm/uuid': 'CRYPT-LUKS2-1-root\n'})
    for (const {number} of await prepare()) dm.swap(number)
    t.is((await dm.table('root-permafrost-cow'))[0]?.kind, target)
    t.is((await dm.table('home-permafrost-cow'))[0]?.kind, 'linear')
    const needs = await findMergeNeeds(dm, fakeFiles({}))
    t.deepEqual(needs.map(({live, isSliceEncrypted}) => [live, isSliceEncrypted]), [['root', !isEncrypted], ['home', false]])
    t.deepEqual(needs.map(({slice}) => [slice.device.minor, slice.offset]), [[48, 100 * MIB], [48, 132 * MIB]])
  })
}

test('what was prepared before a failure is undone in reverse order', async (t) => {
  for (const failing of ['create home-permafrost-base', 'create home-permafrost-cow', 'load home']) {
    const {dm, prepare} = await twoFileSystems()
    dm.failing = failing
    await t.throwsAsync(prepare(), {instanceOf: DeviceMapperError})
    t.deepEqual(dm.devices.map(({name, inactive}) => [name, inactive]), [['root', null], ['home', null]])
    t.deepEqual(dm.changes.filter((change) => / root/.test(change)).slice(-3), ['clear root', 'remove root-permafrost-cow', 'remove root-permafrost-base'])
  }
})

test('a file system that cannot be snapshotted is refused by its mount point', async (t) => {
  const dm = new FakeDeviceMapper()
  const files = fakeFiles({texts: {'/proc/self/mountinfo': mountLine('8:1', '/data')}})
  const tools = {dm, blocks: fakeBlocks([]), fillTemplate, faults: NO_FAULTS}
  await t.throwsAsync(prepareSnapshots(await findFileSystems(files, dm), AREA, tools), {
    instanceOf: UnmappedFileSystemError,
    message: /'\/data'/,
  })
})

test('a copy-on-write area too small for all is refused', async (t) => {
  const {prepare, dm} = await twoFileSystems({...AREA, bytes: 6 * MIB})
  await t.throwsAsync(prepare(), {message: /less than 4 MiB each/})
  t.deepEqual(dm.changes, [])
})

test('before the snapshot, and in the resumed system, base and slice go and the table stays', async (t) => {
  const {dm, prepare} = await twoFileSystems()
  await prepare()
  t.deepEqual((await findLeftovers(dm)).map(({live, state}) => [live, state]), [['root', 'own'], ['home', 'own']])
  await removeLeftovers(dm)
  t.deepEqual(await describe(dm), ['root: 0 2048 linear 252:0 0', 'home: 0 4096 linear 252:16 0'])
})

test('after the snapshot everything is merged, and the tables are as they were', async (t) => {
  const {dm, prepare} = await twoFileSystems()
  for (const {number} of await prepare()) dm.swap(number)
  await beginMerges({dm, blocks, fillTemplate})
  t.deepEqual((await findLeftovers(dm)).map(({state}) => state), ['merging', 'merging'])
  dm.statuses = ['160/2048 16', '32/2048 16', '16/2048 16']
  await finishMerges({dm, blocks, fillTemplate}, 5000)
  t.deepEqual(await describe(dm), ['root: 0 2048 linear 252:0 0', 'home: 0 4096 linear 252:16 0'])
})

test('a base is made writable before its merge, and not earlier', async (t) => {
  const {dm, prepare} = await twoFileSystems()
  for (const {number} of await prepare()) dm.swap(number)
  const before = dm.changes.length
  await beginMerges({dm, blocks, fillTemplate})
  t.deepEqual(dm.changes.slice(before, before + 4), [
    'load root-permafrost-base',
    'resume root-permafrost-base',
    'load root',
    'resume root',
  ])
})

test('a snapshot that is broken stays as it is while the others are merged', async (t) => {
  const {dm, prepare} = await twoFileSystems()
  for (const {number} of await prepare()) dm.swap(number)
  dm.failing = 'load root-permafrost-base'
  await t.throwsAsync(beginMerges({dm, blocks, fillTemplate}), {instanceOf: DeviceMapperError})
  await finishMerges({dm, blocks, fillTemplate}, 1000)
  t.deepEqual((await findLeftovers(dm)).map(({live, state}) => [live, state]), [['root', 'snapshot']])
  t.is(dm.devices.find(({name}) => name === 'home')?.live[0]?.kind, 'linear')
})

test('a slice that was given up, or cannot be read although something is in it, is lost, and is not merged', async (t) => {
  const {dm, prepare} = await twoFileSystems()
  const statuses = {used: '24/2048 16', broken: 'Invalid'}
  const unreadable = {dm, blocks: goneBlocks()}
  t.deepEqual(await leaveLostSlices(unreadable), [])
  for (const {number} of await prepare()) dm.swap(number)
  dm.statuses = [statuses.used]
  t.deepEqual(await leaveLostSlices(unreadable), ['root', 'home'])
  t.deepEqual(await leaveLostSlices({dm, blocks: storesWith([7n]).blocks}), [])
  dm.statuses = [statuses.broken]
  t.deepEqual(await leaveLostSlices(unreadable), ['root', 'home'])
  await t.throwsAsync(beginMerges({dm, blocks, fillTemplate}), {message: /written to it is lost; restart the machine/})
  t.deepEqual((await findLeftovers(dm)).map(({state}) => state), ['snapshot', 'snapshot'])
})

test('a slice that cannot be read and holds nothing is left without a merge', async (t) => {
  const {dm, prepare} = await twoFileSystems()
  for (const {number} of await prepare()) dm.swap(number)
  dm.statuses = ['16/2048 16']
  const before = dm.changes.length
  t.deepEqual(await leaveLostSlices({dm, blocks: goneBlocks()}), [])
  t.deepEqual(dm.changes.slice(before), ['load root', 'resume root', 'load home', 'resume home'])
  t.deepEqual((await findLeftovers(dm)).map(({state}) => state), ['own', 'own'])
})

const SUPERBLOCK = {uuid: 'one-uuid-of-16-b', isJournalInUse: true}
const chunks = [
  ['an ext4 superblock that says that its journal is in use', superblockChunk(SUPERBLOCK), 'own'],
  ['an ext4 superblock of another file system', superblockChunk({...SUPERBLOCK, uuid: 'another-one-16-b'}), 'snapshot'],
  ['an ext4 superblock as it was at the snapshot', superblockChunk({...SUPERBLOCK, isJournalInUse: false}), 'snapshot'],
  ['something else', Buffer.alloc(4096, 1), 'snapshot'],
] as const

for (const [what, cached, state] of chunks) {
  test(`a slice that cannot be read, of one chunk, with ${what} in memory ends on ${state}`, async (t) => {
    const {dm, prepare} = await twoFileSystems()
    const [root] = await prepare()
    if (root !== undefined) dm.swap(root.number)
    dm.statuses = ['24/2048 16']
    const lossy = lossySlice(superblockChunk({...SUPERBLOCK, isJournalInUse: false}), cached, root?.base.minor ?? 0)
    const before = dm.changes.length
    t.deepEqual(await leaveLostSlices({dm, blocks: lossy.blocks}), state === 'own' ? [] : ['root'])
    const begun = beginMerges({dm, blocks: lossy.blocks, fillTemplate})
    await (state === 'own' ? begun : t.throwsAsync(begun, {message: /its slice cannot be read, so what was written to it is lost/}))
    t.is((await findLeftovers(dm)).find(({live}) => live === 'root')?.state, state)
    t.deepEqual(lossy.written, state === 'own' ? [cached] : [])
    t.deepEqual(dm.changes.slice(before), state === 'own' ? ['load root-permafrost-base', 'resume root-permafrost-base', 'load root', 'resume root'] : [])
  })
}

test('a slice is not given up for a fault that is not its device\'s, nor when it was written to while it was looked at', async (t) => {
  const {dm, prepare} = await twoFileSystems()
  for (const {number} of await prepare()) dm.swap(number)
  dm.statuses = ['16/2048 16']
  await t.throwsAsync(leaveLostSlices({dm, blocks: fakeBlocks([])}), {message: 'not expected here'})
  dm.statuses = ['16/2048 16', '64/2048 16']
  t.deepEqual(await leaveLostSlices({dm, blocks: goneBlocks()}), ['root', 'home'])
  t.deepEqual((await findLeftovers(dm)).map(({state}) => state), ['snapshot', 'snapshot'])
})

test('a merge that the kernel gave up is an error', async (t) => {
  const {dm, prepare} = await twoFileSystems()
  for (const {number} of await prepare()) dm.swap(number)
  await beginMerges({dm, blocks, fillTemplate})
  dm.statuses = ['Merge failed']
  await t.throwsAsync(finishMerges({dm, blocks, fillTemplate}, 1000), {message: /its state is 'Merge failed'/})
})

test('a merge that does not end is an error when the time is over', async (t) => {
  const {dm, prepare} = await twoFileSystems()
  for (const {number} of await prepare()) dm.swap(number)
  await beginMerges({dm, blocks, fillTemplate})
  dm.statuses = ['32/2048 16']
  await t.throwsAsync(finishMerges({dm, blocks, fillTemplate}, 10), {message: /it is not done after/})
})

test('base and slice of a device that is gone are removed', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('usb-permafrost-base', '', parseTable('0 8 linear 8:1 0', 'x'))
  dm.add('usb-permafrost-cow', '', parseTable('0 8 linear 8:2 0', 'x'))
  t.deepEqual((await findLeftovers(dm)).map(({state}) => state), ['gone'])
  await removeLeftovers(dm)
  t.deepEqual(dm.devices, [])
})

test('a merge of a slice that overflowed is done when nothing is left in the slice', async (t) => {
  const {dm, prepare} = await twoFileSystems()
  for (const {number} of await prepare()) dm.swap(number)
  await beginMerges({dm, blocks, fillTemplate})
  dm.statuses = ['Overflow']
  const full = storesWith([7n, 0n])
  await finishMerges({dm, blocks: full.blocks, fillTemplate}, 5000)
  t.deepEqual(await describe(dm), ['root: 0 2048 linear 252:0 0', 'home: 0 4096 linear 252:16 0'])
  t.deepEqual(full.asked, ['254:4 at 4096', '254:4 at 4096', '254:5 at 4096'])
})

async function twoFileSystems(area = AREA, more: Readonly<Record<string, string>> = {}) {
  const dm = new FakeDeviceMapper()
  dm.add('root', 'PERMAFROST-wrap-vda', parseTable('0 2048 linear 252:0 0', 'x'))
  dm.add('home', 'PERMAFROST-wrap-vdb', parseTable('0 4096 linear 252:16 0', 'x'))
  const texts = {...more, '/proc/self/mountinfo': `${mountLine('254:0', '/')}${mountLine('254:1', '/home')}`}
  const fileSystems = await findFileSystems(fakeFiles({texts}), dm)
  const zeroed: string[] = []
  const tools = {dm, blocks: fakeBlocks(zeroed), fillTemplate, faults: NO_FAULTS}
  return {dm, zeroed, prepare: () => prepareSnapshots(fileSystems, area, tools)}
}

function fakeBlocks(zeroed: string[]): BlockAccess {
  return {
    openForReading: () => Promise.reject(new Error('not expected here')),
    async writeStart(device, content) {
      zeroed.push(`${device.major}:${device.minor} ${content.every((byte) => byte === 0) ? content.length : 'not zero'}`)
    },
    readCachedStart: () => Promise.reject(new Error('not expected here')),
    flush: () => Promise.reject(new Error('not expected here')),
  }
}

/** As a disk that was unplugged. */
function goneBlocks(): BlockAccess {
  return {...fakeBlocks([]), openForReading: () => Promise.reject(Object.assign(new Error('it has gone'), {code: 'EIO'}))}
}

/** Little-endian fields of struct ext4_super_block: s_magic, s_uuid and s_feature_incompat. */
function superblockChunk({uuid, isJournalInUse}: {readonly uuid: string, readonly isJournalInUse: boolean}): Buffer {
  const chunk = Buffer.alloc(4096)
  chunk.writeUInt16LE(0xef53, 1024 + 0x38)
  chunk.write(uuid, 1024 + 0x68)
  chunk.writeUInt32LE(isJournalInUse ? 0x46 : 0x42, 1024 + 0x60)
  return chunk
}

/** Only the base can be read, and what the page cache has of the live device. */
function lossySlice(onDisk: Buffer, cached: Buffer, baseMinor: number) {
  const written: Buffer[] = []
  const blocks: BlockAccess = {
    ...fakeBlocks([]),
    openForReading: async ({minor}) => {
      if (minor !== baseMinor) throw Object.assign(new Error('it has gone'), {code: 'EIO'})
      return {read: async (offset, length) => onDisk.subarray(offset, offset + length), [Symbol.asyncDispose]: async () => {}}
    },
    readCachedStart: async (_, bytes) => cached.subarray(0, bytes),
    writeStart: async (_, content) => void written.push(content),
  }
  return {blocks, written}
}

/** Slices whose first exception has these new chunks, one look after the other; the last one stays. */
function storesWith(newChunks: bigint[]) {
  const asked: string[] = []
  const blocks: BlockAccess = {
    ...fakeBlocks([]),
    openForReading: async ({major, minor}) => ({
      async read(offset, length) {
        asked.push(`${major}:${minor} at ${offset}`)
        const area = Buffer.alloc(length)
        area.writeBigUInt64LE(newChunks[0] ?? 0n, 8)
        if (newChunks.length > 1) newChunks.shift()
        return area
      },
      [Symbol.asyncDispose]: async () => {},
    }),
  }
  return {blocks, asked}
}

function mountLine(device: string, place: string): string {
  return `36 35 ${device} / ${place} rw - ext4 /dev/source rw\n`
}

async function tables(dm: FakeDeviceMapper, names: readonly string[]): Promise<string[]> {
  return Promise.all(names.map(async (name) => printTable(await dm.table(name))))
}

async function describe(dm: FakeDeviceMapper): Promise<string[]> {
  return Promise.all(dm.devices.map(async ({name}) => `${name}: ${printTable(await dm.table(name)).trim()}`))
}
