import {execFileSync} from 'node:child_process'
import {existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test from 'ava'
import {DirectDevice} from '../../../service/edge/direct-device.js'
import {loadDigest} from '../../../service/image/digest.js'
import type {BlockSource} from '../../../service/image/place.js'
import type {Region} from '../../../service/image/records.js'
import {canFingerprint, digestPlaces, findElsewhere, findFingerprintPlaces, findXfsLogHead, type FingerprintRequest} from '../../../service/image/fingerprint.js'

const MIB = 2 ** 20
const digest = loadDigest()
const directory = mkdtempSync(join(tmpdir(), 'permafrost-fingerprint-'))
test.after.always(() => rmSync(directory, {recursive: true}))

const cases: readonly {type: string; command: string; options: readonly string[]; places: readonly (readonly [number, number])[]}[] = [
  // debugfs shows the journal of this file system at block 16385 of 1024 bytes.
  {type: 'ext4', command: '/usr/sbin/mkfs.ext4', options: ['-q', '-F', '-b', '1024'], places: [[0, 4096]]},
  {type: 'ext2', command: '/usr/sbin/mkfs.ext2', options: ['-q', '-F'], places: [[0, 4096]]},
  // xfs_db: logstart is block 6 of group 2, groups have 25600 blocks, the log 16384.
  {
    type: 'xfs',
    command: '/usr/sbin/mkfs.xfs',
    options: ['-q', '-f'],
    places: [
      [0, 2048],
      // Behind the one record of a new file system, two blocks.
      [(2 * 25_600 + 6) * 4096, MIB + 1024],
    ],
  },
]

for (const {type, command, options, places} of cases) {
  const tools = existsSync(command)
  const run = tools ? test : test.skip
  run(`${type} is looked at where a mount writes${tools ? '' : ` (skipped: ${command} is missing)`}`, async (t) => {
    const file = join(directory, type)
    writeFileSync(file, '')
    truncateSync(file, 400 * MIB)
    execFileSync(command, [...options, file])
    await using source = await DirectDevice.openForReading(file)
    const regions = await readFingerprint({source, fileSystemType: type, isReadOnly: false, deviceBytes: 0})
    for (const [offset, bytes] of places) t.true(regions.some((region) => region.offset === offset && region.bytes === bytes))
    if (type === 'ext4') t.is(await journalMagic(source, regions[1]?.offset ?? 0), 0xc03b3998)
    else t.is(regions.length, places.length)
  })
}

const MKFS_BTRFS = '/usr/sbin/mkfs.btrfs'
const testBtrfs = existsSync(MKFS_BTRFS) ? test : test.skip
const withoutBtrfs = existsSync(MKFS_BTRFS) ? '' : ` (skipped: ${MKFS_BTRFS} is missing)`

testBtrfs(`a commit changes every superblock of btrfs that is looked at${withoutBtrfs}`, async (t) => {
  const file = join(directory, 'btrfs')
  writeFileSync(file, '')
  truncateSync(file, 400 * MIB)
  execFileSync(MKFS_BTRFS, ['-q', file], {stdio: 'pipe'})
  const look = async () => {
    await using source = await DirectDevice.openForReading(file)
    return await readFingerprint({source, fileSystemType: 'btrfs', isReadOnly: false, deviceBytes: 400 * MIB})
  }
  const before = await look()
  t.deepEqual(before.map(({offset, bytes}) => [offset, bytes]), [[64 * 1024, 4096], [64 * MIB, 4096]])
  execFileSync('/usr/bin/btrfs', ['filesystem', 'label', file], {stdio: 'pipe'})
  t.deepEqual(await look(), before)
  execFileSync('/usr/bin/btrfs', ['filesystem', 'label', file, 'changed'], {stdio: 'pipe'})
  const after = await look()
  before.forEach((region, index) => t.not(after[index]?.digest, region.digest))
})

testBtrfs(`the copy of the superblock is left out where btrfs ends before it${withoutBtrfs}`, async (t) => {
  const file = join(directory, 'small-btrfs')
  writeFileSync(file, '')
  truncateSync(file, 40 * MIB)
  execFileSync(MKFS_BTRFS, ['-q', '--mixed', file], {stdio: 'pipe'})
  await using source = await DirectDevice.openForReading(file)
  const regions = await readFingerprint({source, fileSystemType: 'btrfs', isReadOnly: false, deviceBytes: 40 * MIB})
  t.deepEqual(regions.map(({offset}) => offset), [64 * 1024])
})

test('what only claims to be btrfs is refused', async (t) => {
  const source: BlockSource = {read: async (_, length) => Buffer.alloc(length)}
  await t.throwsAsync(readFingerprint({source, fileSystemType: 'btrfs', isReadOnly: false, deviceBytes: MIB}), {message: /no superblock/})
})

const MTOOLS = '/usr/bin/mcopy'

for (const [bits, mebibytes] of [[12, 4], [16, 16], [32, 400]] as const) {
  const missing = [MTOOLS, '/usr/sbin/mkfs.vfat'].find((command) => !existsSync(command))
  const run = missing === undefined ? test : test.skip
  run(`whatever is done in a directory of FAT${bits} changes its digests, and reading does not${missing === undefined ? '' : ` (skipped: ${missing} is missing)`}`, async (t) => {
    const file = join(directory, `fat${bits}`)
    writeFileSync(file, '')
    truncateSync(file, mebibytes * MIB)
    const local = join(directory, `local${bits}`)
    const mtools = (command: string, ...words: string[]) => execFileSync(`/usr/bin/${command}`, ['-i', file, ...words], {stdio: 'pipe'})
    const look = async () => {
      await using source = await DirectDevice.openForReading(file)
      return await readFingerprint({source, fileSystemType: 'vfat', isReadOnly: false, deviceBytes: 0})
    }
    execFileSync('/usr/sbin/mkfs.vfat', ['-F', String(bits), '-s', bits === 12 ? '4' : '1', file], {stdio: 'pipe'})
    mtools('mmd', '::outer', '::outer/inner')
    // More entries than one cluster holds, so that the chain of the directory is followed.
    for (let index = 0; index < 100; index++) {
      writeFileSync(local, `${index}`)
      mtools('mcopy', local, `::outer/inner/a rather long name ${index}`)
    }
    let before = await look()
    mtools('mtype', '::outer/inner/a rather long name 7')
    t.deepEqual(await look(), before)
    const changes: readonly (readonly [string, ...string[]])[] = [
      ['mren', '::outer/inner/a rather long name 99', 'renamed'],
      ['mattrib', '+r', '::outer/inner/a rather long name 98'],
      ['mdel', '::outer/inner/a rather long name 97'],
      ['mmd', '::outer/inner/deeper'],
      ['mcopy', '-o', local, '::outer/inner/renamed'],
    ]
    for (const [command, ...words] of changes) {
      mtools(command, ...words)
      const after = await look()
      t.notDeepEqual(changedRegions(before, after), [], `${command} ${words.join(' ')}`)
      before = after
    }
  })
}

/** Places that were looked at before and are not what they were. */
function changedRegions(before: readonly Region[], after: readonly Region[]): readonly Region[] {
  return before.filter(({offset, bytes, digest: was}) => !after.some((now) => now.offset === offset && now.bytes === bytes && now.digest === was))
}

const LOG = {offset: 4 * MIB, bytes: 64 * MIB}

for (const [what, headBlock, before, after, places] of [
  ['has not wrapped', 70_000, 1, 0, [[4 * MIB, MIB], [4 * MIB + 70_000 * 512 - MIB, 2 * MIB]]],
  ['has wrapped', 100_001, 7, 6, [[4 * MIB, MIB], [4 * MIB + 100_001 * 512 - MIB, 2 * MIB]]],
  ['has just wrapped', 3, 7, 6, [[4 * MIB, MIB + 3 * 512]]],
  ['is about to wrap', 131_070, 7, 6, [[4 * MIB, MIB], [4 * MIB + 131_070 * 512 - MIB, MIB + 1024]]],
  ['was filled exactly', 131_072, 7, 7, [[4 * MIB, MIB]]],
] as const) {
  test(`the head of an xfs log that ${what} is among the places looked at`, async (t) => {
    const source = xfsWithLog((index) => (index < headBlock ? before : after))
    t.is(await findXfsLogHead(source, LOG), (headBlock % 131_072) * 512)
    const regions = await readFingerprint({source, fileSystemType: 'xfs', isReadOnly: false, deviceBytes: 0})
    t.deepEqual(regions.map(({offset, bytes}) => [offset, bytes]), [[0, 2048], ...places])
    const written = xfsWithLog((index) => (index <= headBlock % 131_072 ? before + 1 : after))
    t.notDeepEqual(await readFingerprint({source: written, fileSystemType: 'xfs', isReadOnly: false, deviceBytes: 0}), regions)
  })
}

const elsewhere: readonly {type: string; what: string | null; command: string; options: (file: string) => readonly string[]; breakIt?: (file: string) => void}[] = [
  {type: 'ext4', what: null, command: '/usr/sbin/mkfs.ext4', options: (file) => ['-q', '-F', file]},
  {type: 'ext4', what: null, command: '/usr/sbin/mkfs.ext4', options: (file) => ['-q', '-F', '-O', '^has_journal', file]},
  {
    type: 'ext4',
    what: 'journal',
    command: '/usr/sbin/mkfs.ext4',
    options: (file) => ['-q', '-F', file],
    // mke2fs makes one elsewhere on block devices only.
    breakIt: (file) => void execFileSync('/usr/sbin/debugfs', ['-w', '-R', 'set_super_value journal_inum 0', file], {stdio: 'pipe'}),
  },
  {type: 'xfs', what: null, command: '/usr/sbin/mkfs.xfs', options: (file) => ['-q', '-f', file]},
  {type: 'xfs', what: 'log', command: '/usr/sbin/mkfs.xfs', options: (file) => ['-q', '-f', '-l', `logdev=${file}.log,size=64m`, file]},
  {type: 'btrfs', what: null, command: MKFS_BTRFS, options: (file) => ['-q', file]},
  {type: 'btrfs', what: 'other part', command: MKFS_BTRFS, options: (file) => ['-q', file, `${file}.log`]},
  {type: 'xfs', what: 'realtime section', command: '/usr/sbin/mkfs.xfs', options: (file) => ['-q', '-f', '-r', `rtdev=${file}.rt`, file]},
]

for (const [index, {type, what, command, options, breakIt}] of elsewhere.entries()) {
  const run = existsSync(command) ? test : test.skip
  run(`case ${index}: of ${type}, ${what ?? 'nothing'} is on another device${existsSync(command) ? '' : ` (skipped: ${command} is missing)`}`, async (t) => {
    const file = join(directory, `elsewhere-${index}`)
    for (const suffix of ['', '.log', '.rt']) {
      writeFileSync(`${file}${suffix}`, '')
      truncateSync(`${file}${suffix}`, 400 * MIB)
    }
    execFileSync(command, [...options(file)], {stdio: 'pipe'})
    breakIt?.(file)
    await using source = await DirectDevice.openForReading(file)
    t.is(await findElsewhere({source, fileSystemType: type}), what)
  })
}

test('the digest changes with the superblock, and with nothing behind the places looked at', async (t) => {
  const file = join(directory, 'plain')
  writeFileSync(file, Buffer.alloc(MIB))
  await using source = await DirectDevice.openForWriting(file, {isExclusive: true})
  const look = () => readFingerprint({source, fileSystemType: 'ext4', isReadOnly: false, deviceBytes: 0})
  const before = await look()
  await source.writePadded(Buffer.from('data'), MIB / 2)
  t.deepEqual(await look(), before)
  await source.writePadded(Buffer.from('mounted'), 0)
  t.notDeepEqual(await look(), before)
})

test('a file system of an unknown type, mounted read-only, is known by its first and last blocks', async (t) => {
  const file = join(directory, 'squashed')
  writeFileSync(file, Buffer.alloc(20 * MIB, 'hsqs'))
  await using source = await DirectDevice.openForReading(file)
  const regions = await readFingerprint({source, fileSystemType: 'squashfs', isReadOnly: true, deviceBytes: 20 * MIB})
  t.deepEqual(regions.map(({offset, bytes}) => [offset, bytes]), [[0, 4 * MIB], [16 * MIB, 4 * MIB]])
})

for (const mebibytes of [1, 4, 6]) {
  test(`no block is looked at twice or left out of a device of ${mebibytes} MiB`, async (t) => {
    const file = join(directory, `small-${mebibytes}`)
    writeFileSync(file, Buffer.alloc(mebibytes * MIB, 'hsqs'))
    await using source = await DirectDevice.openForReading(file)
    const regions = await readFingerprint({source, fileSystemType: 'squashfs', isReadOnly: true, deviceBytes: mebibytes * MIB})
    t.is(regions.reduce((end, {offset, bytes}) => (offset === end ? end + bytes : -1), 0), mebibytes * MIB)
  })
}

test('types whose mounts leave no known trace are told apart', (t) => {
  t.true(canFingerprint('ext4'))
  t.false(canFingerprint('zfs'))
})

async function readFingerprint(request: FingerprintRequest): Promise<readonly Region[]> {
  return await digestPlaces(request.source, await findFingerprintPlaces(request), digest)
}

/** A file system of xfs with a log of 64 MiB at 4 MiB, whose blocks have these cycles; every fourth begins a record. */
function xfsWithLog(cycleOf: (index: number) => number): BlockSource {
  const bytes = Buffer.alloc(LOG.offset + LOG.bytes)
  bytes.writeUInt32BE(4096, 4)
  bytes.writeBigUInt64BE(BigInt(LOG.offset / 4096), 48)
  bytes.writeUInt32BE(1_000_000, 84)
  bytes.writeUInt32BE(LOG.bytes / 4096, 96)
  bytes.writeUInt16BE(512, 102)
  bytes.writeUInt8(20, 124)
  for (let index = 0; index < LOG.bytes / 512; index++) {
    const place = LOG.offset + index * 512
    const isRecord = index % 4 === 0 && cycleOf(index) > 0
    if (isRecord) bytes.writeUInt32BE(0xfeedbabe, place)
    bytes.writeUInt32BE(cycleOf(index), isRecord ? place + 4 : place)
  }
  return {read: async (offset, length) => bytes.subarray(offset, offset + length)}
}

/** The journal's superblock begins with a number of its own: JBD2_MAGIC_NUMBER, include/linux/jbd2.h. */
async function journalMagic(source: DirectDevice, offset: number): Promise<number> {
  return (await source.read(offset, 512)).readUInt32BE(0)
}
