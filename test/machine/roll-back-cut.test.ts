// The power goes while what was written during an aborted save is being merged back.
import {open, rename} from 'node:fs/promises'
import {setTimeout as delay} from 'node:timers/promises'
import test, {type ExecutionContext} from 'ava'
import {decodeMergeLists, MERGE_SLOTS_BYTES, MERGE_SLOTS_OFFSET, type MergeList} from '../../service/image/merge-list.js'
import {loadDigest} from '../../service/image/digest.js'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {run} from '../lab/tool.js'
import {cut, down} from '../lab/verbs/down.js'
import {resume} from '../lab/verbs/resume.js'
import {holdMemory, kernelTrouble} from '../lab/workload.js'
import {casesOfRun} from '../lib/cases.js'

const POLICY = '[Needed]\nUnit=needed.service\nWhen=always\nReason=A test\n'
const PLACES = ['/var/lib/written', '/mnt/data/written']

/**
 * Writes numbered files as fast as it can, each with its digest in a list; what is in the list is on the disk. Says on the
 * console when all merges are under way: whoever asks from outside may be asking for longer than they take.
 */
const WRITER = `
  (
    until merges=$(dmsetup status --target snapshot-merge) && [ "$(echo "$merges" | grep -c snapshot-merge)" = $# ]; do
      sleep 0.2
    done
    echo "$merges" > /dev/console
  ) &
  mkdir -p "$@"; n=0
  while :; do
    n=$((n + 1))
    for place; do
      dd if=/dev/urandom "of=$place/$n" bs=512k count=1 conv=fsync status=none
      (cd "$place" && sha256sum $n >> sums && sync sums)
    done
  done`

interface Layout {
  readonly where: string
  readonly type: 'ext4' | 'none'
  /** For the shell: makes and mounts the file system that the disk does not come with. */
  readonly make: string
  /** Mapped devices, and what the file system on each is known by. */
  readonly devices: Readonly<Record<string, string>>
  /** Who finishes the merge of the first: the initramfs, or a unit for devices that it does not have. */
  readonly isEarly: boolean
}

const ON_DISK: Layout = {
  where: 'a disk', type: 'ext4', make: '', devices: {'permafrost-vda': '/dev/vda', 'permafrost-vdb': '/dev/vdb'}, isEarly: true
}
/** Such as one of a storage system that only a service of its own knows how to attach. */
const ATTACH = `[Unit]
DefaultDependencies=no
After=systemd-udevd.service
Before=local-fs-pre.target
Wants=local-fs-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=sh -c 'until [ -b /dev/disk/by-id/virtio-data ]; do sleep 0.1; done'
ExecStart=dmsetup create late --table '0 491520 linear /dev/disk/by-id/virtio-data 16384'
[Install]
WantedBy=sysinit.target
`
const ON_LATE_DEVICE: Layout = {
  where: 'a device that the initramfs does not have',
  type: 'none',
  make: `
    printf %s "$1" > /etc/systemd/system/attach.service
    systemctl --quiet enable --now attach.service
    mke2fs -q -t ext4 /dev/mapper/late
    mkdir -p /mnt/data
    echo '/dev/mapper/late /mnt/data ext4 defaults 0 2' >> /etc/fstab
    systemctl daemon-reload
    mount /mnt/data`,
  devices: {late: '/dev/mapper/late', 'permafrost-vda': '/dev/vda'},
  isEarly: false
}

