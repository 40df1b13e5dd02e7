// Runs a command in a machine and gives all it printed.
import {MachineError} from './errors.js'
import type {CommandEnd} from './agent.js'
import type {Machine, RunOptions} from './machine.js'

export interface Outcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface ExecuteOptions extends RunOptions {
  readonly timeoutMs?: number
  /** See Command. */
  readonly graceMs?: number
}

/** On the usual kernel, see Machine.slowness. */
const DEFAULT_TIMEOUT_MS = 120_000

/** The exit status a shell would show: 124 for a time-out, as timeout(1) does, 128 + N for signal N. */
export function statusOf(end: CommandEnd): number {
  switch (end.kind) {
  case 'exited': return end.status
  case 'signalled': return 128 + end.signal
  case 'timed-out': return 124
  case 'not-started': return 126
  default: return end satisfies never
  }
}

/** Runs a command whose failure is an answer, too. */
export async function attemptInside(
  machine: Machine, argv: readonly string[], options: ExecuteOptions = {}
): Promise<Outcome> {
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  const end = await machine.run({
    argv,
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS * machine.slowness,
    graceMs: options.graceMs,
    onOutput: bytes => { stdout.push(bytes) },
    onErrorOutput: bytes => { stderr.push(bytes) }
  }, options)
  return {
    status: statusOf(end),
    stdout: Buffer.concat(stdout).toString('utf8'),
    stderr: Buffer.concat(stderr).toString('utf8')
  }
}

/** Runs a command that must succeed and gives its standard output. */
export async function inside(machine: Machine, argv: readonly string[], options: ExecuteOptions = {}): Promise<string> {
  const outcome = await attemptInside(machine, argv, options)
  if (outcome.status !== 0) {
    const output = (outcome.stderr + outcome.stdout).trim()
    throw new MachineError(`'${argv.join(' ')}' in '${machine.name}' ended with ${outcome.status}: ${output}`)
  }
  return outcome.stdout
}

/** A shell script that must succeed; words follow as "$1", "$2", …. */
export async function insideShell(machine: Machine, script: string, ...words: string[]): Promise<string> {
  return await inside(machine, ['sh', '-euc', script, 'sh', ...words])
}
