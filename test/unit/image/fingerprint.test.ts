import {execFileSync} from 'node:child_process'
import {existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test from 'ava'
import {DirectDevice} from '../../../service/edge/direct-device.js'
import {loadDigest} from '../../../service/image/digest.js'
import {canFingerprint, readFingerprint} from '../../../service/image/fingerprint.js'

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
      [(2 * 25_600 + 6) * 4096, 16 * MIB],
      [(2 * 25_600 + 6) * 4096 + 16 * MIB, 16 * MIB],
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
    const regions = await readFingerprint({source, fileSystemType: type, isReadOnly: false, digest})
    for (const [offset, bytes] of places) t.true(regions.some((region) => region.offset === offset && region.bytes === bytes))
    if (type === 'ext4') t.is(await journalMagic(source, regions[1]?.offset ?? 0), 0xc03b3998)
    else t.is(regions.length, places.length)
  })
}

test('the digest changes with the superblock, and with nothing behind the places looked at', async (t) => {
  const file = join(directory, 'plain')
  writeFileSync(file, Buffer.alloc(MIB))
  await using source = await DirectDevice.openForWriting(file, {isExclusive: true})
  const look = () => readFingerprint({source, fileSystemType: 'ext4', isReadOnly: false, digest})
  const before = await look()
  await source.writePadded(Buffer.from('data'), MIB / 2)
  t.deepEqual(await look(), before)
  await source.writePadded(Buffer.from('mounted'), 0)
  t.notDeepEqual(await look(), before)
})

test('a file system mounted read-only is known by its first block, whatever its type', async (t) => {
  const file = join(directory, 'squashed')
  writeFileSync(file, Buffer.alloc(MIB, 'hsqs'))
  await using source = await DirectDevice.openForReading(file)
  const regions = await readFingerprint({source, fileSystemType: 'squashfs', isReadOnly: true, digest})
  t.deepEqual(regions.map(({offset, bytes}) => [offset, bytes]), [[0, 4096]])
})

test('types whose mounts leave no known trace are told apart', (t) => {
  t.true(canFingerprint('ext4'))
  t.false(canFingerprint('zfs'))
})

/** The journal's superblock begins with a number of its own: JBD2_MAGIC_NUMBER, include/linux/jbd2.h. */
async function journalMagic(source: DirectDevice, offset: number): Promise<number> {
  return (await source.read(offset, 512)).readUInt32BE(0)
}
