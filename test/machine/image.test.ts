import {spawnSync} from 'node:child_process'
import {mkdtempSync, openSync, closeSync, rmSync, writeFileSync} from 'node:fs'
import {open} from 'node:fs/promises'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {openFiles} from '../../service/edge/files.js'
import {loadDigest} from '../../service/image/digest.js'
import {SpareDevice} from '../../service/sinks/spare-device.js'
import type {Disk} from '../lab/disks.js'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {readSpare} from '../lab/figures.js'
import {repository} from '../lab/places.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {run} from '../lab/tool.js'
import {cut} from '../lab/verbs/down.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, holdMemory, memoryComplaints, waitFor} from '../lab/workload.js'
import {casesOfRun} from '../lib/cases.js'

/** Images that were carried about, and file systems that somebody had between the snapshot and the resume. */
let machine: ScratchMachine
const directory = mkdtempSync(join(tmpdir(), 'permafrost-image-'))

test.before(async () => {
  machine = await scratchMachine('image', {
    memoryMib: 640,
    swapBytes: 256 * 2 ** 20,
    disks: [{name: 'data', bytes: 320 * 2 ** 20, type: 'xfs'}, {name: 'other', bytes: 64 * 2 ** 20, type: 'ext4'}]
  })
})

test.after.always(async () => {
  await machine[Symbol.asyncDispose]()
  rmSync(directory, {recursive: true})
})

test.serial('an image carried away through a stream and brought back is resumed', async t => {
  await swapOut()
  const blank = await Promise.all([1, 2, 3].map(async index => await isBlank(disk('swap').path, index * FIRST_CLUSTER)))
  t.true(blank.includes(false), 'the kernel swaps out elsewhere first')
  await holdMemory(machine, 'hold', 60)
  const before = await checkMemory(machine, 'hold')
  await save(t)
  const spare = disk('spare').path
  const stream = join(directory, 'stream')
  command(t, ['copy', spare, '-'], {output: stream})
  t.regex(command(t, ['verify', stream]), /^verified +true$/m)
  await new SpareDevice(spare, {files: openFiles(), digest: loadDigest()}).setUp({isForced: true})
  command(t, ['copy', '-', spare], {input: stream})
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
  t.is(await inside(machine, ['sh', '-c', SWAPPED_IN]), 'same\n')
})

test.serial('an image that was resumed is refused when a copy of it comes back', async t => {
  await save(t)
  const copy = join(directory, 'spare')
  await run('cp', ['--sparse=always', disk('spare').path, copy])
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  await cut(machine)
  await run('cp', ['--sparse=always', copy, disk('spare').path])
  await startsAnew(t, /not resuming: the file system on '.*' changed since the image was made/)
})

interface Stranger {
  readonly who: string
  readonly disk: string
  readonly act: (path: string) => Promise<unknown>
}

const EMPTIES_XFS_LOG: Stranger = {who: 'empties the log of xfs', disk: 'data', act: async path => await run('xfs_repair', ['-f', '-L', path])}
const WRITES_TO_EXT4: Stranger = {
  who: 'writes a file to ext4',
  disk: 'other',
  act: async path => {
    const file = join(directory, 'stranger')
    writeFileSync(file, 'was here\n')
    await run('debugfs', ['-w', '-R', `write ${file} stranger`, path])
  }
}
const CHECKS_ROOT: Stranger = {
  who: 'checks the root file system and marks it', disk: 'root', act: async path => await run('tune2fs', ['-C', '7', path])
}

/** As another system on the same disk would: in the first free cluster, where the kernel writes first on such a disk. */
const SWAPS: Stranger = {
  who: 'swaps to the same partition',
  disk: 'swap',
  act: async path => await run('dd', ['if=/dev/urandom', `of=${path}`, 'bs=4096', 'count=1', `seek=${FIRST_CLUSTER / 4096}`, 'conv=notrunc', 'status=none'])
}

for (const {who, disk: name, act} of casesOfRun([EMPTIES_XFS_LOG, SWAPS], [WRITES_TO_EXT4, CHECKS_ROOT]))
  test.serial(`starts anew and says why when a stranger ${who} before the resume`, async t => {
    await save(t)
    if (name === 'data')
      await showsLogHead(t, disk(name).path)
    await act(disk(name).path)
    await startsAnew(t, /not resuming: (the file system on|what is swapped out to) '.*' changed since the image was made/)
    t.regex(await inside(machine, ['permafrost', 'image', 'show']), /^state +aborted$/m)
  })

