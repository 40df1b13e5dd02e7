// A needed daemon writes more than there is room for while the image is saved: the save goes back, and nothing is lost.
import test, {type ExecutionContext} from 'ava'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {down} from '../lab/verbs/down.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {checkMemory, holdMemory, kernelLogOf, kernelTrouble, memoryComplaints, type HeldMemory} from '../lab/workload.js'

const MIB = 2 ** 20
/** Stopping it waits for what it is flushing, on a machine that has been merging. */
const PATIENCE_MS = 600_000
const POLICY = '[Needed]\nUnit=writer.service\nWhen=always\nReason=A test\n'
const REASON = /too much is written to '\/mnt\/data' meanwhile, \d+ MiB of 32 MiB for it are left/

/** Files of 2 MiB, each told to be flushed before it is put on the list with its digest. */
const STEADY = `
  n=0
  while :; do
    n=$((n + 1))
    yes "file $n of many" | head -c 2097152 | dd of=/mnt/data/$n iflag=fullblock bs=2M conv=fsync status=none &&
    (cd /mnt/data && sha256sum $n >> sums && sync sums)
  done`

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('cow-full', {
    memoryMib: 1024,
    spareBytes: 1000 * MIB,
    disks: [{name: 'data', bytes: 2048 * MIB, type: 'ext4'}]
  })
  await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d; printf %s "$1" > /etc/permafrost/policy.d/test.conf', POLICY)
  await holdMemory(machine, 'hold', 500)
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

test.serial('goes back before the copy-on-write area is full when a needed daemon writes all the time', async t => {
  const before = await checkMemory(machine, 'hold')
  await inside(machine, ['systemd-run', '--quiet', '--unit=writer', 'sh', '-c', STEADY.replaceAll('$', '$$$$')])
  const saved = await hibernate(machine, 'systemctl')
  t.false(saved.ok)
  t.regex(saved.reason ?? '', REASON)
  t.log(saved.reason ?? '')
  await inside(machine, ['systemctl', 'stop', 'writer'], {timeoutMs: PATIENCE_MS})
  await isWhole(t, before)
})

test.serial('the file systems are clean after all that', async t => {
  t.deepEqual(kernelTrouble(machine.consoleText()), [])
  await down(machine, {isWiped: false})
  for (const disk of machine.state.disks.filter(({role}) => role === 'root' || role === 'data')) {
    const check = await fsck(disk)
    t.true(check.isClean, check.output)
  }
})

async function isWhole(t: ExecutionContext, before: HeldMemory): Promise<void> {
  const checked = await attemptInside(machine, ['sh', '-c', 'cd /mnt/data && sha256sum --check --quiet sums && wc -l < sums && rm -f -- *'], {timeoutMs: PATIENCE_MS})
  t.is(checked.status, 0, checked.stdout + checked.stderr)
  t.log(`${checked.stdout.trim()} files`)
  t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
  t.notRegex(await inside(machine, ['dmsetup', 'table']), /snapshot|permafrost-base|permafrost-cow/)
  t.regex(await inside(machine, ['permafrost', 'image', 'show']), /^state +aborted$/m)
  const log = await kernelLogOf(machine)
  t.notRegex(log, /Snapshot overflowed|I\/O error|EXT4-fs error/)
  const check = await attemptInside(machine, ['permafrost', 'check'])
  t.is(check.status, 0, check.stdout)
}
