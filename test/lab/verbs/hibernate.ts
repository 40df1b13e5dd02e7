// hibernate NAME: asks for hibernation as a person or a desktop does, and waits for the power to go.
import {setTimeout as delay} from 'node:timers/promises'
import {MachineError, messageOf} from '../errors.js'
import {attemptInside, inside} from '../execute.js'
import {figuresOfImage, NO_FIGURES, readSpare, type Figures} from '../figures.js'
import type {Machine} from '../machine.js'
import {leaveStockPath} from '../stock-path.js'

export type Via = 'systemctl' | 'dbus' | 'cli'

export interface Report extends Figures {
  readonly ok: boolean
  readonly seconds: number
  readonly bootToUserMs: number | null
  readonly reason: string | null
}

const REQUESTS: Readonly<Record<Via, readonly string[]>> = {
  systemctl: ['systemctl', 'hibernate'],
  dbus: [
    'busctl', 'call', 'org.freedesktop.login1', '/org/freedesktop/login1', 'org.freedesktop.login1.Manager',
    'Hibernate', 'b', 'false'
  ],
  cli: ['permafrost', 'hibernate']
}

/** Emulated, with a gigabyte that does not compress, a save takes a minute. */
const SAVE_PATIENCE_MS = 600_000
export const ASK_EVERY_MS = 500
/** The unit that asks. */
const REQUEST = 'permafrost-lab-request.service'
const ANSWER_PATIENCE_MS = 2_000

/**
 * `via` is one of the ways there are, or a command of a test's own that asks. For `quietMs` the machine is not asked if it has been
 * refused: what asks takes of the time that a benchmark measures.
 */
export async function hibernate(machine: Machine, via: Via | readonly string[], quietMs = ASK_EVERY_MS): Promise<Report> {
  using _held = await machine.lock()
  await leaveStockPath(machine)
  const {reason, seconds} = await askAndMeasure(machine, typeof via === 'string' ? REQUESTS[via] : via, 'systemd-hibernate.service', quietMs)
  if (reason !== null)
    return {ok: false, seconds, ...NO_FIGURES, bootToUserMs: null, reason}
  const {ok, reason: fault, figures} = await judgeImage(machine)
  machine.update({qemu: null, figures})
  return {ok, seconds, ...figures, bootToUserMs: null, reason: fault}
}

interface Judgement {
  readonly ok: boolean
  readonly reason: string | null
  readonly figures: Figures
}

async function judgeImage(machine: Machine): Promise<Judgement> {
  const spare = machine.state.disks.find(disk => disk.role === 'spare')
  if (spare === undefined)
    return {ok: false, reason: 'The machine switched itself off and has no spare device', figures: NO_FIGURES}
  try {
    const saved = await readSpare(spare.path)
    const {state} = saved.superblock
    const reason = state === 'valid' ? null : `The machine switched itself off with the image '${state}'`
    return {ok: reason === null, reason, figures: figuresOfImage(saved)}
  } catch (thrown) {
    return {ok: false, reason: `The machine switched itself off: ${messageOf(thrown)}`, figures: NO_FIGURES}
  }
}

/**
 * Runs the request in the machine and waits for the power to go. Gives null then, or why it did not: a refusal,
 * a roll-back, a kernel that restarted. `unit` is the service that hibernates when the request itself returns at once.
 */
export async function askAndWait(machine: Machine, argv: readonly string[], unit: string): Promise<string | null> {
  return (await askAndMeasure(machine, argv, unit, ASK_EVERY_MS)).reason
}

/** As askAndWait(), with the time from the request to its end. */
export async function askAndMeasure(
  machine: Machine, argv: readonly string[], unit: string, quietMs: number
): Promise<{readonly reason: string | null, readonly seconds: number}> {
  const before = await inside(machine, ['date', '+%s'])
  // As a unit of its own it lives on when the agent's connection goes with the machine; a resumed one is still there.
  await attemptInside(machine, ['systemctl', 'stop', REQUEST])
  await attemptInside(machine, ['systemctl', 'reset-failed'])
  const started = performance.now()
  const reason = await ask({machine, argv, unit, quietMs, before: before.trim()})
  return {reason, seconds: secondsSince(started)}
}