for (const layout of casesOfRun([ON_DISK], [ON_LATE_DEVICE]))
  test.serial(`the next boot finishes the merges before it mounts anything, and nothing that was written is lost, but never merges to what was used since, on ${layout.where}`, async t => {
    await using machine = await scratchMachine('roll-back-cut', {memoryMib: 768, disks: [{name: 'data', bytes: 256 * 2 ** 20, type: layout.type}]})
    await insideShell(machine, layout.make, ATTACH)
    await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d; printf %s "$1" > /etc/permafrost/policy.d/test.conf', POLICY)
    await rollBackSlowly(machine)
    const merging = await stopWhileMerging(machine)
    t.log(merging.join('; '))
    t.deepEqual(merging.map(line => line.split(':')[0]), Object.keys(layout.devices))
    const list = await readMergeList(machine)
    t.deepEqual(list?.merges.map(({path}) => path).sort(), Object.values(layout.devices).sort())
    t.true(list?.merges.every(({samples}) => samples.length > 0))
    const spare = machine.disk('spare').path
    await run('cp', ['--sparse=always', spare, `${spare}.before`])

    await bootsFresh(t, machine)
    await finished(t, machine, layout)
    t.true(await countWritten(t, machine) >= 5 * PLACES.length)
    t.notRegex(await inside(machine, ['dmsetup', 'table']), /snapshot|permafrost-merge/)
    t.is(await readMergeList(machine), null)
    await isClean(t, machine)

    await rename(`${spare}.before`, spare)
    await leavesOutOldMerges(t, machine, layout)
  })

/** As a spare device that was not there when the machine was booted meanwhile. */
async function leavesOutOldMerges(t: ExecutionContext, machine: ScratchMachine, {devices}: Layout): Promise<void> {
  await bootsFresh(t, machine)
  await attemptInside(machine, ['systemctl', 'is-system-running', '--wait'])
  for (const device of Object.values(devices))
    t.true(machine.consoleOfLastBoot().includes(`the file system on '${device}' was used before its interrupted roll-back was finished`), device)
  t.notRegex(machine.consoleOfLastBoot(), /finished the interrupted roll-back/)
  t.true(await countWritten(t, machine) >= 5 * PLACES.length)
  t.is(await readMergeList(machine), null)
  await isClean(t, machine)
}

async function bootsFresh(t: ExecutionContext, where: ScratchMachine): Promise<void> {
  const started = await resume(where, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
}

/** All that is there must be right. */
async function countWritten(t: ExecutionContext, where: ScratchMachine): Promise<number> {
  let count = 0
  for (const place of PLACES) {
    const checked = await attemptInside(where, ['sh', '-c', 'cd "$1" && sha256sum --check --quiet sums && wc -l < sums', 'sh', place])
    t.is(checked.status, 0, checked.stdout + checked.stderr)
    count += Number(checked.stdout)
  }
  return count
}

async function finished(t: ExecutionContext, where: ScratchMachine, {devices, isEarly}: Layout): Promise<void> {
  const done = Object.values(devices).map(device => `permafrost: finished the interrupted roll-back of the file system on '${device}'`)
  const late = isEarly ? [] : done.slice(0, 1)
  await attemptInside(where, ['systemctl', 'is-system-running', '--wait'])
  const unit = await inside(where, ['journalctl', '-b', '--no-pager', '--unit=permafrost-merge.service'])
  for (const line of done) {
    t.true(where.consoleOfLastBoot().includes(line), line)
    t.is(unit.includes(line), late.includes(line), unit)
  }
}

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

/** Gives the state of the merges just before the power went. */
async function stopWhileMerging(where: ScratchMachine): Promise<string[]> {
  const patience = AbortSignal.timeout(180_000)
  let merging: string[] = []
  while (merging.length < PLACES.length) {
    patience.throwIfAborted()
    merging = where.consoleOfLastBoot().match(/^\S+: \d+ \d+ snapshot-merge \d.*$/gm) ?? []
    await delay(20)
  }
  await cut(where)
  return merging.map(line => line.trim()).sort()
}

async function readMergeList(where: ScratchMachine): Promise<MergeList | null> {
  const {path} = where.disk('spare')
  const file = await open(path)
  const bytes = Buffer.alloc(MERGE_SLOTS_BYTES)
  await file.read(bytes, 0, bytes.length, MERGE_SLOTS_OFFSET)
  await file.close()
  return decodeMergeLists(bytes, loadDigest(), path)
}

async function isClean(t: ExecutionContext, where: ScratchMachine): Promise<void> {
  t.deepEqual(kernelTrouble(where.consoleText()), [])
  await down(where, {isWiped: false})
  for (const disk of where.state.disks.filter(({role, type}) => role === 'root' || (role === 'data' && type !== null))) {
    const result = await fsck(disk)
    t.true(result.isClean, result.output)
  }
}
