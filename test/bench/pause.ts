// npm run bench:pause: how long no user process runs at a snapshot, by memory in use, number of processes and of CPUs.
import {setTimeout as delay} from 'node:timers/promises'
import {parseArgs} from 'node:util'
import {LaboratoryError, MachineError, messageOf, UsageError} from '../lab/errors.js'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import type {Machine} from '../lab/machine.js'
import {say} from '../lab/say.js'
import {scratchMachine} from '../lab/scratch.js'
import {reap} from '../lab/verbs/down.js'
import {checkMemory, endPayload, holdMemory, settle, startTellingPayload} from '../lab/workload.js'
import {numberFrom} from './options.js'
import {millisecondsIn} from './phases.js'
import {median} from './summary.js'

const MEMORY_MIB = 1024
const ROUNDS = 3
const PERCENTS = [25, 50, 75, 92]
const PROCESSES = [10, 100, 1000]
const CPUS = [1, 2, 4, 8]
/** How much of memory is held while the number of processes, or of CPUs, is what changes. */
const PERCENT_OF_OTHERS = 25
const UNIT = 'pause'
/** Of the last attempt, in nanoseconds and pages. */
const FIGURES = ['pause_ns', 'suspend_dm_ns', 'protect_ns', 'copy_ns', 'pages_in_place', 'pages_copied'] as const

/** What the kernel tells a trace when it takes a CPU away and when it brings it back: kernel/cpu.c. */
const UNPLUGGING = ['CPU_OFF', 'CPU_ON']
const TRACING = '/sys/kernel/tracing'

/** With the milliseconds in which CPUs were unplugged and plugged in again. */
type Figures = Readonly<Record<typeof FIGURES[number] | 'cpus_ms', number>>

interface Row {
  readonly percentInUse: number
  readonly processes: number
  readonly cpus: number
  /** Medians; null when there was no snapshot. */
  readonly figures: Figures | null
  readonly refusal: string | null
}

async function main(memoryMib: number, rounds: number, isJson: boolean): Promise<void> {
  await reap()
  const rows = await measureLoads(memoryMib, rounds)
  for (const cpus of CPUS)
    rows.push(await measureCpus({memoryMib, cpus}, rounds))
  process.stdout.write(isJson ? `${JSON.stringify({memoryMib, rounds, rows})}\n` : `${memoryMib} MiB, medians of ${rounds} snapshots\n${tableOf(rows)}\n`)
}

async function measureLoads(memoryMib: number, rounds: number): Promise<Row[]> {
  await using machine = await scratchMachine('pause', {memoryMib})
  const rows: Row[] = []
  for (const percent of PERCENTS)
    rows.push(await measureHeld(machine, percent, rounds))
  for (const processes of PROCESSES)
    rows.push(await measureProcesses(machine, processes, rounds))
  return rows
}

async function measureCpus(size: {readonly memoryMib: number, readonly cpus: number}, rounds: number): Promise<Row> {
  await using machine = await scratchMachine('pause', size)
  return await measureHeld(machine, PERCENT_OF_OTHERS, rounds)
}

async function measureHeld(machine: Machine, percent: number, rounds: number): Promise<Row> {
  await hold(machine, percent)
  const row = await measure(machine, rounds)
  const {badPages} = await checkMemory(machine, UNIT)
  if (badPages !== 0)
    throw new MachineError(`${badPages} pages are wrong after the snapshots at ${percent} %`)
  return row
}

async function measureProcesses(machine: Machine, processes: number, rounds: number): Promise<Row> {
  await hold(machine, PERCENT_OF_OTHERS)
  await endPayload(machine, 'sleepers')
  await startTellingPayload(machine, 'sleepers', 'sleepers', String(processes))
  const row = await measure(machine, rounds)
  await endPayload(machine, 'sleepers')
  return row
}

/** Has so many percent of memory in use, with what the system itself takes. */
async function hold(machine: Machine, percent: number): Promise<void> {
  await endPayload(machine, UNIT)
  await settle(machine)
  const {total, available} = await memoryOf(machine)
  await holdMemory(machine, UNIT, Math.max(1, Math.round((available - total * (100 - percent) / 100) / 1024)))
}

