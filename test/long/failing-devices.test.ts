// The spare device goes away, or cannot be read: the machine goes on, or starts anew with its file systems whole, and says why.
import {setTimeout as delay} from 'node:timers/promises'
import test, {type ExecutionContext} from 'ava'
import type {Disk} from '../lab/disks.js'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {readSpare} from '../lab/figures.js'
import {fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {down} from '../lab/verbs/down.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {
  appendedLines, checkMemory, firstBreak, holdMemory, kernelTrouble, memoryComplaints, startPayload, waitFor
} from '../lab/workload.js'

const DIARY = '/var/lib/needed'
const ENDED = '[ "$(systemctl show --property=ActiveState --value systemd-hibernate.service)" != activating ]'
/** The kernel says so of a disk that is no longer there. */
const EXPECTED = /I\/O error, dev (vdb|dm-\d+)|Invalidating snapshot/

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('failing-devices', {memoryMib: 1024, spareBytes: 0, disks: [{name: 'pulled', bytes: 3 * 2 ** 30, type: 'none'}]})
  await inside(machine, ['permafrost', 'setup', '--yes', '/dev/disk/by-id/virtio-pulled'])
  await holdMemory(machine, 'hold', 600)
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

test.serial('goes on when the spare device is unplugged and nobody had written anything meanwhile', async t => {
  const before = await checkMemory(machine, 'hold')
  await unplugWhileSaving()
  await waitFor(machine, ENDED)
  t.regex(await inside(machine, ['journalctl', '-b', '--no-pager', '--output=cat', '-u', 'permafrostd']), /Failed to put system to sleep. System resumed again: Cannot write the image to '.*virtio-pulled'/)
  t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
  t.notRegex(await inside(machine, ['dmsetup', 'table']), /snapshot|permafrost-base|permafrost-cow/)
  await insideShell(machine, 'echo goes on > /var/lib/after; sync')
  const check = await attemptInside(machine, ['permafrost', 'check'])
  t.not(check.status, 0)
  t.regex(check.stdout, /Cannot use spare device '.*virtio-pulled'/)
  await isClean(t)
})

test.serial('starts anew, as at the snapshot, when the spare device is unplugged with what needed daemons had written on it', async t => {
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
  await inside(machine, ['systemctl', 'is-system-running', '--wait']).catch(() => undefined)
  await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d; printf "[Needed]\\nUnit=needed.service\\nReason=A test\\n" > /etc/permafrost/policy.d/test.conf')
  await startPayload(machine, 'needed', 'append', DIARY)
  await waitFor(machine, `[ "$(wc -l < ${DIARY})" -ge 20 ]`)
  await holdMemory(machine, 'hold', 600)
  await unplugWhileSaving()
  t.is(await machine.ended(AbortSignal.timeout(300_000)), 'rebooted')
  t.regex(machine.consoleOfLastBoot(), /permafrost: Cannot go back: '.*virtio-pulled' has failed, and with it what was written to 'permafrost-vda'.* restarting/)
  machine.update({qemu: null})
  const root = await fsck(diskOf('root'))
  t.true(root.isClean, root.output)
  const again = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(again.ok, again.reason ?? '')
  const lines = await appendedLines(machine, DIARY)
  t.true(lines.length >= 20)
  t.is(firstBreak(lines), null)
  await isClean(t)
})

test.serial('starts anew and says why when a part of the image cannot be read', async t => {
  await resume(machine, {expect: 'fresh', diesWithStarter: true})
  await inside(machine, ['systemctl', 'is-system-running', '--wait']).catch(() => undefined)
  await startPayload(machine, 'needed', 'append', `${DIARY}-again`)
  await waitFor(machine, `[ "$(wc -l < ${DIARY}-again)" -ge 5 ]`)
  const saved = await hibernate(machine, 'systemctl')
  // The laboratory looks for the image on a disk that it made as the spare one.
  t.regex(saved.reason ?? '', /has no spare device/)
  machine.update({qemu: null})
  const {superblock} = await readSpare(diskOf('pulled').path)
  t.is(superblock.state, 'valid')
  const badSector = Math.floor((superblock.imageAreaOffset + superblock.storedBytes / 2) / 4096) * 8
  machine.update({disks: machine.state.disks.map(disk => disk.name === 'pulled' ? {...disk, badSector} : disk)})
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
  t.regex(await inside(machine, ['journalctl', '-b', '-k', '--no-pager', '--output=cat']), /^not resuming: cannot read '.*' at byte \d+: Input\/output error$/m)
  t.is(firstBreak(await appendedLines(machine, `${DIARY}-again`)), null)
  t.regex(await inside(machine, ['permafrost', 'image', 'show']), /^state +aborted$/m)
  await isClean(t)
})

/** When at least a tenth is saved. */
async function unplugWhileSaving(): Promise<void> {
  await inside(machine, ['systemd-run', '--quiet', 'systemctl', 'hibernate'])
  const patience = AbortSignal.timeout(300_000)
  while ((machine.consoleOfLastBoot().match(/permafrost: saving \d+ %/g)?.length ?? 0) < 2) {
    patience.throwIfAborted()
    await delay(20)
  }
  await machine.unplug('pulled')
}

async function isClean(t: ExecutionContext): Promise<void> {
  t.deepEqual(kernelTrouble(machine.consoleOfLastBoot()).filter(line => !EXPECTED.test(line)), [])
  await down(machine, {isWiped: false})
  const root = await fsck(diskOf('root'))
  t.true(root.isClean, root.output)
}

function diskOf(name: string): Disk {
  const found = machine.state.disks.find(disk => disk.name === name)
  if (found === undefined)
    throw new Error(`The machine has no disk '${name}'`)
  return found
}
