import {type BigIntStats, readdirSync, readFileSync, statSync} from 'node:fs'
import {setTimeout as delay} from 'node:timers/promises'

/** A process, told from a later one of the same number by when it was started. */
export interface Consumer {
  readonly pid: number
  readonly startTime: string
}

const POLL_MS = 50
const START_MS = 2000
const STANDARD_OUTPUT = 1
const STANDARD_ERROR = 2

/**
 * Whoever reads what goes to our standard output, and whoever reads what those write to theirs, and so on: the rest of
 * the pipeline. Who started us is none of it, nor is a pipe they have, such as that of a log around everything: they wait
 * for us.
 */
export function findConsumers(pid = process.pid): readonly Consumer[] {
  const processes = listProcesses()
  const ancestors = ancestorsOf(pid)
  const ours = new Set(ancestors.flatMap((each) => pipesOf(each).map(({key}) => key)))
  const found = new Map<number, Consumer>()
  const own = pipesOf(pid).find(({fd}) => fd === STANDARD_OUTPUT)
  const waiting = own === undefined ? [] : [own.key]
  const seen = new Set([...ours, ...waiting])
  for (let key = waiting.shift(); key !== undefined; key = waiting.shift()) {
    for (const reader of processes) {
      if (reader === pid || ancestors.includes(reader) || found.has(reader) || !pipesOf(reader).some((pipe) => pipe.key === key && pipe.isRead)) continue
      const startTime = startTimeOf(reader)
      if (startTime === null) continue
      found.set(reader, {pid: reader, startTime})
      const next = pipesOf(reader).find(({fd, isRead}) => fd === STANDARD_OUTPUT && !isRead)
      if (next === undefined || seen.has(next.key)) continue
      seen.add(next.key)
      waiting.push(next.key)
    }
  }
  return [...found.values()]
}

/** As findConsumers(), where a shell may still be starting the rest of a pipeline. */
export async function awaitConsumers(): Promise<readonly Consumer[]> {
  const deadlineMs = performance.now() + START_MS
  let found = findConsumers()
  while (found.length === 0 && performance.now() < deadlineMs) {
    await delay(POLL_MS)
    found = findConsumers()
  }
  return found
}

/** Polls, since only a parent is told of an end; a zombie has ended. */
export async function consumersEnded(consumers: readonly Consumer[]): Promise<void> {
  while (consumers.some(({pid, startTime}) => startTimeOf(pid) === startTime)) await delay(POLL_MS)
}

interface Pipe {
  readonly fd: number
  /** The same for both ends, and for a FIFO of whatever name. */
  readonly key: string
  readonly isRead: boolean
}

function pipesOf(pid: number): readonly Pipe[] {
  return attempt(() => readdirSync(`/proc/${pid}/fd`), []).flatMap((name): readonly Pipe[] => {
    const status = attempt<BigIntStats | null>(() => statSync(`/proc/${pid}/fd/${name}`, {bigint: true}), null)
    if (status === null || !status.isFIFO()) return []
    const flags = /^flags:\s*([0-7]+)$/m.exec(attempt(() => readFileSync(`/proc/${pid}/fdinfo/${name}`, 'utf8'), ''))?.[1] ?? '1'
    // fcntl(2): the last two bits are the mode of access, 0 for reading only.
    return [{fd: Number(name), key: `${status.dev}:${status.ino}`, isRead: Number.parseInt(flags, 8) % 4 === 0}]
  })
}

/** Whether who started us has the same on his standard output or error output: then it is a log around everything. */
export function isLogAround(path: string, pid = process.pid): boolean {
  const status = attempt<BigIntStats | null>(() => statSync(path, {bigint: true}), null)
  return status !== null && ancestorsOf(pid).some((ancestor) => [STANDARD_OUTPUT, STANDARD_ERROR].some((fd) => {
    const other = attempt<BigIntStats | null>(() => statSync(`/proc/${ancestor}/fd/${fd}`, {bigint: true}), null)
    return other !== null && other.dev === status.dev && other.ino === status.ino
  }))
}

function ancestorsOf(pid: number): readonly number[] {
  const parent = Number(statFields(pid)[PARENT] ?? 0)
  return parent <= 0 ? [] : [parent, ...ancestorsOf(parent)]
}

function listProcesses(): readonly number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number)
}

// proc_pid_stat(5), counted from the field behind the name in brackets.
const STATE = 0
const PARENT = 1
const START_TIME = 19

/** Null when the process has ended. */
function startTimeOf(pid: number): string | null {
  const fields = statFields(pid)
  const state = fields[STATE]
  return state === undefined || state === 'Z' || state === 'X' ? null : fields[START_TIME] ?? null
}

function statFields(pid: number): readonly string[] {
  const text = attempt(() => readFileSync(`/proc/${pid}/stat`, 'utf8'), '')
  return text === '' ? [] : text.slice(text.lastIndexOf(')') + 2).split(' ')
}

/** A process may end while it is looked at. */
function attempt<Value>(look: () => Value, otherwise: Value): Value {
  try {
    return look()
  } catch {
    return otherwise
  }
}
