// soak cuts: the power goes at a random instant of a save or a resume, and what the drives had not been told to flush is lost.
import {setTimeout as delay} from 'node:timers/promises'
import {boot} from '../lab/boot.js'
import {messageOf} from '../lab/errors.js'
import {attemptInside, inside} from '../lab/execute.js'
import {readSpare} from '../lab/figures.js'
import {fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {cut, down} from '../lab/verbs/down.js'
import {secondsSince} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {appendedLines, checkMemory, firstBreak, holdMemory, kernelTrouble, startPayload, waitFor} from '../lab/workload.js'
import {logWrites, settleDisks, type Random, type Settled} from '../lab/write-cache.js'
import type {Limit} from './limit.js'
import {countEnds, type Failure, type Outcome} from './outcome.js'
import {seededRandom} from './random.js'

interface Settings {
  readonly limit: Limit
  readonly seed: string
}

/** How long a whole save and a whole resume take, and a bit: so that some cuts come after the end. */
interface Durations {
  readonly saveMs: number
  readonly resumeMs: number
}

const DIARIES = ['/var/lib/diary', '/mnt/data/diary']
const BOOT_PATIENCE_MS = 480_000
const MARGIN = 1.15
/** Switching off, checking and starting anew takes longer than a round. */
const ROUNDS_BETWEEN_CHECKS = 4

export async function runCuts({limit, seed}: Settings): Promise<Outcome> {
  const started = performance.now()
  process.stdout.write(`seed ${seed}\n`)
  await using machine = await scratchMachine('soak-cuts', {memoryMib: 512, disks: [{name: 'data', bytes: 256 * 2 ** 20, type: 'ext4'}]})
  await down(machine, {isWiped: false})
  const random = seededRandom(seed)
  const durations = await measure(machine)
  const failures: Failure[] = []
  const ends: string[] = []
  let isLast = false
  for (let round = 1; !isLast; round++) {
    const isLookedInto = () => {
      isLast = limit.isReached(round)
      return isLast || round % ROUNDS_BETWEEN_CHECKS === 0
    }
    const {title, end, complaints} = await cutOnce(machine, {durations, random, isLookedInto})
    isLast ||= limit.isReached(round)
    process.stdout.write(`${round}/${limit.rounds} ${complaints.length === 0 ? 'ok' : 'FAILED'}: ${title}: ${end}\n`)
    ends.push(end)
    if (complaints.length > 0)
      failures.push({title: `round ${round}, ${title}: ${end}`, complaints})
  }
  return {experiment: 'cuts', seed, tried: ends.length, failures, ends: countEnds(ends), seconds: Math.round(secondsSince(started))}
}

interface Round {
  readonly title: string
  readonly end: string
  readonly complaints: readonly string[]
}

interface Trial {
  readonly durations: Durations
  readonly random: Random
  /** Whether the machine is switched off in the end and its file systems are checked; asked when the rest has been. */
  readonly isLookedInto: () => boolean
}

/** Leaves the machine on, at work or freshly started, or off. */
async function cutOnce(machine: ScratchMachine, {durations, random, isLookedInto}: Trial): Promise<Round> {
  const isSave = random() < 0.5
  const afterMs = Math.round(random() * MARGIN * (isSave ? durations.saveMs : durations.resumeMs))
  const title = `${isSave ? 'save' : 'resume'} cut after ${(afterMs / 1000).toFixed(1)} s`
  const complaints: string[] = []
  try {
    if (!machine.isRunning)
      await startAnew(machine)
    const written = await work(machine)
    const settled = isSave
      ? await cutSave(machine, afterMs, random)
      : await cutResume(machine, afterMs, random)
    const end = await lookAt(machine, written, complaints)
    if (isLookedInto())
      await lookInto(machine, complaints)
    return {title: `${title}, ${settled.lost} of ${settled.unflushed} unflushed writes lost`, end, complaints}
  } catch (thrown) {
    const console = machine.consoleOfLastBoot().slice(-2000)
    await cut(machine)
    settleDisks(machine, null)
    return {title, end: 'broken off', complaints: [...complaints, messageOf(thrown), console]}
  }
}

/** What was on the disks, told to be flushed, before the hibernation was asked for. */
interface Written {
  readonly lines: readonly (readonly string[])[]
}

/** An ordinary boot. */
async function startAnew(machine: ScratchMachine): Promise<void> {
  // A round that was broken off may have left one, and a machine started with 'noresume' does not hibernate.
  if (await stateOfSpare(machine) === 'valid') {
    await startFresh(machine, 'noresume')
    await down(machine, {isWiped: false})
    settleDisks(machine, null)
  }
  await startFresh(machine)
  await inside(machine, ['systemctl', 'is-system-running', '--wait']).catch(() => undefined)
}

async function startFresh(machine: ScratchMachine, extra?: string): Promise<void> {
  await logWrites(machine)
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true, ...extra === undefined ? {} : {extra}})
  if (!started.ok)
    throw new Error(started.reason ?? '')
}

