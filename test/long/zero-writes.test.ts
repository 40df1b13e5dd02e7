// From the snapshot to the power-off not one write reaches a disk with a file system on it.
//
// QEMU logs every write of a run. The instant of the snapshot in that log is told by the kernel itself: what its block layer has
// written since the boot is a number in its memory, which is in the image. In the resumed machine that number has gone on from
// there, by what has been written since, and that is in the log of the second run. So what the first log has more than the
// number of the second run less its log, was written after the snapshot.
import test, {type ExecutionContext} from 'ava'
import {boot} from '../lab/boot.js'
import {deviceOf, type Disk} from '../lab/disks.js'
import {inside, insideShell} from '../lab/execute.js'
import {copyOnWriteArea, findInDisk} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {cut, down} from '../lab/verbs/down.js'
import {askAndWait} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, holdMemory, kernelTrouble} from '../lab/workload.js'
import {countLogged, logWrites, settleDisks} from '../lab/write-cache.js'

const POLICY = '[Needed]\nUnit=writer-root.service writer-ext.service writer-xfs.service writer-fat.service\nReason=A test\n'
const PLACES = {root: '/var/lib', ext: '/mnt/ext', xfs: '/mnt/xfs', fat: '/mnt/fat'} as const

/** As fast as it can, through the page cache and past it, each line told to be flushed; over and over on the same blocks. */
const WRITER = `
  n=0
  while :; do
    n=$((n + 1))
    echo "zero-writes $2 $n" > "$1/line" && sync "$1/line"
    dd if=/dev/zero of="$1/direct" bs=64k count=4 oflag=direct conv=notrunc status=none
  done`

const MIB = 2 ** 20
let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('zero-writes', {
    memoryMib: 768,
    spareBytes: 4096 * MIB,
    disks: [
      {name: 'ext', bytes: 256 * MIB, type: 'ext4'}, {name: 'xfs', bytes: 320 * MIB, type: 'xfs'}, {name: 'fat', bytes: 128 * MIB, type: 'vfat'}
    ]
  })
  await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d; printf %s "$1" > /etc/permafrost/policy.d/test.conf', POLICY)
  await down(machine, {isWiped: false})
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

test.serial('not one sector is written to a base device between the snapshot and the power-off', async t => {
  await logWrites(machine)
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
  await holdMemory(machine, 'hold', 300)
  for (const [name, place] of Object.entries(PLACES))
    await inside(machine, ['systemd-run', '--quiet', `--unit=writer-${name}`, 'sh', '-c', WRITER.replaceAll('$', '$$$$'), 'sh', place, name])
  t.is(await askAndWait(machine, ['systemctl', 'hibernate'], 'systemd-hibernate.service'), null)
  machine.update({qemu: null})
  const untilPowerOff = countLogged(machine)
  settleDisks(machine, null)
  await wroteMeanwhile(t)

  await logWrites(machine)
  const {identity} = await boot(machine, {diesWithStarter: true, timeoutMs: 480_000})
  t.true(identity === machine.state.agentIdentity, 'the machine started anew')
  t.is((await checkMemory(machine, 'hold')).badPages, 0)
  const counted = await countInside()
  await cut(machine)
  const sinceResume = countLogged(machine)
  const disks = machine.state.disks
  settleDisks(machine, null)

  const after = new Map(disks.map(({name}) => {
    const atSnapshot = (counted.get(name) ?? 0) - (sinceResume.get(name) ?? 0)
    t.log(`${name}: ${atSnapshot} sectors at the snapshot, ${untilPowerOff.get(name) ?? 0} until the power-off, ${sinceResume.get(name) ?? 0} since the resume`)
    return [name, (untilPowerOff.get(name) ?? 0) - atSnapshot]
  }))
  const spare = after.get('spare') ?? 0
  t.true(spare * 512 > 100 * MIB, `${spare} sectors for image and slices`)
  for (const name of Object.keys(PLACES))
    t.is(after.get(name), 0, name)
})

test.serial('the kernel has not complained', t => {
  t.deepEqual(kernelTrouble(machine.consoleText()), [])
})

/** Lines with higher numbers than any on its disk are in the copy-on-write area. */
async function wroteMeanwhile(t: ExecutionContext): Promise<void> {
  const spare = diskOf('spare')
  const pattern = /zero-writes \w+ \d+(?=\n)/g
  const kept = await findInDisk(spare.path, pattern, await copyOnWriteArea(spare))
  for (const name of Object.keys(PLACES)) {
    const before = highest(await findInDisk(diskOf(name).path, pattern), name)
    const meanwhile = highest(kept, name)
    t.log(`${name}: line ${before} was the last on the disk, line ${meanwhile} the last in the copy-on-write area`)
    t.true(meanwhile > before + 1)
  }
}

function highest(lines: ReadonlySet<string>, name: string): number {
  return Math.max(0, ...[...lines].filter(line => line.startsWith(`zero-writes ${name} `)).map(line => Number(line.split(' ')[2])))
}

/** Sectors each disk was told to write since the boot that was hibernated, at an instant from which on nobody writes any more. */
async function countInside(): Promise<ReadonlyMap<string, number>> {
  await insideShell(machine, 'systemctl stop "writer-*"; umount /mnt/ext /mnt/xfs /mnt/fat; sync; fsfreeze -f /')
  const counts = new Map<string, number>()
  const {disks} = machine.state
  for (const disk of disks) {
    const name = deviceOf(disks, disk).slice('/dev/'.length)
    const fields = (await inside(machine, ['cat', `/sys/block/${name}/stat`])).trim().split(/\s+/)
    counts.set(disk.name, Number(fields[SECTORS_WRITTEN]))
  }
  return counts
}

/** Documentation/block/stat.rst */
const SECTORS_WRITTEN = 6

function diskOf(name: string): Disk {
  const found = machine.state.disks.find(disk => disk.name === name)
  if (found === undefined)
    throw new Error(`The machine has no disk '${name}'`)
  return found
}
