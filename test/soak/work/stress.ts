// Programs that work as hard as they are let, and check all they do: stress-ng and fio.
import {attemptInside, inside} from '../../lab/execute.js'
import type {Machine} from '../../lab/machine.js'
import {waitFor} from '../../lab/workload.js'
import {complaintsAboutUnit, startUnit, stateOfUnit, wordsOfUnit, type Work} from './work.js'

const STRESSORS = ['vm', 'pipe', 'futex', 'timer', 'aio']
const FILE_MIB = 24

/** The other works must come to something, too. */
const IN_THE_BACKGROUND = ['Nice=10', 'CPUWeight=2']

/** So much processor time after a resume before the verdict is asked for. */
const WORKED_SECONDS = 2

export const STRESS_NG: Work = untilAsked({
  title: 'stress-ng --verify',
  packages: ['stress-ng'],
  unit: 'soak-stress',
  argv: [
    'stress-ng', ...STRESSORS.flatMap(stressor => [`--${stressor}`, '1']), '--vm-bytes', '48M', '--vm-method', 'all',
    '--timer-freq', '1000', '--verify', '--metrics-brief', '--timeout', '0'
  ],
  judge: (status, words) => [
    ...(status === 0 ? [] : [`it ended with ${status}: ${words}`]),
    ...STRESSORS.filter(stressor => !hasWorked(stressor, words)).map(stressor => `'${stressor}' has done nothing: ${words}`)
  ]
})

/** The table of --metrics-brief: a stressor and how much it has done. */
function hasWorked(stressor: string, words: string): boolean {
  return Number(new RegExp(`\\] ${stressor} +(\\d+) `).exec(words)?.[1] ?? 0) > 0
}

export const FIO: Work = untilAsked({
  title: 'fio with verify',
  packages: ['fio'],
  unit: 'soak-fio',
  argv: [
    'fio', '--name=soak', '--filename=/mnt/data/fio', `--size=${FILE_MIB}M`, '--rw=randwrite', '--bs=4k', '--ioengine=libaio', '--direct=1',
    '--iodepth=4', '--verify=crc32c', '--verify_backlog=64', '--verify_fatal=1', '--time_based', '--runtime=100000000',
    '--rate_iops=100', '--eta=never', '--output-format=terse', '--terse-version=3'
  ],
  judge: (status, words) => judgeFio(status, words)
})

/** Fields of the terse format, version 3, of fio(1). */
const TERSE_ERROR = 4
const TERSE_READ_KIB = 5
const TERSE_WRITE_KIB = 46

/** It ends with 128 when a signal ended it, whatever it found. */
function judgeFio(status: number, words: string): string[] {
  const fields = words.split('\n').find(line => line.startsWith('3;'))?.split(';') ?? []
  const number = (position: number) => Number(fields[position] ?? NaN)
  const isRight = [0, 128].includes(status) && number(TERSE_ERROR) === 0 && number(TERSE_READ_KIB) > 0 && number(TERSE_WRITE_KIB) > 0
  return isRight ? [] : [`it ended with ${status}: ${words}`]
}

interface Program {
  readonly title: string
  readonly packages: readonly string[]
  readonly unit: string
  readonly argv: readonly string[]
  /** Of its exit status, and what it has said. */
  readonly judge: (status: number, words: string) => string[]
}

/** A program that tells what it has found when it is interrupted: it works over the hibernation, and a new one begins after it. */
function untilAsked({title, packages, unit, argv, judge}: Program): Work {
  const start = async (machine: Machine) => {
    await startUnit(machine, {unit, properties: [...IN_THE_BACKGROUND, 'WorkingDirectory=/var/tmp'], argv})
  }
  return {
    title,
    packages,
    // A new one begins after each verdict, with a weight of its own.
    units: [],
    start,
    watch: async machine => {
      const before = await stateOfUnit(machine, unit)
      return async resumed => {
        const after = await stateOfUnit(resumed, unit)
        const complaints = complaintsAboutUnit(unit, before, after)
        if (complaints.length > 0)
          return [...complaints, await wordsOfUnit(resumed, unit)]
        await hasWorkedFor(resumed, unit, after.cpuSeconds + WORKED_SECONDS)
        const verdict = judge(...await interrupt(resumed, unit))
        await start(resumed)
        return verdict
      }
    }
  }
}

async function hasWorkedFor(machine: Machine, unit: string, cpuSeconds: number): Promise<void> {
  const nanoseconds = Math.round(cpuSeconds * 1e9)
  await waitFor(machine, `[ "$(systemctl show --property=CPUUsageNSec --value ${unit})" -gt ${nanoseconds} ]`)
}

async function interrupt(machine: Machine, unit: string): Promise<[number, string]> {
  const invocation = (await inside(machine, ['systemctl', 'show', '--property=InvocationID', '--value', unit])).trim()
  await attemptInside(machine, ['systemctl', 'kill', '--kill-whom=main', '--signal=INT', unit])
  await waitFor(machine, `[ "$(systemctl show --property=SubState --value ${unit})" != running ]`)
  const {exitStatus} = await stateOfUnit(machine, unit)
  await inside(machine, ['journalctl', '--sync'])
  const words = await inside(machine, ['journalctl', '--quiet', '--no-pager', '--output=cat', `_SYSTEMD_INVOCATION_ID=${invocation}`])
  return [exitStatus, words.trim()]
}

export const STRESS: readonly Work[] = [STRESS_NG, FIO]
