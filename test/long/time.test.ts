// Clocks, timers and the random generator over a hibernation that lasts.
import {setTimeout as delay} from 'node:timers/promises'
import test from 'ava'
import {inside, insideShell} from '../lab/execute.js'
import {keepDisks, putDisksBack} from '../lab/kept-disks.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {cut} from '../lab/verbs/down.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {askPayload, kernelLogOf, kernelTrouble, startPayload, startTellingPayload, waitFor} from '../lab/workload.js'

/** The machine stays off for so long beyond what saving and booting take. */
const OFF_MS = 30_000
/** What is due in the middle of it. */
const DUE_WHILE_OFF_SECONDS = 25
/** What is not due before the machine has run for so long. */
const LONG_SECONDS = 60
/** How late something may be that is due: two processors are emulated on a host with other work. */
const LATE_SECONDS = 15
/** The clock that a machine finds when it is switched on counts whole seconds. */
const HARDWARE_CLOCK_SECONDS = 2.5
const READING_SECONDS = 0.1

const DRAWS = 512
const DRAWN = '/run/drawn'

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('time', {memoryMib: 512})
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

interface Clocks {
  /** By the host. */
  readonly hostSeconds: number
  readonly monotonic: number
  readonly boottime: number
  readonly realtime: number
  readonly leftMonotonic: number
  readonly leftBoottime: number
  readonly early: number
}

async function readClocks(): Promise<Clocks> {
  const fields = await askPayload(machine, 'timers')
  const seconds = (name: string) => (fields[name] ?? Number.NaN) / 1e6
  return {
    hostSeconds: performance.now() / 1000,
    monotonic: seconds('monotonic'),
    boottime: seconds('boottime'),
    realtime: seconds('realtime'),
    leftMonotonic: seconds('left_monotonic'),
    leftBoottime: seconds('left_boottime'),
    early: fields['early'] ?? Number.NaN
  }
}

/** The machine's clocks before and after its long time off, read once for the tests that follow. */
let before: Clocks
let after: Clocks
let secondsWithoutPower: number
let dueSinceBoot: number

test.serial('goes on after half a minute without power', async t => {
  await startTellingPayload(machine, 'timers', 'timers')
  await startSleepAndTimers()
  before = await readClocks()
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  const offAt = performance.now()
  await delay(OFF_MS)
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  secondsWithoutPower = (performance.now() - offAt) / 1000
  after = await readClocks()
})

test.serial('CLOCK_MONOTONIC stands still while the machine is off', t => {
  const passed = after.monotonic - before.monotonic
  t.log(`${passed.toFixed(1)} s by the clock, ${(after.hostSeconds - before.hostSeconds).toFixed(1)} s by the host, ${secondsWithoutPower.toFixed(1)} s without power`)
  t.true(passed > 0)
  t.true(passed <= after.hostSeconds - before.hostSeconds - OFF_MS / 1000, `${passed} s have passed`)
})

test.serial('CLOCK_BOOTTIME and the wall clock go on meanwhile', t => {
  const host = after.hostSeconds - before.hostSeconds
  for (const clock of ['boottime', 'realtime'] as const) {
    const passed = after[clock] - before[clock]
    t.log(`${clock}: ${passed.toFixed(2)} s by the clock, ${host.toFixed(2)} s by the host`)
    t.true(Math.abs(passed - host) <= HARDWARE_CLOCK_SECONDS + READING_SECONDS, `${clock}: ${passed} s of ${host} s`)
  }
})

test.serial('a timerfd has as much left as its clock says, and no sleep was too short', t => {
  const isNear = (one: number, other: number) => Math.abs(one - other) <= READING_SECONDS
  t.true(isNear(before.leftMonotonic - after.leftMonotonic, after.monotonic - before.monotonic))
  t.true(isNear(before.leftBoottime - after.leftBoottime, after.boottime - before.boottime))
  t.is(after.early, 0)
})

/** systemd.timer(5): timers are accurate to a minute unless they are told otherwise. */
const ACCURATE = '--timer-property=AccuracySec=100ms'

/**
 * One that is due by the wall clock before the power comes back, and such that are not. Those with WakeSystem= are left out: after
 * a change of the clock systemd 252 reckons them anew, from when they were started by CLOCK_MONOTONIC (timer_enter_waiting()).
 */
