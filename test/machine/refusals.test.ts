import test from 'ava'
import {attemptInside, inside, insideShell, type Outcome} from '../lab/execute.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {kernelLogOf} from '../lab/workload.js'

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('refusals', {
    memoryMib: 512,
    spareBytes: 0,
    disks: [
      {name: 'formatted', bytes: 64 * 2 ** 20, type: 'ext4'},
      {name: 'small', bytes: 16 * 2 ** 20, type: 'none'},
      {name: 'unused', bytes: 2 ** 30, type: 'none'}
    ]
  })
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

const BY_ID = '/dev/disk/by-id/virtio-'

/** What a refusal must not have done: frozen anybody, left a device or a table. */
async function isUnchanged(where: ScratchMachine): Promise<boolean> {
  const devices = await inside(where, ['dmsetup', 'ls'])
  return !/permafrost-(base|cow)/.test(devices) && !/snapshot_kernel:/.test(await kernelLogOf(where))
}

/** One sentence, no stack, and a status of its own. */
function isSentence(outcome: Outcome): boolean {
  const text = outcome.stderr.trim()
  return outcome.status !== 0 && /^[^\n]*Cannot [^\n]+$/.test(text) && !/\n\s+at /.test(text)
}

test.serial('refuses without a spare device', async t => {
  const outcome = await attemptInside(machine, ['permafrost', 'hibernate'])
  t.true(isSentence(outcome), outcome.stderr)
  t.regex(outcome.stderr, /no spare device is configured/)
  t.true(await isUnchanged(machine))
})

test.serial('refuses to set up a disk with a file system on it', async t => {
  await inside(machine, ['umount', '/mnt/formatted'])
  const outcome = await attemptInside(machine, ['permafrost', 'setup', '--yes', `${BY_ID}formatted`])
  t.true(isSentence(outcome), outcome.stderr)
  t.regex(outcome.stderr, /Cannot use spare device/)
})

test.serial('refuses to set up a disk that is too small', async t => {
  const outcome = await attemptInside(machine, ['permafrost', 'setup', '--yes', `${BY_ID}small`])
  t.true(isSentence(outcome), outcome.stderr)
  t.regex(outcome.stderr, /MiB are needed/)
})

test.serial('refuses with a file system mounted that is no device-mapper device', async t => {
  await inside(machine, ['permafrost', 'setup', '--yes', `${BY_ID}unused`])
  await insideShell(machine, 'mkfs.ext4 -q "$1"; mkdir -p /mnt/plain; mount "$1" /mnt/plain', `${BY_ID}small`)
  const outcome = await attemptInside(machine, ['permafrost', 'hibernate'])
  t.true(isSentence(outcome), outcome.stderr)
  t.regex(outcome.stderr, /'\/mnt\/plain'/)
  t.true(await isUnchanged(machine))
  await inside(machine, ['umount', '/mnt/plain'])
})

test.serial('refuses with a policy file it cannot read, naming file and line', async t => {
  await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d; printf "[Needed]\\nUnti=x.service\\n" > /etc/permafrost/policy.d/bad.conf')
  const outcome = await attemptInside(machine, ['permafrost', 'hibernate'])
  t.true(isSentence(outcome), outcome.stderr)
  t.regex(outcome.stderr, /bad\.conf:2/)
  t.true(await isUnchanged(machine))
  await inside(machine, ['rm', '/etc/permafrost/policy.d/bad.conf'])
})

test.serial('refuses a policy file that is not root\'s, naming file and owner', async t => {
  await insideShell(machine, 'printf "[Needed]\\nComm=sh\\n" > "$1"; chown nobody "$1"', '/etc/permafrost/policy.d/theirs.conf')
  const outcome = await attemptInside(machine, ['permafrost', 'hibernate'])
  t.true(isSentence(outcome), outcome.stderr)
  t.regex(outcome.stderr, /'\/etc\/permafrost\/policy\.d\/theirs\.conf': 'nobody' \(65534\) owns it/)
  const check = await attemptInside(machine, ['permafrost', 'check'])
  t.regex(check.stdout, /The policy can be read.*theirs\.conf/)
  t.true(await isUnchanged(machine))
  await inside(machine, ['rm', '/etc/permafrost/policy.d/theirs.conf'])
})

test.serial('refuses whoever is not root', async t => {
  const outcome = await attemptInside(machine, ['setpriv', '--reuid=nobody', '--clear-groups', 'permafrost', 'hibernate'])
  t.true(isSentence(outcome), outcome.stderr)
  t.true(await isUnchanged(machine))
})

/** Lockdown cannot be taken back before the next boot. */
test.serial('refuses while the kernel is locked down, saying how to end that', async t => {
  t.notRegex((await attemptInside(machine, ['permafrost', 'check'])).stdout, /locked down/)
  await insideShell(machine, 'mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security; echo integrity > /sys/kernel/security/lockdown')
  const outcome = await attemptInside(machine, ['permafrost', 'hibernate'])
  t.true(isSentence(outcome), outcome.stderr)
  t.regex(outcome.stderr, /locked down \('integrity'\); switch Secure Boot off/)
  t.true(await isUnchanged(machine))
})