test.serial('starts anew and says why with more memory than at the snapshot', async t => {
  await save(t)
  machine.update({memoryMib: machine.state.memoryMib + 64})
  await startsAnew(t, /not resuming: the kernel refused the image: other memory map/)
})

/** Where Linux swaps out first to a disk that does not turn, and then at multiples of that: setup_clusters() in mm/swapfile.c. */
const FIRST_CLUSTER = 64 * 2 ** 20

async function isBlank(path: string, offset: number): Promise<boolean> {
  const file = await open(path)
  const {buffer} = await file.read(Buffer.alloc(4096), 0, 4096, offset)
  await file.close()
  return buffer.every(byte => byte === 0)
}

/** Of 60 MB that are random two thirds, to a disk that does not turn and that is told what is free. */
async function swapOut(): Promise<void> {
  await insideShell(machine, `
    swapoff -a
    device=$(readlink -f /dev/disk/by-id/virtio-swap)
    echo 0 > /sys/block/\${device#/dev/}/queue/rotational
    swapon --discard $device
    mkfifo /run/more
    head -c 60M /dev/urandom > /var/tmp/random
    sha256sum < /var/tmp/random > /run/before
    systemd-run --quiet --unit=swapped --property=MemoryMax=20M --property=MemorySwapMax=infinity \
      sh -c 'cat /var/tmp/random /run/more | tail -c 60M | sha256sum > /run/after'`)
  await waitFor(machine, `! systemctl is-active --quiet swapped ||
    [ "$(awk '/^SwapTotal/ {total = $2} /^SwapFree/ {print total - $2}' /proc/meminfo)" -gt 30000 ]`)
  await insideShell(machine, 'systemctl is-active --quiet swapped; rm /var/tmp/random')
}

/** Ends what reads, so that it goes through all it has. */
const SWAPPED_IN = `
  : > /run/more
  until [ -s /run/after ]; do sleep 0.2; done
  cmp /run/before /run/after && echo same`

async function save(t: ExecutionContext): Promise<void> {
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
}

/** Where xfsprogs finds the head of the log, the image has a region. */
async function showsLogHead(t: ExecutionContext, path: string): Promise<void> {
  const text = await run('xfs_logprint', ['-t', path])
  const [, start] = /daddr: (\d+)/.exec(text) ?? []
  const [, head] = /head: (\d+)/.exec(text) ?? []
  const place = (Number(start) + Number(head)) * 512
  const {header} = await readSpare(disk('spare').path)
  const regions = header?.fileSystems.find(({type}) => type === 'xfs')?.regions ?? []
  t.true(regions.some(({offset, bytes}) => offset <= place && place + 4096 <= offset + bytes), `${place} is in none of ${JSON.stringify(regions.map(({offset, bytes}) => [offset, bytes]))}\n${text}`)
}

async function startsAnew(t: ExecutionContext, reason: RegExp): Promise<void> {
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
  t.regex(await inside(machine, ['journalctl', '-b', '--no-pager', '--output=cat']), reason)
  await attemptInside(machine, ['systemctl', 'is-system-running', '--wait'])
}

function disk(name: string): Disk {
  const found = machine.state.disks.find(each => each.name === name)
  if (found === undefined)
    throw new Error(`The machine has no disk '${name}'`)
  return found
}

/** `permafrost image …` on the host; gives what it printed. */
function command(t: ExecutionContext, words: readonly string[], files: {readonly input?: string, readonly output?: string} = {}): string {
  const input = openSync(files.input ?? '/dev/null', 'r')
  const output = files.output === undefined ? null : openSync(files.output, 'w')
  try {
    const {status, stdout, stderr} = spawnSync(
      process.execPath, ['--import=./test/lib/register.mjs', 'service/cli.ts', 'image', ...words],
      {cwd: repository(), stdio: [input, output ?? 'pipe', 'pipe'], encoding: 'utf8'})
    t.is(status, 0, stderr)
    return stdout ?? ''
  } finally {
    closeSync(input)
    if (output !== null)
      closeSync(output)
  }
}
