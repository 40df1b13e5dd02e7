// soak cycles: one machine that works all the time, hibernated and resumed over and over, everything looked at after each.
import {messageOf} from '../lab/errors.js'
import {fsck, fsckFrozen} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {down} from '../lab/verbs/down.js'
import {hibernate, secondsSince} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {kernelLogOf, kernelTrouble} from '../lab/workload.js'
import type {Limit} from './limit.js'
import {countEnds, spreadsOf, type Failure, type Outcome} from './outcome.js'
import {DATABASES} from './work/databases.js'
import {PAYLOADS} from './work/payloads.js'
import {STRESS} from './work/stress.js'
import {TERMINAL} from './work/terminal.js'
import {TIMERS} from './work/timers.js'
import {startWork, type Judge, type Off, type Work} from './work/work.js'

interface Settings {
  readonly limit: Limit
  readonly isDebug: boolean
}

/** With the debugging kernel every object takes more. */
const MEMORY_MIB = 1024
const DEBUG_MEMORY_MIB = 1536

const WORKS: readonly Work[] = [...PAYLOADS, TIMERS, ...DATABASES, ...STRESS, TERMINAL]

/** Of one cycle, for the spread over all. */
type CycleFigures = Readonly<Record<'saveSeconds' | 'pauseMs' | 'storedMib' | 'resumeSeconds', number>>

export async function runCycles({limit, isDebug}: Settings): Promise<Outcome> {
  const started = performance.now()
  await using machine = await scratchMachine('soak-cycles', {
    memoryMib: isDebug ? DEBUG_MEMORY_MIB : MEMORY_MIB,
    disks: [{name: 'data', bytes: 2 ** 30, type: 'ext4'}],
    packages: WORKS.flatMap(({packages}) => packages),
    isDebug
  })
  for (const work of WORKS)
    await startWork(machine, work)
  const run = new Run(machine, limit.rounds)
  while (run.goesOn && !limit.isReached(run.ends.length))
    await run.cycle()
  await run.lookInto()
  return {
    experiment: 'cycles', seed: null, tried: run.ends.length, failures: run.failures, ends: countEnds(run.ends),
    seconds: Math.round(secondsSince(started)), figures: spreadsOf(run.figures)
  }
}

/** Cycles one after the other, and what they found. */
class Run {
  readonly failures: Failure[] = []
  readonly ends: string[] = []
  readonly figures: CycleFigures[] = []
  /** A machine that did not hibernate, or did not resume, ends the experiment. */
  goesOn = true
  readonly #machine: ScratchMachine
  readonly #rounds: number
  #troubleBefore = 0

  constructor(machine: ScratchMachine, rounds: number) {
    this.#machine = machine
    this.#rounds = rounds
  }

  async cycle(): Promise<void> {
    const name = `${this.ends.length + 1}/${this.#rounds}`
    const failuresBefore = this.failures.length
    try {
      const judges = await watchAll(this.#machine)
      const {off, figures} = await this.#hibernateAndResume()
      await this.#lookAt(judges, off)
      const failed = this.failures.slice(failuresBefore).map(({title}) => title)
      this.figures.push(figures)
      this.ends.push(failed.length === 0 ? 'full resume, all as it was' : 'full resume, not all as it was')
      const verdict = failed.length === 0 ? 'ok' : `FAILED (${failed.join(', ')})`
      const {saveSeconds, pauseMs, storedMib, resumeSeconds} = figures
      process.stdout.write(`${name} ${verdict}: save ${saveSeconds} s, pause ${pauseMs} ms, ${storedMib} MiB stored, resume ${resumeSeconds} s\n`)
    } catch (thrown) {
      this.goesOn = false
      this.ends.push('broken off')
      process.stdout.write(`${name} FAILED: ${messageOf(thrown)}\n`)
      this.failures.push({title: `cycle ${name}: broken off`, complaints: [messageOf(thrown), this.#machine.consoleOfLastBoot().slice(-4000)]})
    }
  }

  async #hibernateAndResume(): Promise<{off: Off, figures: CycleFigures}> {
    const machine = this.#machine
    const saved = await hibernate(machine, 'systemctl')
    const fromMs = performance.now()
    if (!saved.ok)
      throw new Error(`it did not hibernate: ${saved.reason ?? ''}`)
    await this.#checkDisks('while the machine was off', fsckFrozen)
    const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
    const untilMs = performance.now()
    if (!resumed.ok)
      throw new Error(`it did not resume: ${resumed.reason ?? ''}`)
    return {
      off: {fromMs, untilMs},
      figures: {
        saveSeconds: saved.seconds,
        pauseMs: saved.pauseMs ?? NaN,
        storedMib: Math.round((saved.storedBytes ?? NaN) / 2 ** 20),
        resumeSeconds: resumed.seconds
      }
    }
  }

  async #lookAt(judges: ReadonlyMap<string, Judge>, off: Off): Promise<void> {
    for (const [title, judge] of [...judges, ['kernel log', async () => await this.#newTrouble()] as const]) {
      const complaints = await judge(this.#machine, off).catch((thrown: unknown) => [messageOf(thrown)])
      if (complaints.length > 0)
        this.failures.push({title: `cycle ${this.ends.length + 1}: ${title}`, complaints})
    }
  }

  /** The kernel's own buffer goes on over the resume; the console has what the loader and the kernel that loads say. */
  async #newTrouble(): Promise<string[]> {
    const lines = kernelTrouble(await kernelLogOf(this.#machine))
    const before = this.#troubleBefore
    this.#troubleBefore = lines.length
    return [...lines.slice(before), ...kernelTrouble(this.#machine.consoleOfLastBoot())]
  }

  /** In the end, when the machine has been switched off in order. */
  async lookInto(): Promise<void> {
    if (this.#machine.isRunning)
      await down(this.#machine, {isWiped: false})
    await this.#checkDisks('in the end', fsck)
  }

  async #checkDisks(when: string, check: typeof fsck): Promise<void> {
    for (const disk of this.#machine.state.disks.filter(({role}) => role === 'root' || role === 'data')) {
      const result = await check(disk)
      if (!result.isClean)
        this.failures.push({title: `cycle ${this.ends.length + 1}: file system '${disk.name}' ${when}`, complaints: [result.output]})
    }
  }
}

async function watchAll(machine: ScratchMachine): Promise<Map<string, Judge>> {
  const judges = new Map<string, Judge>()
  for (const {title, watch} of WORKS)
    judges.set(title, await watch(machine))
  return judges
}
