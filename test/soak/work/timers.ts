// Clocks and timers: what is left of them must be right.
import type {Machine} from '../../lab/machine.js'
import {askPayload, startTellingPayload} from '../../lab/workload.js'
import type {Off, Work} from './work.js'

/** Between two readings that are to be of one instant; on the usual kernel, see Machine.slowness. */
const READING_MS = 100
/** The clock that a machine finds when it is switched on counts whole seconds. */
const HARDWARE_CLOCK_MS = 2500
/** From the power on to the first answer is no time of the machine's, but for the last part of it; on the usual kernel. */
const AWAKE_BEFORE_ANSWER_MS = 5000

export const TIMERS: Work = {
  title: 'timers',
  packages: [],
  units: ['timers'],
  start: async machine => { await startTellingPayload(machine, 'timers', 'timers') },
  watch: async machine => {
    const before = await readTimers(machine)
    return async (resumed, off) => judgeTimers(before, await readTimers(resumed), off, resumed.slowness)
  }
}

export interface Reading {
  /** By the host's performance.now(), when the answer came. */
  readonly atMs: number
  /** How long that took: at some time in between the clocks were read. */
  readonly tookMs: number
  readonly fields: Readonly<Record<string, number>>
}

async function readTimers(machine: Machine): Promise<Reading> {
  const startedMs = performance.now()
  const fields = await askPayload(machine, 'timers')
  const atMs = performance.now()
  return {atMs, tookMs: atMs - startedMs, fields}
}

/** What does not hold of two readings with a time without power in between. */
export function judgeTimers(before: Reading, after: Reading, off: Off, slowness: number): string[] {
  const passedMs = (name: string) => ((after.fields[name] ?? NaN) - (before.fields[name] ?? NaN)) / 1000
  const hostMs = after.atMs - before.atMs
  const readingMs = READING_MS * slowness
  const hostReadingMs = HARDWARE_CLOCK_MS + readingMs + before.tookMs + after.tookMs
  const mostAwakeMs = hostMs - (off.untilMs - off.fromMs) + AWAKE_BEFORE_ANSWER_MS * slowness + before.tookMs
  const isNear = (one: number, other: number, by: number) => Math.abs(one - other) <= by
  const checks: Readonly<Record<string, boolean>> = {
    'CLOCK_MONOTONIC ran while the machine was off': passedMs('monotonic') <= mostAwakeMs,
    'CLOCK_BOOTTIME did not go on': isNear(passedMs('boottime'), hostMs, hostReadingMs),
    'CLOCK_REALTIME did not go on': isNear(passedMs('realtime'), hostMs, hostReadingMs),
    'what is left of a timer on CLOCK_MONOTONIC is wrong': isNear(-passedMs('left_monotonic'), passedMs('monotonic'), readingMs),
    'what is left of a timer on CLOCK_BOOTTIME is wrong': isNear(-passedMs('left_boottime'), passedMs('boottime'), readingMs),
    'a sleep was too short': after.fields['early'] === 0,
    'no sleep has ended': passedMs('slept') > 0
  }
  const figures = `host ${Math.round(hostMs)} ms, ${JSON.stringify(before.fields)}, ${JSON.stringify(after.fields)}`
  return Object.entries(checks).filter(([, holds]) => !holds).map(([complaint]) => `${complaint}: ${figures}`)
}
