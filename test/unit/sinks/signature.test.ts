import {execFileSync} from 'node:child_process'
import {randomBytes} from 'node:crypto'
import {existsSync, mkdtempSync, openSync, closeSync, rmSync, truncateSync, writeFileSync, writeSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test from 'ava'
import {SystemCallError} from '../../../service/errors.js'
import {openSignatures} from '../../../service/sinks/signature.js'

const MIB = 2 ** 20
const MKSWAP = '/usr/sbin/mkswap'
const MKFS = '/usr/sbin/mkfs.ext4'
const directory = mkdtempSync(join(tmpdir(), 'permafrost-signature-'))
const findSignature = openSignatures()
test.after.always(() => rmSync(directory, {recursive: true}))

test('an empty device has no signature', async (t) => {
  t.deepEqual(await findSignature(newFile()), {kind: 'none'})
})

test('a partition table is a signature', async (t) => {
  const file = newFile()
  // An MBR with one Linux partition of 8 MiB behind the first MiB.
  patch(file, 446, Buffer.from([0, 0, 2, 0, 0x83, 0, 3, 0, 0, 8, 0, 0, 0, 64, 0, 0]))
  patch(file, 510, Buffer.from([0x55, 0xaa]))
  t.deepEqual(await findSignature(file), {kind: 'partitions', type: 'dos'})
})

const hasTools = existsSync(MKSWAP) && existsSync(MKFS)
const toolTest = hasTools ? test : test.skip
const withoutTools = hasTools ? '' : ` (skipped: ${MKSWAP} or ${MKFS} is missing)`

toolTest(`a swap area is named${withoutTools}`, async (t) => {
  const file = newFile()
  execFileSync(MKSWAP, ['-q', file], {stdio: 'ignore'})
  t.deepEqual(await findSignature(file), {kind: 'content', type: 'swap'})
})

toolTest(`signatures that contradict one another are told${withoutTools}`, async (t) => {
  const file = newFile()
  execFileSync(MKFS, ['-q', '-F', file], {stdio: 'ignore'})
  // A file system of ISO 9660 as well: its volume descriptor lies behind the superblock of ext4.
  patch(file, 32_768, Buffer.from('\u0001CD001\u0001', 'latin1'))
  t.deepEqual(await findSignature(file), {kind: 'ambivalent'})
})

test('a device that is not there is an error that names it', async (t) => {
  const file = join(directory, 'nothing_permafrost_delme')
  await t.throwsAsync(findSignature(file), {
    instanceOf: SystemCallError,
    message: `Cannot look for signatures on '${file}': ENOENT`,
  })
})

function newFile(): string {
  const file = join(directory, `${randomBytes(4).toString('hex')}_permafrost_delme`)
  writeFileSync(file, '')
  truncateSync(file, 16 * MIB)
  return file
}

function patch(file: string, offset: number, bytes: Buffer): void {
  const fd = openSync(file, 'r+')
  writeSync(fd, bytes, 0, bytes.length, offset)
  closeSync(fd)
}
