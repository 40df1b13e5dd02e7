// Whom stock hibernation gives up on: processes that wait in the kernel for a FUSE daemon or a device that does not answer.
import test, {type ExecutionContext} from 'ava'
import {inside, insideShell} from '../lab/execute.js'
import {copyOnWriteArea, findInDisk, fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {down} from '../lab/verbs/down.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {stock} from '../lab/verbs/stock.js'
import {
  appendedLines, diaryComplaints, firstBreak, kernelLogOf, kernelTrouble, lineOnDisk, linesAfter, startPayload, waitFor
} from '../lab/workload.js'

const BEHIND = '/srv/behind'
const VIEW = '/srv/view'
const DIARY = `${VIEW}/diary`
const DEAD = '/dev/mapper/dead'
const OVERRIDE = '/etc/permafrost/policy.d/50-file-systems.conf'

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('needs', {
    memoryMib: 768,
    swapBytes: 2 ** 30,
    packages: ['bindfs'],
    disks: [{name: 'victim', bytes: 64 * 2 ** 20, type: 'none'}]
  })
  await insideShell(machine, `
    mkdir -p ${BEHIND} ${VIEW} /etc/permafrost/policy.d
    head -c 8M /dev/urandom > ${BEHIND}/known
    systemd-run --quiet --unit=bindfs bindfs -f ${BEHIND} ${VIEW}`)
  await waitFor(machine, `mountpoint -q ${VIEW}`)
  await startPayload(machine, 'diary', 'append', DIARY)
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

test.serial('a FUSE file system serves who is kept during the save, its own daemon kept by the shipped policy', async t => {
  await insideShell(machine, 'printf "[Needed]\\nUnit=kept.service\\nReason=A test\\n" > /etc/permafrost/policy.d/test.conf')
  await startPayload(machine, 'kept', 'append', `${VIEW}/kept`, 'mark-of-kept')
  await waitFor(machine, `[ "$(wc -l < ${BEHIND}/kept)" -ge 10 ]`)
  t.regex(await inside(machine, ['permafrost', 'needed']), /bindfs.*\/usr\/lib\/permafrost\/policy\.d\/50-file-systems\.conf:/)
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  const written = await writtenWhileSaving(machine)
  t.log(`${written.size} lines written through the daemon while saving`)
  t.true(written.size > 0)
  await goesOn(t)
  const kept = await appendedLines(machine, `${VIEW}/kept`)
  t.is(firstBreak(kept), null)
  t.deepEqual(kept.filter(line => written.has(line)), [])
  await insideShell(machine, 'systemctl stop kept; rm /etc/permafrost/policy.d/test.conf')
})

test.serial('a busy FUSE file system hibernates and goes on, its daemon frozen like everybody', async t => {
  await inside(machine, ['ln', '-s', '/dev/null', OVERRIDE])
  t.notRegex(await inside(machine, ['permafrost', 'needed']), /bindfs/)
  // Each opens, reads and closes without end: whenever the freeze comes, some wait for the daemon.
  await insideShell(machine, `for n in 1 2 3 4; do
    systemd-run --quiet --unit=busy-$n sh -c 'while cmp ${BEHIND}/known ${VIEW}/known; do echo 3 > /proc/sys/vm/drop_caches; done'
  done`)
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  await goesOn(t)
  t.is(await inside(machine, ['systemctl', 'is-active', 'busy-1', 'busy-2', 'busy-3', 'busy-4']), 'active\n'.repeat(4), 'one read what is not there')
  await inside(machine, ['systemctl', 'stop', 'busy-1', 'busy-2', 'busy-3', 'busy-4'])
  t.deepEqual(kernelTrouble(machine.consoleText()), [])
})

test.serial('stock hibernation gives up on a process whose FUSE daemon does not answer', async t => {
  await inside(machine, ['systemctl', 'kill', '--signal=STOP', 'bindfs'])
  await hang(machine, 'reader', `sha256sum < ${VIEW}/known`, 'request_wait_answer')
  await stockGivesUp(t)
})

test.serial('that process and its daemon hibernate and go on', async t => {
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  await resumes(t)
  t.is(await inside(machine, ['cat', '/run/reader.out']), '', 'it has not been answered yet')
  await inside(machine, ['systemctl', 'kill', '--signal=CONT', 'bindfs'])
  await waitFor(machine, 'test -s /run/reader.out')
  t.is(await inside(machine, ['cat', '/run/reader.out']), await insideShell(machine, `sha256sum < ${BEHIND}/known`))
  t.deepEqual(await diaryComplaints(machine, DIARY), [])
  await inside(machine, ['rm', OVERRIDE])
})

test.serial('stock hibernation gives up on a process that sleeps on a dead device', async t => {
  await insideShell(machine, `
    victim=$(readlink -f /dev/disk/by-id/virtio-victim)
    head -c 64K ${BEHIND}/known > "$victim"; sync
    dmsetup create dead --table "0 131072 linear $victim 0"
    dmsetup suspend dead`)
  await hang(machine, 'dead-reader', `dd if=${DEAD} iflag=direct bs=64K count=1 status=none | sha256sum`, '')
  await stockGivesUp(t)
})

test.serial('such a process, and a sync that waits with it, hibernate and go on', async t => {
  await hang(machine, 'dead-writer', `dd if=/dev/zero of=${DEAD} bs=4K seek=16 count=1 conv=fsync status=none; echo written`, '')
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  await resumes(t)
  for (const unit of ['dead-reader', 'dead-writer'])
    t.is(await inside(machine, ['cat', `/run/${unit}.out`]), '', unit)
  await inside(machine, ['dmsetup', 'resume', 'dead'])
  await waitFor(machine, 'test -s /run/dead-reader.out && test -s /run/dead-writer.out')
  t.is(await inside(machine, ['cat', '/run/dead-reader.out']), await insideShell(machine, `head -c 64K ${BEHIND}/known | sha256sum`))
  t.is(await inside(machine, ['cat', '/run/dead-writer.out']), 'written\n')
  t.deepEqual(await diaryComplaints(machine, DIARY), [])
})

test.serial('the file systems are clean after all that', async t => {
  await down(machine, {isWiped: false})
  const root = machine.state.disks.find(disk => disk.role === 'root')
  const check = root === undefined ? {isClean: false, output: 'no root disk'} : await fsck(root)
  t.true(check.isClean, check.output)
})

/** Runs a command as a unit, until one of its processes sleeps in the kernel where nothing wakes it: in that function of the kernel, or in state D. */
async function hang(where: ScratchMachine, unit: string, command: string, wchan: string): Promise<void> {
  await inside(where, [
    'systemd-run', '--quiet', `--unit=${unit}`, `--property=StandardOutput=file:/run/${unit}.out`, 'sh', '-c', command.replaceAll('$', '$$$$')
  ])
  const sleeps = wchan === '' ? `grep -q '^State:.D' /proc/$pid/status` : `grep -q '^${wchan}$' /proc/$pid/wchan`
  await waitFor(where, `(for pid in $(cat /sys/fs/cgroup/system.slice/${unit}.service/cgroup.procs); do ${sleeps} && exit; done; exit 1)`)
}

async function stockGivesUp(t: ExecutionContext): Promise<void> {
  const before = (await kernelLogOf(machine)).length
  const tried = await stock(machine, 'lz4')
  t.false(tried.ok, 'stock hibernation managed it')
  t.true(machine.isRunning)
  t.regex((await kernelLogOf(machine)).slice(before), /Freezing (user space processes|of tasks) failed after \d+\.\d+ seconds/)
}

async function writtenWhileSaving(where: ScratchMachine): Promise<Set<string>> {
  const root = where.state.disks.find(disk => disk.role === 'root')
  const spare = where.state.disks.find(disk => disk.role === 'spare')
  if (root === undefined || spare === undefined)
    throw new Error('the machine has lost its disks')
  const pattern = lineOnDisk('mark-of-kept')
  return linesAfter(await findInDisk(root.path, pattern), await findInDisk(spare.path, pattern, await copyOnWriteArea(spare)))
}

async function resumes(t: ExecutionContext): Promise<void> {
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
}

async function goesOn(t: ExecutionContext): Promise<void> {
  await resumes(t)
  t.deepEqual(await diaryComplaints(machine, DIARY), [])
  await inside(machine, ['cmp', `${BEHIND}/known`, `${VIEW}/known`])
}
