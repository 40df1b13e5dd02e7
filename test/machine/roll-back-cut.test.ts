// The power goes while what was written during an aborted save is being merged back.
import {open} from 'node:fs/promises'
import {setTimeout as delay} from 'node:timers/promises'
import test from 'ava'
import {decodeMergeList, MERGE_LIST_BYTES, MERGE_LIST_OFFSET, type MergeList} from '../../service/image/merge-list.js'
import {loadDigest} from '../../service/image/digest.js'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {cut, down} from '../lab/verbs/down.js'
import {resume} from '../lab/verbs/resume.js'
import {holdMemory, kernelTrouble} from '../lab/workload.js'

const POLICY = '[Needed]\nUnit=needed.service\nWhen=always\nReason=A test\n'
const PLACES = ['/var/lib/written', '/mnt/data/written']

/** Writes numbered files as fast as it can, each with its digest in a list; what is in the list is on the disk. */
const WRITER = `
  mkdir -p "$@"; n=0
  while :; do
    n=$((n + 1))
    for place; do
      dd if=/dev/urandom "of=$place/$n" bs=512k count=1 conv=fsync status=none
      (cd "$place" && sha256sum $n >> sums && sync sums)
    done
  done`

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('roll-back-cut', {memoryMib: 768, disks: [{name: 'data', bytes: 256 * 2 ** 20, type: 'ext4'}]})
  await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d; printf %s "$1" > /etc/permafrost/policy.d/test.conf', POLICY)
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

test.serial('the next boot finishes the merges before it mounts anything, and nothing that was written is lost', async t => {
  await rollBackSlowly(machine)
  const merging = await stopWhileMerging(machine)
  t.log(merging.join('; '))
  t.deepEqual(merging.map(line => line.split(':')[0]), ['permafrost-vda', 'permafrost-vdb'])
  const list = await readMergeList(machine)
  t.deepEqual(list?.merges.map(({path}) => path), ['/dev/vda', '/dev/vdb'])

  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
  t.regex(machine.consoleOfLastBoot(), /permafrost: finished the interrupted roll-back of the file system on '\/dev\/vda'/)
  t.regex(machine.consoleOfLastBoot(), /permafrost: finished the interrupted roll-back of the file system on '\/dev\/vdb'/)
  for (const place of PLACES) {
    const checked = await attemptInside(machine, ['sh', '-c', 'cd "$1" && sha256sum --check --quiet sums && wc -l < sums', 'sh', place])
    t.is(checked.status, 0, checked.stdout + checked.stderr)
    t.true(Number(checked.stdout) >= 5, `only ${checked.stdout.trim()} files`)
  }
  t.notRegex(await inside(machine, ['dmsetup', 'table']), /snapshot|permafrost-merge/)
  t.is(await readMergeList(machine), null)
  await isClean(t)
})

/** Copying what was written back takes its time, so that there is a middle of it. */
async function rollBackSlowly(where: ScratchMachine): Promise<void> {
  await insideShell(where, 'echo 1 > /sys/module/dm_snapshot/parameters/snapshot_copy_throttle')
  await insideShell(where, `
    mkdir -p /run/systemd/system/permafrostd.service.d
    printf '[Service]\\nEnvironment=PERMAFROST_FAULT=stream-written\\n' > /run/systemd/system/permafrostd.service.d/fault.conf
    systemctl daemon-reload; systemctl restart permafrostd.service`)
  await inside(where, ['systemd-run', '--quiet', '--unit=needed', 'sh', '-c', WRITER.replaceAll('$', '$$$$'), 'sh', ...PLACES])
  await holdMemory(where, 'hold', 200)
  await inside(where, ['systemd-run', '--quiet', 'systemctl', 'hibernate'])
}

/** Gives the state of the merges at the instant the power went. */
async function stopWhileMerging(where: ScratchMachine): Promise<string[]> {
  const patience = AbortSignal.timeout(180_000)
  let merging: string[] = []
  while (merging.length < PLACES.length) {
    patience.throwIfAborted()
    merging = await listMerges(where)
    await delay(20)
  }
  await cut(where)
  return merging
}

async function listMerges(where: ScratchMachine): Promise<string[]> {
  // Nobody answers while all are frozen.
  const status = await attemptInside(where, ['dmsetup', 'status', '--target', 'snapshot-merge'], {signal: AbortSignal.timeout(3000)}).catch(() => null)
  return (status?.stdout ?? '').split('\n').filter(line => line.includes('snapshot-merge')).sort()
}

async function readMergeList(where: ScratchMachine): Promise<MergeList | null> {
  const path = where.state.disks.find(disk => disk.role === 'spare')?.path ?? ''
  const file = await open(path)
  const bytes = Buffer.alloc(MERGE_LIST_BYTES)
  await file.read(bytes, 0, bytes.length, MERGE_LIST_OFFSET)
  await file.close()
  return decodeMergeList(bytes, loadDigest(), path)
}

async function isClean(t: {deepEqual: (a: unknown, b: unknown) => void, true: (value: boolean, message: string) => void}): Promise<void> {
  t.deepEqual(kernelTrouble(machine.consoleText()), [])
  await down(machine, {isWiped: false})
  for (const disk of machine.state.disks.filter(one => one.role === 'root' || one.role === 'data')) {
    const result = await fsck(disk)
    t.true(result.isClean, result.output)
  }
}