/** Snapshots of the machine, which goes on after each. */
async function measure(machine: Machine, rounds: number): Promise<Row> {
  const {total, available} = await memoryOf(machine)
  const processes = Number(await insideShell(machine, 'ls -d /proc/[0-9]*/exe | xargs -n 1 readlink 2> /dev/null | wc -l'))
  const percentInUse = Math.round(100 - available * 100 / total)
  const cpus = Number(await inside(machine, ['nproc', '--all']))
  const each: Figures[] = []
  for (let round = 1; round <= rounds; round++) {
    await insideShell(machine, `cd ${TRACING}; echo > trace; echo 1 > events/power/suspend_resume/enable`)
    const {status, stderr} = await attemptInside(machine, ['bash', '-c', 'set -o pipefail; permafrost snapshot --to - --then merge | cat > /dev/null'], {timeoutMs: 300_000})
    if (status !== 0)
      return {percentInUse, processes, cpus, figures: null, refusal: stderr.trim()}
    const figures = await lastFigures(machine)
    say(`${percentInUse} % in use, ${processes} processes, ${cpus} CPUs: ${JSON.stringify(figures)}`)
    each.push(figures)
    // What the snapshot made copies of is given back first.
    await delay(1000)
  }
  const names = [...FIGURES, 'cpus_ms'] as const
  const medianOf = (name: typeof names[number]): number => median(each.map(figures => figures[name])) ?? 0
  return {percentInUse, processes, cpus, figures: Object.fromEntries(names.map(name => [name, medianOf(name)])) as Figures, refusal: null}
}

async function lastFigures(machine: Machine): Promise<Figures> {
  const answer: unknown = JSON.parse(await inside(machine, ['permafrost', 'status', '--last', '--json']))
  const figures: unknown = Reflect.get(Object(Reflect.get(Object(answer), 'last')), 'figures')
  const pairs = FIGURES.map((name): readonly [string, number] => {
    const value: unknown = Reflect.get(Object(figures), name)
    if (typeof value !== 'number')
      throw new MachineError(`The journal does not say '${name}' of the last attempt`)
    return [name, value]
  })
  const cpus_ms = millisecondsIn(await inside(machine, ['cat', `${TRACING}/trace`]), UNPLUGGING)
  return {...Object.fromEntries(pairs), cpus_ms} as Figures
}

/** In KiB: proc(5), /proc/meminfo. */
async function memoryOf(machine: Machine): Promise<{readonly total: number, readonly available: number}> {
  const text = await inside(machine, ['cat', '/proc/meminfo'])
  const field = (name: string): number => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1])
  return {total: field('MemTotal'), available: field('MemAvailable')}
}

const HEADINGS = ['in use [%]', 'processes', 'CPUs', 'pause [ms]', 'file systems [ms]', 'protect [ms]', 'copy [ms]', 'unplugging [ms]', 'in place [MiB]', 'copied [MiB]']

function tableOf(rows: readonly Row[]): string {
  const cells = rows.map(({percentInUse, processes, cpus, figures, refusal}) => [
    percentInUse, processes, cpus, ...figures === null ? [refusal ?? ''] : [
      milliseconds(figures.pause_ns), milliseconds(figures.suspend_dm_ns), milliseconds(figures.protect_ns), milliseconds(figures.copy_ns),
      Math.round(figures.cpus_ms), mebibytes(figures.pages_in_place), mebibytes(figures.pages_copied)
    ]
  ].map(String))
  return [HEADINGS, HEADINGS.map(() => '---'), ...cells].map(row => `| ${row.join(' | ')} |`).join('\n')
}

function milliseconds(nanoseconds: number): number {
  return Math.round(nanoseconds / 1e6)
}

function mebibytes(pages: number): number {
  return Math.round(pages * 4096 / 2 ** 20)
}

try {
  const {values} = parseArgs({
    args: process.argv.slice(2),
    options: {json: {type: 'boolean', default: false}, rounds: {type: 'string', default: String(ROUNDS)}, memory: {type: 'string', default: String(MEMORY_MIB)}}
  })
  await main(numberFrom(values.memory, '--memory'), numberFrom(values.rounds, '--rounds'), values.json)
} catch (thrown) {
  process.stderr.write(`bench:pause: ${messageOf(thrown)}\n`)
  process.exitCode = thrown instanceof UsageError ? 2 : thrown instanceof LaboratoryError ? 3 : 1
}