async function startSleepAndTimers(): Promise<void> {
  const uptime = Number((await inside(machine, ['cut', '-d', '.', '-f', '1', '/proc/uptime'])).trim())
  dueSinceBoot = uptime + LONG_SECONDS
  const now = Number((await inside(machine, ['date', '+%s'])).trim())
  const timers: Readonly<Record<string, readonly string[]>> = {
    'by-wall-clock': [`--on-calendar=@${now + DUE_WHILE_OFF_SECONDS}`],
    'since-start': [`--on-active=${LONG_SECONDS}`],
    'since-boot': [`--on-boot=${dueSinceBoot}`]
  }
  for (const [unit, when] of Object.entries(timers))
    await inside(machine, ['systemd-run', '--quiet', `--unit=${unit}`, ...when, ACCURATE, '--property=RemainAfterExit=yes', 'true'])
  await inside(machine, ['systemd-run', '--quiet', '--unit=sleeper', '--property=RemainAfterExit=yes', 'sleep', String(LONG_SECONDS)])
}

/** When the timer has started its service; waits for it. */
async function elapsedAt(unit: string): Promise<number> {
  await waitFor(machine, `[ "$(systemctl show --property=ExecMainStartTimestampMonotonic --value ${unit}.service)" -gt 0 ]`)
  return await instant(`${unit}.service`, 'ExecMainStartTimestampMonotonic')
}

/** Seconds by CLOCK_MONOTONIC; 0 where it has not happened. */
async function instant(unit: string, property: string): Promise<number> {
  return Number((await inside(machine, ['systemctl', 'show', `--property=${property}`, '--value', unit])).trim()) / 1e6
}

test.serial('a timer of systemd that was due meanwhile by the wall clock elapses at once', async t => {
  const elapsed = await elapsedAt('by-wall-clock')
  t.log(`${(elapsed - after.monotonic).toFixed(1)} s after the first reading of the clocks`)
  t.true(elapsed > before.monotonic, 'it elapsed before the hibernation')
  t.true(elapsed <= after.monotonic + LATE_SECONDS)
})

test.serial('timers of systemd that count the time the machine runs have that much left', async t => {
  const dues = {
    'since-start': await instant('since-start.timer', 'ActiveEnterTimestampMonotonic') + LONG_SECONDS,
    'since-boot': dueSinceBoot
  }
  for (const [unit, due] of Object.entries(dues)) {
    t.true(after.monotonic < due, 'the machine took longer than they wait')
    const late = await elapsedAt(unit) - due
    t.log(`${unit}: ${late.toFixed(1)} s after it was due`)
    t.true(late >= -READING_SECONDS && late <= LATE_SECONDS)
  }
})

test.serial('a process that sleeps does so for as long as it asked, without the time off', async t => {
  await waitFor(machine, '[ "$(systemctl show --property=SubState --value sleeper)" = exited ]')
  const began = await instant('sleeper', 'ExecMainStartTimestampMonotonic')
  const ended = await instant('sleeper', 'ExecMainExitTimestampMonotonic')
  t.is((await inside(machine, ['systemctl', 'show', '--property=ExecMainStatus', '--value', 'sleeper'])).trim(), '0')
  t.log(`${(ended - began).toFixed(1)} s`)
  t.true(ended - began >= LONG_SECONDS)
  t.true(ended - began <= LONG_SECONDS + LATE_SECONDS)
})

test.serial('draws no random bytes that another resume of the same image draws, too', async t => {
  await startPayload(machine, 'draw', 'draw', String(DRAWS), DRAWN)
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  const kept = await keepDisks(machine)
  const once = await drawAfterResume(t)
  await cut(machine)
  await putDisksBack(machine, kept)
  const again = await drawAfterResume(t)
  t.is(once.size, again.size)
  t.true(once.size >= DRAWS)
  t.deepEqual([...once].filter(bytes => again.has(bytes)), [])
})

async function drawAfterResume(t: {true: (value: boolean, message: string) => void}): Promise<Set<string>> {
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  await waitFor(machine, `test -s ${DRAWN}`)
  return new Set((await insideShell(machine, `cat ${DRAWN}`)).trim().split('\n'))
}

test.serial('the kernel has not complained', async t => {
  t.deepEqual(kernelTrouble(machine.consoleText()), [])
  t.deepEqual(kernelTrouble(await kernelLogOf(machine)), [])
})
