// soak faults: all fault points in one machine; those of the resumed system at the end, with a power-off each.
import {attemptInside} from '../lab/execute.js'
import {fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {down} from '../lab/verbs/down.js'
import {secondsSince} from '../lab/verbs/hibernate.js'
import {holdMemory, kernelLogOf, kernelTrouble} from '../lab/workload.js'
import {CASES_AFTER_RESUME, CASES_HERE, provoke, provokeAfterResume, titleOf, WITNESS} from './fault-cases.js'
import {countEnds, type Failure, type Outcome} from './outcome.js'

export async function runFaults(): Promise<Outcome> {
  const started = performance.now()
  await using machine = await scratchMachine('soak-faults', {memoryMib: 512})
  await holdMemory(machine, WITNESS, 40)
  const failures: Failure[] = []
  const ends: string[] = []
  const note = (title: string, complaints: readonly string[]) => {
    process.stdout.write(`${complaints.length === 0 ? 'ok' : 'FAILED'}: ${title}\n`)
    ends.push(complaints.length === 0 ? 'as before' : 'otherwise')
    if (complaints.length > 0)
      failures.push({title, complaints})
  }
  for (const fault of CASES_HERE)
    note(titleOf(fault), await provoke(machine, fault))
  for (const fault of CASES_AFTER_RESUME)
    note(titleOf(fault), await provokeAfterResume(machine, fault))
  note('the file system is clean and the kernel has not complained', await lookAtTheEnd(machine))
  return {experiment: 'faults', seed: null, tried: ends.length, failures, ends: countEnds(ends), seconds: Math.round(secondsSince(started))}
}

async function lookAtTheEnd(machine: ScratchMachine): Promise<string[]> {
  const trouble = [...kernelTrouble(machine.consoleText()), ...kernelTrouble(await kernelLogOf(machine))]
  await attemptInside(machine, ['sync'])
  await down(machine, {isWiped: false})
  const root = machine.state.disks.find(disk => disk.role === 'root')
  const check = root === undefined ? {isClean: false, output: 'no root disk'} : await fsck(root)
  return check.isClean ? trouble : [...trouble, check.output]
}
