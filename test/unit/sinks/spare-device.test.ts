import {execFileSync} from 'node:child_process'
import {randomBytes} from 'node:crypto'
import {existsSync, mkdtempSync, openSync, readSync, rmSync, truncateSync, writeFileSync, writeSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test from 'ava'
import {allocateAligned} from '../../../service/edge/aligned.js'
import {DirectDevice} from '../../../service/edge/direct-device.js'
import {openFiles} from '../../../service/edge/files.js'
import {
  ImageError,
  NoSpareDeviceError,
  SinkError,
  SpareInUseError,
  SpareNotSetUpError,
  SpareTooSmallError,
} from '../../../service/errors.js'
import {loadDigest} from '../../../service/image/digest.js'
import {SpareDevice} from '../../../service/sinks/spare-device.js'

const MIB = 2 ** 20
const directory = mkdtempSync(join(tmpdir(), 'permafrost-spare-'))
test.after.always(() => rmSync(directory, {recursive: true}))

test('a device that was set up is empty and ready for an image', async (t) => {
  const spare = newSpare(64)
  const superblock = await spare.setUp({isForced: false})
  t.is(superblock.state, 'empty')
  t.deepEqual(await spare.inspect(), {
    state: 'empty',
    imageId: '0'.repeat(32),
    imageAreaBytes: superblock.imageAreaBytes,
  })
})

test('two devices that were set up have identities of their own', async (t) => {
  const first = await newSpare(64).setUp({isForced: false})
  const second = await newSpare(64).setUp({isForced: false})
  t.not(first.deviceId, second.deviceId)
})

test('no configured device is refused', async (t) => {
  const spare = new SpareDevice(null, tools())
  await t.throwsAsync(spare.inspect(), {instanceOf: NoSpareDeviceError, message: /permafrost setup/})
})

test('a device that is not there is refused by name', async (t) => {
  const spare = new SpareDevice('/dev/nothing_permafrost_delme', tools())
  await t.throwsAsync(spare.inspect(), {instanceOf: NoSpareDeviceError, message: /nothing_permafrost_delme.*ENOENT/})
})

test('a device nobody set up is refused', async (t) => {
  await t.throwsAsync(newSpare(64).inspect(), {instanceOf: SpareNotSetUpError})
})

const signatures: readonly (readonly [string, string, readonly string[], RegExp])[] = [
  ['an ext4 file system', '/usr/sbin/mkfs.ext4', ['-q', '-F'], /'ext4'/],
  ['a swap area', '/usr/sbin/mkswap', ['-q'], /'swap'/],
  ['an XFS file system', '/usr/sbin/mkfs.xfs', ['-q', '-f'], /'xfs'/],
]

for (const [name, command, options, message] of signatures) {
  const run = existsSync(command) ? test : test.skip
  const missing = existsSync(command) ? '' : ` (skipped: ${command} is missing)`
  run(`${name} is named and refused, by looking and by setting up${missing}`, async (t) => {
    const path = newFile(400)
    execFileSync(command, [...options, path], {stdio: 'ignore'})
    const spare = new SpareDevice(path, tools())
    await t.throwsAsync(spare.inspect(), {instanceOf: SpareInUseError, message})
    await t.throwsAsync(spare.refuseUnlessFree({isForced: false}), {instanceOf: SpareInUseError, message})
    await t.notThrowsAsync(spare.refuseUnlessFree({isForced: true}))
    await t.throwsAsync(spare.setUp({isForced: false}), {instanceOf: SpareInUseError, message})
  })
  run(`${name} is overwritten when that is forced${missing}`, async (t) => {
    const path = newFile(400)
    execFileSync(command, [...options, path], {stdio: 'ignore'})
    const spare = new SpareDevice(path, tools())
    await spare.setUp({isForced: true})
    t.is((await spare.inspect()).state, 'empty')
  })
}

test('a file system made on a device that was ours is refused although our superblock survives', async (t) => {
  const path = newFile(64)
  const spare = new SpareDevice(path, tools())
  await spare.setUp({isForced: false})
  execFileSync('/usr/sbin/mkfs.ext4', ['-q', '-F', path], {stdio: 'ignore'})
  const start = Buffer.alloc(16)
  readSync(openSync(path, 'r'), start, 0, 16, 0)
  await t.throwsAsync(spare.inspect(), {instanceOf: SpareInUseError, message: /'ext4'/})
})

test('a device smaller than when it was set up is refused', async (t) => {
  const path = newFile(64)
  const spare = new SpareDevice(path, tools())
  await spare.setUp({isForced: false})
  truncateSync(path, 60 * MIB)
  await t.throwsAsync(spare.inspect(), {instanceOf: SpareTooSmallError})
})

test('a device too small for any image cannot be set up', async (t) => {
  await t.throwsAsync(newSpare(16).refuseUnlessFree({isForced: false}), {instanceOf: SpareTooSmallError})
  await t.throwsAsync(newSpare(16).setUp({isForced: false}), {instanceOf: SpareTooSmallError})
})

test('a device of another format version is refused, saying what to do, and can be set up anew', async (t) => {
  const path = newFile(64)
  const spare = new SpareDevice(path, tools())
  await spare.setUp({isForced: false})
  writeSync(openSync(path, 'r+'), Buffer.from([0]), 0, 1, 16)
  await t.throwsAsync(spare.inspect(), {instanceOf: ImageError, message: /version 0.*'permafrost setup /})
  await spare.setUp({isForced: false})
  t.is((await spare.inspect()).state, 'empty')
})

test('a damaged superblock is refused', async (t) => {
  const path = newFile(64)
  const spare = new SpareDevice(path, tools())
  await spare.setUp({isForced: false})
  writeSync(openSync(path, 'r+'), Buffer.from([1]), 0, 1, 200)
  await t.throwsAsync(spare.inspect(), {instanceOf: ImageError, message: /digest of the superblock/})
  await t.throwsAsync(spare.begin(), {instanceOf: ImageError})
})

test('areas follow one another and leave the end of the device alone', async (t) => {
  for (const mebibytes of [32, 64, 400, 4096]) {
    const superblock = await newSpare(mebibytes).setUp({isForced: false})
    t.is(superblock.imageAreaOffset, MIB)
    t.is(superblock.cowAreaOffset, superblock.imageAreaOffset + superblock.imageAreaBytes)
    t.is(superblock.cowAreaOffset + superblock.cowAreaBytes, (mebibytes - 1) * MIB)
    t.true(superblock.cowAreaBytes <= (mebibytes * MIB) / 4)
  }
})

test('the copy-on-write area is a quarter of a small device and a sixteenth of a large one', async (t) => {
  t.is((await newSpare(128).setUp({isForced: false})).cowAreaBytes, 32 * MIB)
  t.is((await newSpare(512).setUp({isForced: false})).cowAreaBytes, 64 * MIB)
  t.is((await newSpare(4096).setUp({isForced: false})).cowAreaBytes, 256 * MIB)
})

test('an image being written says so on the device, and is valid when complete only', async (t) => {
  const spare = newSpare(64)
  await spare.setUp({isForced: false})
  await using session = await spare.begin()
  t.is((await spare.readSuperblock()).state, 'writing')
  const piece = allocateAligned(8192).fill('ice')
  await session.write(piece, session.reserve(piece.length))
  t.is((await spare.readSuperblock()).state, 'writing')
  await session.complete({header: Buffer.alloc(64, 1), storedBytes: 8000, streamBytes: 9000})
  const superblock = await spare.readSuperblock()
  t.is(superblock.state, 'valid')
  t.is(superblock.headerOffset, MIB + 8192)
  t.is(superblock.storedBytes, 8000)
  t.true(superblock.createdUnixSeconds > 1_600_000_000)
})

test('a new image has another identity than the one before', async (t) => {
  const spare = newSpare(64)
  await spare.setUp({isForced: false})
  const identities = new Set<string>()
  for (let count = 0; count < 3; count++) {
    await using _session = await spare.begin()
    identities.add((await spare.readSuperblock()).imageId)
  }
  t.is(identities.size, 3)
})

test('marking an image resumed or aborted leaves its identity', async (t) => {
  const spare = newSpare(64)
  await spare.setUp({isForced: false})
  {
    await using session = await spare.begin()
    await session.complete({header: Buffer.alloc(64, 1), storedBytes: 1, streamBytes: 1})
  }
  const {imageId} = await spare.readSuperblock()
  await spare.mark('resumed')
  t.like(await spare.readSuperblock(), {state: 'resumed', imageId})
  await spare.mark('aborted')
  t.like(await spare.readSuperblock(), {state: 'aborted', imageId})
})

test('a discarded image leaves an empty device with the same identity', async (t) => {
  const spare = newSpare(64)
  const {deviceId} = await spare.setUp({isForced: false})
  await using session = await spare.begin()
  await session.complete({header: Buffer.alloc(64, 1), storedBytes: 1, streamBytes: 1})
  await spare.invalidate()
  t.like(await spare.readSuperblock(), {state: 'empty', imageId: '0'.repeat(32), headerBytes: 0, deviceId})
})

test('bytes behind the superblock are left as they were', async (t) => {
  const path = newFile(64)
  const spare = new SpareDevice(path, tools())
  await spare.setUp({isForced: false})
  const file = openSync(path, 'r+')
  writeSync(file, 'somebody', 600)
  await spare.mark('aborted')
  const text = Buffer.alloc(8)
  readSync(file, text, 0, 8, 600)
  t.is(text.toString(), 'somebody')
})

test('a device with what a file system still lacks is not set up again, unless that is given up', async (t) => {
  const spare = newSpare(64)
  await spare.setUp({isForced: false})
  const merge = {path: '/dev/vdb', uuid: '1', baseBytes: 4096, sliceOffset: 2 ** 20, sliceBytes: 4096, chunkSectors: 8, hasLostKey: false, samples: []}
  await spare.recordMerges({bootId: '1'.repeat(32), merges: [merge]})
  await t.throwsAsync(spare.setUp({isForced: false}), {instanceOf: SpareInUseError, message: /'\/dev\/vdb' lacks what is still on it: attach both.*setup --force/})
  await t.throwsAsync(spare.refuseUnlessFree({isForced: false}), {instanceOf: SpareInUseError})
  t.is((await spare.readMerges())?.merges.length, 1)
  await spare.setUp({isForced: true})
  t.is(await spare.readMerges(), null)
})

test('lists of merges are written by turns, and cleared all at once', async (t) => {
  const spare = newSpare(64)
  await spare.setUp({isForced: false})
  const slots: (number | undefined)[] = []
  for (const bootId of ['1', '2', '3']) {
    await spare.recordMerges({bootId: bootId.repeat(32), merges: []})
    const last = await spare.readMerges()
    t.is(last?.bootId, bootId.repeat(32))
    slots.push(last?.slot)
  }
  t.deepEqual(slots, [0, 1, 0])
  await spare.clearMerges()
  t.is(await spare.readMerges(), null)
})

test('a full image area is an error that says so', async (t) => {
  const spare = newSpare(32)
  await spare.setUp({isForced: false})
  await using session = await spare.begin()
  session.reserve(10 * MIB)
  const error = t.throws(() => session.reserve(10 * MIB), {instanceOf: SinkError})
  t.regex(error?.message ?? '', /image area is full/)
})

const loops = canUseLoops()
const loopTest = loops ? test.serial : test.serial.skip
const withoutLoops = loops ? '' : ' (skipped: loop devices need root and /dev/loop-control)'

loopTest(`a loop device works like a disk${withoutLoops}`, async (t) => {
  await withLoop(newFile(64), async (device) => {
    const spare = new SpareDevice(device, tools())
    const superblock = await spare.setUp({isForced: false})
    t.is((await spare.inspect()).state, 'empty')
    const area = await spare.area()
    t.is(area.device.major, 7)
    t.is(area.offsetBytes, superblock.cowAreaOffset)
  })
})

loopTest(`a device held by another is refused, by looking and by setting up${withoutLoops}`, async (t) => {
  await withLoop(newFile(64), async (device) => {
    const spare = new SpareDevice(device, tools())
    await spare.setUp({isForced: false})
    await using _holder = await DirectDevice.openForWriting(device, {isExclusive: true})
    await t.throwsAsync(spare.inspect(), {instanceOf: SpareInUseError, message: /held/})
    await t.throwsAsync(spare.setUp({isForced: true}), {instanceOf: SpareInUseError, message: /held/})
  })
})

function tools() {
  return {files: openFiles(), digest: loadDigest()}
}

function newFile(mebibytes: number): string {
  const path = join(directory, `${randomBytes(4).toString('hex')}_permafrost_delme`)
  writeFileSync(path, '')
  truncateSync(path, mebibytes * MIB)
  return path
}

function newSpare(mebibytes: number): SpareDevice {
  return new SpareDevice(newFile(mebibytes), tools())
}

function canUseLoops(): boolean {
  try {
    execFileSync('losetup', ['--find'], {stdio: 'ignore'})
    return process.getuid?.() === 0
  } catch {
    return false
  }
}

async function withLoop(file: string, use: (device: string) => Promise<void>): Promise<void> {
  const device = execFileSync('losetup', ['--find', '--show', file], {encoding: 'utf8'}).trim()
  try {
    await use(device)
  } finally {
    execFileSync('losetup', ['--detach', device])
  }
}
