import {setTimeout as delay} from 'node:timers/promises'
import test, {type ExecutionContext} from 'ava'
import {inside, insideShell} from '../lab/execute.js'
import {fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {down} from '../lab/verbs/down.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {
  checkMemory, diaryComplaints, holdMemory, kernelTrouble, memoryComplaints, startPayload, waitFor, type HeldMemory
} from '../lab/workload.js'
import {casesOfRun} from '../lib/cases.js'

const DIARY = '/var/lib/needed'
/** Saving it takes longer than starting the command that aborts. */
const HELD_MIB = 1400
const MANAGER = ['org.permafrost1', '/org/permafrost1', 'org.permafrost1.Manager']

interface Way {
  readonly name: string
  /** Units: while everybody is frozen nothing can be asked, so that who aborts has to be kept with what it needs. */
  readonly keeps: string
  readonly abort: (where: ScratchMachine) => Promise<unknown>
}

const ESC_ON_SERIAL: Way = {name: 'Esc is typed on the serial console', keeps: '', abort: async where => { await where.type('\x1b') }}
const CALL_OVER_BUS: Way = {
  name: 'Abort is called over a bus that is kept',
  keeps: 'permafrost-lab-agent.service dbus.service',
  abort: async where => {
    const state = await inside(where, ['busctl', 'get-property', ...MANAGER, 'State'])
    if (state !== 's "saving"\n')
      throw new Error(`while saving the state is ${state}`)
    await inside(where, ['busctl', 'call', ...MANAGER, 'Abort'])
  }
}
const ESC_ON_KEYBOARD: Way = {name: 'Esc is pressed on a keyboard', keeps: '', abort: async where => { await where.press('esc') }}
const COMMAND: Way = {
  name: "'permafrost abort' is run by who is kept, the bus standing still",
  keeps: 'permafrost-lab-agent.service',
  abort: async where => { await inside(where, ['permafrost', 'abort']) }
}
const UNIT_STOPPED: Way = {
  name: 'systemd, kept, is told to stop systemd-hibernate.service',
  keeps: 'permafrost-lab-agent.service dbus.service init.scope systemd-hibernate.service',
  abort: async where => { await inside(where, ['systemctl', 'stop', 'systemd-hibernate.service']) }
}

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('service-abort', {memoryMib: 2048})
  await startPayload(machine, 'needed', 'append', DIARY)
  await holdMemory(machine, 'hold', HELD_MIB)
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

for (const {name, keeps, abort} of casesOfRun([ESC_ON_SERIAL, CALL_OVER_BUS], [ESC_ON_KEYBOARD, COMMAND, UNIT_STOPPED])) {
  test.serial(`goes back while saving when ${name}`, async t => {
    await keep(machine, `needed.service ${keeps}`)
    const before = await checkMemory(machine, 'hold')
    const saves = countOfSaves(machine)
    await inside(machine, ['systemctl', 'start', '--no-block', 'systemd-hibernate.service'])
    await untilSaving(machine, saves)
    await abort(machine)
    await waitFor(machine, `[ "$(busctl get-property ${MANAGER.join(' ')} State)" = 's "idle"' ]`)
    t.regex(await inside(machine, ['busctl', 'get-property', ...MANAGER, 'LastResult']), /it was aborted/)
    await isAsBefore(t, machine, before)
  })
}

test.serial('hibernates after all that, and what was written while saving is on the disk', async t => {
  await keep(machine, 'needed.service')
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  t.is((await checkMemory(machine, 'hold')).badPages, 0)
  t.deepEqual(await diaryComplaints(machine, DIARY), [])
  t.deepEqual(kernelTrouble(machine.consoleText()), [])
  await down(machine, {isWiped: false})
  const root = machine.state.disks.find(disk => disk.role === 'root')
  const check = root === undefined ? {isClean: false, output: 'no root disk'} : await fsck(root)
  t.true(check.isClean, check.output)
})

async function keep(where: ScratchMachine, units: string): Promise<void> {
  const policy = `[Needed]\nUnit=${units}\nReason=A test\n`
  await insideShell(where, 'mkdir -p /etc/permafrost/policy.d; printf %s "$1" > /etc/permafrost/policy.d/test.conf', policy)
}

const SAVING = /permafrost: saving \d+ %/g

function countOfSaves(where: ScratchMachine): number {
  return where.consoleText().match(SAVING)?.length ?? 0
}

/** Until at least a tenth is saved. */
async function untilSaving(where: ScratchMachine, before: number): Promise<void> {
  const patience = AbortSignal.timeout(120_000)
  while (countOfSaves(where) < before + 2) {
    patience.throwIfAborted()
    await delay(20)
  }
}

/** Tables, memory, the needed daemon's file with what it wrote meanwhile, and nobody frozen. */
async function isAsBefore(t: ExecutionContext, where: ScratchMachine, before: HeldMemory): Promise<void> {
  const tables = await inside(where, ['dmsetup', 'table'])
  t.notRegex(tables, /snapshot|permafrost-base|permafrost-cow/)
  t.regex(tables, /^permafrost-vda: 0 \d+ linear /m)
  t.deepEqual(await memoryComplaints(where, 'hold', before), [])
  t.deepEqual(await diaryComplaints(where, DIARY), [])
}