/** Begins the work where it is not going on after a resume; gives what must be there whatever happens. */
async function work(machine: ScratchMachine): Promise<Written> {
  if (!await isAtWork(machine)) {
    await inside(machine, ['rm', '-f', ...DIARIES])
    for (const [index, diary] of DIARIES.entries())
      await startPayload(machine, `diary${index}`, 'append', diary)
    await holdMemory(machine, 'hold', 60)
  }
  for (const diary of DIARIES)
    await waitFor(machine, `[ "$(wc -l < ${diary})" -ge 10 ]`)
  const lines = await Promise.all(DIARIES.map(async diary => await appendedLines(machine, diary)))
  return {lines: lines.map(all => all.slice(0, -1))}
}

async function isAtWork(machine: ScratchMachine): Promise<boolean> {
  return (await attemptInside(machine, ['systemctl', 'is-active', '--quiet', 'hold'])).status === 0
}

async function cutSave(machine: ScratchMachine, afterMs: number, random: Random): Promise<Settled> {
  await requestHibernation(machine)
  const stop = new AbortController()
  await Promise.race([
    machine.ended(stop.signal).catch(() => undefined),
    delay(afterMs, undefined, {signal: stop.signal}).catch(() => undefined)
  ])
  stop.abort()
  await cut(machine)
  return settleDisks(machine, random)
}

async function cutResume(machine: ScratchMachine, afterMs: number, random: Random): Promise<Settled> {
  await hibernateToTheEnd(machine)
  settleDisks(machine, random)
  if (await stateOfSpare(machine) !== 'valid')
    throw new Error('the image is not valid although the machine has switched itself off')
  await logWrites(machine)
  const booting = boot(machine, {diesWithStarter: true, timeoutMs: BOOT_PATIENCE_MS}).catch(() => null)
  while (!machine.isRunning)
    await delay(5)
  await delay(afterMs)
  await cut(machine)
  await booting
  return settleDisks(machine, random)
}

/** Boots the disks as they are and gives how it ended; what does not hold is added to the complaints. */
async function lookAt(machine: ScratchMachine, written: Written, complaints: string[]): Promise<string> {
  const before = await stateOfSpare(machine)
  const former = machine.state.agentIdentity
  await logWrites(machine)
  const {identity} = await boot(machine, {diesWithStarter: true, timeoutMs: BOOT_PATIENCE_MS})
  const isResumed = identity === former
  machine.update({agentIdentity: identity})
  if (isResumed !== (before === 'valid'))
    complaints.push(`the machine ${isResumed ? 'resumed' : 'started anew'} with an image '${before}'`)
  await inside(machine, ['systemctl', 'is-system-running', '--wait']).catch(() => undefined)
  if (isResumed)
    await lookAtResumed(machine, complaints)
  await lookAtDiaries(machine, written, complaints)
  const after = await waitForState(machine, state => !['valid', 'resuming', 'writing'].includes(state))
  if (after !== null)
    complaints.push(`the image is '${after}' in the end`)
  complaints.push(...kernelTrouble(machine.consoleOfLastBoot()))
  await hibernationIsOver(machine)
  return isResumed ? 'full resume' : `clean boot with the image '${before}'`
}

/** Switches the machine off; what an earlier round has done to a file system is still to be seen. */
async function lookInto(machine: ScratchMachine, complaints: string[]): Promise<void> {
  await down(machine, {isWiped: false})
  settleDisks(machine, null)
  for (const disk of machine.state.disks.filter(({role}) => role === 'root' || role === 'data')) {
    const check = await fsck(disk)
    if (!check.isClean)
      complaints.push(check.output)
  }
}

