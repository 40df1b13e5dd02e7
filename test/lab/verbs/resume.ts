// resume NAME: boots the same disks again and says whether the machine went on or started anew.
import {boot} from '../boot.js'
import {UsageError} from '../errors.js'
import type {Machine} from '../machine.js'
import {secondsSince, type Report} from './hibernate.js'

export type Expectation = 'resumed' | 'fresh'

const BOOT_PATIENCE_MS = 900_000

export interface ResumeOptions {
  readonly expect: Expectation
  readonly diesWithStarter: boolean
  /** More words for the kernel command line, such as 'noresume'. */
  readonly extra?: string
}

/** The agent that answers tells: one that was running before has its old identity. */
export async function resume(machine: Machine, options: ResumeOptions): Promise<Report> {
  using _held = await machine.lock()
  if (machine.isRunning)
    throw new UsageError(`Machine '${machine.name}' is up`)
  const state = machine.state
  const started = performance.now()
  const {identity, bootToUserMs} = await boot(machine, {...options, timeoutMs: BOOT_PATIENCE_MS})
  const seconds = secondsSince(started)
  const outcome: Expectation = identity === state.agentIdentity ? 'resumed' : 'fresh'
  machine.update({agentIdentity: identity})
  const isAsExpected = outcome === options.expect
  return {
    ok: isAsExpected,
    seconds,
    ...state.figures,
    bootToUserMs,
    reason: isAsExpected ? null
      : outcome === 'fresh' ? 'The machine started anew instead of going on' : 'The machine went on instead of starting anew'
  }
}