interface Asking {
  readonly machine: Machine
  readonly argv: readonly string[]
  readonly unit: string
  readonly quietMs: number
  /** Seconds since 1970 in the machine. */
  readonly before: string
}

async function ask({machine, argv, unit, quietMs, before}: Asking): Promise<string | null> {
  const over = new AbortController()
  const patience = AbortSignal.timeout(SAVE_PATIENCE_MS)
  await inside(machine, [
    'systemd-run', '--quiet', `--unit=${REQUEST}`, '--property=RemainAfterExit=yes', '--', ...argv.map(escapeDollars)
  ])
  const refused = watchForRefusal({machine, units: [REQUEST, unit], quietMs, signal: over.signal})
  try {
    const ended = machine.ended(AbortSignal.any([patience, over.signal]))
    const first = await Promise.race([
      ended.then(end => end === 'powered-off' ? null : `The machine ended otherwise than by switching itself off: ${end === 'gone' ? `killed by ${machine.killer ?? 'whom is not known'}` : end}`),
      refused.then(async text => `${text}: ${await journalSince(machine, before)}`)
    ])
    ended.catch(() => undefined)
    return first
  } catch (thrown) {
    if (patience.aborted)
      throw new MachineError(`The machine is still on after ${SAVE_PATIENCE_MS / 1000} s; ${await whyStillOn(machine, before)}`, {cause: thrown})
    throw thrown
  } finally {
    over.abort()
    if (machine.isRunning)
      await attemptInside(machine, ['systemctl', 'stop', REQUEST]).catch(() => undefined)
  }
}

async function whyStillOn(machine: Machine, since: string): Promise<string> {
  const journal = await journalSince(machine, since).catch((fault: unknown) => messageOf(fault))
  return `${journal}; ${await machine.whatItIsAt()}`
}

/** systemd would put the value of a variable where a shell script names one (systemd.service(5), Command lines). */
function escapeDollars(word: string): string {
  return word.replaceAll('$', '$$$$')
}

interface Watch {
  readonly machine: Machine
  readonly units: readonly string[]
  readonly quietMs: number
  readonly signal: AbortSignal
}

/** While the machine is frozen nothing answers, and that is no refusal. */
async function watchForRefusal({machine, units, quietMs, signal}: Watch): Promise<string> {
  for (let waitMs = quietMs; !signal.aborted; waitMs = ASK_EVERY_MS) {
    await delay(waitMs, undefined, {signal}).catch(() => undefined)
    const failed = await failedUnit(machine, units)
    if (failed !== null)
      return failed
  }
  return 'stopped watching'
}

/**
 * What the agent has not read when devices are stopped for a snapshot is lost, virtcons_freeze() in drivers/char/virtio_console.c:
 * a question that went in just then is never answered, and is asked again.
 */
const QUESTION = {timeoutMs: 10_000, graceMs: 5_000, maySayNothing: true}

async function failedUnit(machine: Machine, units: readonly string[]): Promise<string | null> {
  try {
    const shown = await attemptInside(
      machine, ['systemctl', 'show', '--property=Id,ActiveState,Result', ...units],
      {...QUESTION, signal: AbortSignal.timeout(ANSWER_PATIENCE_MS)})
    const failed = shown.stdout.split('\n\n').find(block => /^ActiveState=failed$/m.test(block))
    const id = /^Id=(.*)$/m.exec(failed ?? '')?.[1]
    return id === undefined ? null : `${id} failed`
  } catch {
    // Frozen, or off already.
    return null
  }
}

/** What those who hibernate said, without systemd's remarks on them. */
const JOURNAL_SCRIPT = `
journalctl --quiet --no-pager --output=cat --since="@$1" --lines=8 \\
  _SYSTEMD_UNIT=permafrost-lab-request.service + _SYSTEMD_UNIT=systemd-hibernate.service + _SYSTEMD_UNIT=permafrostd.service
`

async function journalSince(machine: Machine, since: string): Promise<string> {
  const journal = await attemptInside(
    machine, ['sh', '-c', JOURNAL_SCRIPT, 'sh', since])
  return journal.stdout.trim().replaceAll('\n', '; ')
}

export function secondsSince(started: number): number {
  return Math.round((performance.now() - started) / 100) / 10
}
