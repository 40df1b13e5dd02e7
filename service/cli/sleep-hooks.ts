import {spawn} from 'node:child_process'
import {accessSync, constants, readdirSync, realpathSync} from 'node:fs'
import path from 'node:path'

/** Where systemd-sleep 252 looks for them: SYSTEM_SLEEP_PATH of its build. */
export const HOOK_DIRECTORIES: readonly string[] = ['/usr/lib/systemd/system-sleep']

export interface HookRun {
  readonly phase: 'pre' | 'post'
  readonly directories?: readonly string[]
  /** As systemd's DEFAULT_TIMEOUT_USEC. */
  readonly timeoutMs?: number
  /** Hears of hooks that fail or are slow; neither stops the hibernation. */
  readonly onComplaint: (sentence: string) => void
}

/** Longer than this and the person waiting wants to know for whom. */
const SLOW_MS = 5000

/** Runs all hooks at once, as systemd-sleep does, and ends when the last of them has. */
export async function runSleepHooks(run: HookRun): Promise<void> {
  const directories = run.directories ?? HOOK_DIRECTORIES
  await Promise.all(findHooks(directories).map(async (hook) => await runHook(hook, run)))
}

/** By name; one of a later directory replaces its namesake, /dev/null masks it. */
function findHooks(directories: readonly string[]): readonly string[] {
  const byName = new Map<string, string>()
  for (const directory of directories) {
    for (const name of namesIn(directory)) byName.set(name, path.join(directory, name))
  }
  return [...byName.values()].filter(isExecutable).sort()
}

async function runHook(hook: string, {phase, timeoutMs = 90_000, onComplaint}: HookRun): Promise<void> {
  const start = performance.now()
  const ending = await new Promise<string | null>((resolve) => {
    const child = spawn(hook, [phase, 'hibernate'], {
      env: {...process.env, SYSTEMD_SLEEP_ACTION: 'hibernate'},
      stdio: ['ignore', 'inherit', 'inherit'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    })
    child.once('error', (error) => resolve(error.message))
    child.once('exit', (code, signal) => resolve(code === 0 ? null : `it ended with ${code ?? signal ?? 'nothing'}`))
  })
  const seconds = Math.round((performance.now() - start) / 1000)
  if (ending !== null) onComplaint(`Cannot run hook '${hook}' to its end: ${ending}, ignoring`)
  else if (seconds * 1000 >= SLOW_MS) onComplaint(`Hook '${hook}' delayed hibernation by ${seconds} s`)
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory).filter((name) => !name.startsWith('.') && !name.endsWith('~'))
  } catch {
    return [] // No directory, no hooks.
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return realpathSync(file) !== '/dev/null'
  } catch {
    return false
  }
}
