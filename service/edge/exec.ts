import {spawn} from 'node:child_process'
import {CommandError} from '../errors.js'

export interface ExecOptions {
  /** Given to the program's standard input. */
  readonly input?: string
  readonly timeoutMs?: number
  /** Exit statuses that are no failure; 0 alone where nothing is said. */
  readonly accept?: readonly number[]
}

export interface ExecResult {
  readonly exitStatus: number
  readonly output: string
}

/**
 * Runs a program, never a shell, and gives what it printed. Throws CommandError when it cannot
 * be started, ends otherwise than accepted, or takes too long; then it has been killed.
 */
export type Exec = (program: string, parameters: readonly string[], options?: ExecOptions) => Promise<ExecResult>

/** What any of our programs needs of an environment: messages in English, tools where Debian has them. */
const ENVIRONMENT = {LC_ALL: 'C', PATH: '/usr/sbin:/usr/bin:/sbin:/bin'}
/** Generous for a machine under software emulation; no program we run waits for another. */
const DEFAULT_TIMEOUT_MS = 30_000

export const exec: Exec = (program, parameters, options = {}) =>
  new Promise((resolve, reject) => {
    const {input = '', timeoutMs = DEFAULT_TIMEOUT_MS, accept = [0]} = options
    const command = [program, ...parameters].join(' ')
    const child = spawn(program, parameters, {env: ENVIRONMENT, stdio: ['pipe', 'pipe', 'pipe']})
    const deadline = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
    const output = collect(child.stdout)
    const complaints = collect(child.stderr)
    child.stdin.on('error', () => {
      // It ended without reading its input; its exit status tells more.
    })
    child.stdin.end(input)
    child.once('error', (error) => {
      clearTimeout(deadline)
      reject(new CommandError(command, 'no start', error.message))
    })
    child.once('close', (exitStatus, signal) => {
      clearTimeout(deadline)
      if (exitStatus !== null && accept.includes(exitStatus)) resolve({exitStatus, output: output()})
      else reject(new CommandError(command, exitStatus ?? describeSignal(signal, timeoutMs), complaints() || output()))
    })
  })

function collect(stream: NodeJS.ReadableStream): () => string {
  let text = ''
  stream.setEncoding('utf8')
  stream.on('data', (piece: string) => {
    text += piece
  })
  return () => text
}

function describeSignal(signal: NodeJS.Signals | null, timeoutMs: number): string {
  return signal === 'SIGKILL' ? `SIGKILL, as after its ${timeoutMs / 1000} s` : String(signal)
}
