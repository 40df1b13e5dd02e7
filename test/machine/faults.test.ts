import {open} from 'node:fs/promises'
import {setTimeout as delay} from 'node:timers/promises'
import test from 'ava'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {readSpare} from '../lab/figures.js'
import {fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {cut, down} from '../lab/verbs/down.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, holdMemory, kernelTrouble, memoryComplaints, waitFor} from '../lab/workload.js'
import {provoke, REPRESENTATIVES, setFault, titleOf} from '../soak/fault-cases.js'

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('faults', {memoryMib: 768})
})

test.afterEach.always(async () => {
  if (machine.isRunning)
    await setFault(machine, '')
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

test.serial('thaws by itself and goes on when the daemon is killed during the save', async t => {
  await holdMemory(machine, 'hold', 100)
  const before = await checkMemory(machine, 'hold')
  await setFault(machine, 'first-chunk-written:kill')
  const saved = await hibernate(machine, 'systemctl')
  t.false(saved.ok)
  t.true(machine.isRunning)
  await waitFor(machine, 'systemctl is-active --quiet permafrostd.service && ! dmsetup ls | grep -q permafrost-cow')
  const tables = await inside(machine, ['dmsetup', 'table'])
  t.notRegex(tables, /snapshot|permafrost-base|permafrost-cow/)
  t.regex(tables, /^permafrost-vda: 0 \d+ linear /m)
  await insideShell(machine, 'echo after > /var/lib/after; sync')
  t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
})

test.serial('hibernates again after the daemon was killed', async t => {
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  t.is((await inside(machine, ['cat', '/var/lib/after'])).trim(), 'after')
})

for (const fault of REPRESENTATIVES) {
  test.serial(`is as before, usable, and says why when ${titleOf(fault)}`, async t => {
    t.deepEqual(await provoke(machine, fault), [])
  })
}

test.serial('starts anew and says why when a bit of the image is wrong', async t => {
  await startAgain(machine)
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  await flipBit(machine)
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
  // As README says.
  const journal = await inside(machine, ['journalctl', '-b', '-t', 'permafrost', '--no-pager', '--output=cat'])
  t.regex(journal, /not resuming: chunk \d+ has a wrong digest/)
  await isHealthy(t, machine)
})

test.serial('starts anew when the power goes during the save', async t => {
  await startAgain(machine)
  await holdMemory(machine, 'hold', 300)
  await inside(machine, ['systemd-run', '--quiet', 'systemctl', 'hibernate'])
  await sawOnConsole(machine, /permafrost: saving [2-9]\d %/)
  await cut(machine)
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
  await isHealthy(t, machine)
})

test.serial('starts anew when told not to resume, and does not resume later', async t => {
  await startAgain(machine)
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true, extra: 'noresume'})
  t.true(started.ok, started.reason ?? '')
  await cut(machine)
  const again = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(again.ok, again.reason ?? '')
  await isHealthy(t, machine)
})

/** In the middle of the stored image. */
async function flipBit(where: ScratchMachine): Promise<void> {
  const spare = where.state.disks.find(disk => disk.role === 'spare')
  const {superblock} = await readSpare(spare?.path ?? '')
  const file = await open(spare?.path ?? '', 'r+')
  const byte = Buffer.alloc(1)
  const position = superblock.imageAreaOffset + Math.floor(superblock.storedBytes / 2)
  await file.read(byte, 0, 1, position)
  byte[0] = (byte[0] ?? 0) ^ 4
  await file.write(byte, 0, 1, position)
  await file.close()
}

async function sawOnConsole(where: ScratchMachine, pattern: RegExp): Promise<void> {
  const patience = AbortSignal.timeout(120_000)
  while (!pattern.test(where.consoleOfLastBoot())) {
    patience.throwIfAborted()
    await delay(20)
  }
}

async function startAgain(where: ScratchMachine): Promise<void> {
  if (where.isRunning)
    return
  await resume(where, {expect: 'fresh', diesWithStarter: true})
  await inside(where, ['systemctl', 'is-system-running', '--wait'])
}

/** Shuts the machine down and looks at what is left. */
async function isHealthy(t: {true: (value: boolean, message: string) => void, deepEqual: (a: unknown, b: unknown) => void}, where: ScratchMachine): Promise<void> {
  await attemptInside(where, ['systemctl', 'is-system-running', '--wait'])
  t.deepEqual(kernelTrouble(where.consoleText()), [])
  await down(where, {isWiped: false})
  const root = where.state.disks.find(disk => disk.role === 'root')
  const check = root === undefined ? {isClean: false, output: 'no root disk'} : await fsck(root)
  t.true(check.isClean, check.output)
}