async function lookAtResumed(machine: ScratchMachine, complaints: string[]): Promise<void> {
  const memory = await checkMemory(machine, 'hold')
  if (memory.badPages !== 0)
    complaints.push(`${memory.badPages} pages of memory are wrong`)
  for (const diary of DIARIES) {
    const length = (await appendedLines(machine, diary)).length
    await waitFor(machine, `[ "$(wc -l < ${diary})" -gt ${length} ]`)
  }
}

async function lookAtDiaries(machine: ScratchMachine, written: Written, complaints: string[]): Promise<void> {
  for (const [index, diary] of DIARIES.entries()) {
    const lines = await appendedLines(machine, diary)
    const lost = (written.lines[index] ?? []).filter(line => !lines.includes(line))
    if (lost.length > 0)
      complaints.push(`'${diary}' has lost ${lost.length} lines that were on the disk, such as '${lost[0] ?? ''}'`)
    const broken = firstBreak(lines)
    // The last line of one that was cut off may have been on its way.
    if (broken !== null && broken !== lines.at(-1))
      complaints.push(`'${diary}' does not go on at '${broken}'`)
  }
}

/** Until then logind lets nobody switch the machine off. */
async function hibernationIsOver(machine: ScratchMachine): Promise<void> {
  await waitFor(machine, '[ "$(systemctl show --property=ActiveState --value systemd-hibernate.service)" != activating ]')
}

async function requestHibernation(machine: ScratchMachine): Promise<void> {
  await inside(machine, ['systemd-run', '--quiet', 'systemctl', 'hibernate'])
}

/** Leaves the machine off. Throws with what the machine says of it when it stays on. */
async function hibernateToTheEnd(machine: ScratchMachine): Promise<void> {
  await requestHibernation(machine)
  const end = await machine.ended(AbortSignal.timeout(BOOT_PATIENCE_MS)).catch(() => null)
  if (end === null) {
    const journal = await attemptInside(machine, ['journalctl', '--no-pager', '--lines=30', '--unit=permafrostd.service', '--unit=systemd-hibernate.service'])
    throw new Error(`the machine has not switched itself off within ${BOOT_PATIENCE_MS / 1000} s:\n${journal.stdout}${journal.stderr}`)
  }
  if (end !== 'powered-off')
    throw new Error(`the machine ended otherwise than by switching itself off: ${end}`)
  machine.update({qemu: null})
}

/** As the machine finds it, or is writing it now. */
async function stateOfSpare(machine: ScratchMachine): Promise<string> {
  const spare = machine.state.disks.find(({role}) => role === 'spare')
  const path = machine.isRunning ? spare?.logged?.copy : spare?.path
  return (await readSpare(path ?? spare?.path ?? '')).superblock.state
}

async function waitForState(machine: ScratchMachine, isRight: (state: string) => boolean): Promise<string | null> {
  const patience = AbortSignal.timeout(60_000)
  for (;;) {
    const state = await stateOfSpare(machine)
    if (isRight(state))
      return null
    if (patience.aborted)
      return state
    await delay(200)
  }
}

/** A whole cycle with the power staying on. */
async function measure(machine: ScratchMachine): Promise<Durations> {
  await startAnew(machine)
  await work(machine)
  const saving = performance.now()
  await hibernateToTheEnd(machine)
  const saveMs = performance.now() - saving
  settleDisks(machine, null)
  await logWrites(machine)
  const resuming = performance.now()
  const {identity} = await boot(machine, {diesWithStarter: true, timeoutMs: BOOT_PATIENCE_MS})
  const resumeMs = performance.now() - resuming
  if (identity !== machine.state.agentIdentity)
    throw new Error('the machine did not resume with the power staying on')
  await hibernationIsOver(machine)
  await down(machine, {isWiped: false})
  settleDisks(machine, null)
  process.stdout.write(`a save takes ${(saveMs / 1000).toFixed(1)} s, a resume ${(resumeMs / 1000).toFixed(1)} s\n`)
  return {saveMs, resumeMs}
}
