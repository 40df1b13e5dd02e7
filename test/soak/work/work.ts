// What runs in a machine over many hibernations, and what must be true of it after each.
import {attemptInside, inside} from '../../lab/execute.js'
import type {Machine} from '../../lab/machine.js'

export interface Work {
  readonly title: string
  /** Debian packages it needs in the machine. */
  readonly packages: readonly string[]
  /** Services of the machine that are there once it has been started, and as long as the machine is. */
  readonly units: readonly string[]
  readonly start: (machine: Machine) => Promise<void>
  /** Takes down what is to be compared after the resume; what it gives says then what does not hold. */
  readonly watch: (machine: Machine) => Promise<Judge>
}

/** Of processor time, where everybody else has 100: who saves the machine, and who asks how the work is, come first. */
const WORK_WEIGHT = 10

export async function startWork(machine: Machine, work: Work): Promise<void> {
  await work.start(machine)
  for (const unit of work.units)
    await inside(machine, ['systemctl', 'set-property', '--runtime', `${unit}.service`, `CPUWeight=${WORK_WEIGHT}`])
}

export type Judge = (machine: Machine, off: Off) => Promise<string[]>

/** When the machine had no power, by performance.now(). */
export interface Off {
  readonly fromMs: number
  readonly untilMs: number
}

export interface UnitRequest {
  readonly unit: string
  readonly properties?: readonly string[]
  readonly argv: readonly string[]
}

/** A service of the machine that leaves its exit status to be read when it ends. */
export async function startUnit(machine: Machine, {unit, properties = [], argv}: UnitRequest): Promise<void> {
  await attemptInside(machine, ['systemctl', 'stop', unit])
  await attemptInside(machine, ['systemctl', 'reset-failed', unit])
  await inside(machine, [
    'systemd-run', '--quiet', `--unit=${unit}`, '--property=RemainAfterExit=yes',
    ...properties.map(property => `--property=${property}`), '--', ...argv
  ])
}

export interface UnitState {
  /** 0 when it has ended. */
  readonly pid: number
  readonly subState: string
  readonly exitStatus: number
  /** Processor time of all its processes. */
  readonly cpuSeconds: number
}

export async function stateOfUnit(machine: Machine, unit: string): Promise<UnitState> {
  const shown = await inside(machine, ['systemctl', 'show', '--property=MainPID,SubState,ExecMainStatus,CPUUsageNSec', unit])
  const field = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(shown)?.[1] ?? ''
  return {
    pid: Number(field('MainPID')),
    subState: field('SubState'),
    exitStatus: Number(field('ExecMainStatus')),
    cpuSeconds: Number(field('CPUUsageNSec')) / 1e9
  }
}

/** Complaints about a unit that must have gone on as the process it was. */
export function complaintsAboutUnit(unit: string, before: UnitState, after: UnitState): string[] {
  if (after.subState === 'running' && after.pid === before.pid)
    return []
  return [`'${unit}' was process ${before.pid} and is ${after.pid}, ${after.subState}, exit status ${after.exitStatus}`]
}

/** What the unit has said, its last lines. */
export async function wordsOfUnit(machine: Machine, unit: string): Promise<string> {
  return (await inside(machine, ['journalctl', '--quiet', '--no-pager', '--output=cat', '--lines=40', `--unit=${unit}`])).trim()
}
