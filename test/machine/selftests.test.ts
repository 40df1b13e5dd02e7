import test from 'ava'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {normalSelftests, provideSelftests, SCRATCH_DISK, SelftestRunner} from '../lab/selftests.js'
import {kernelLogOf, kernelTrouble} from '../lab/workload.js'
import {declareSelftests} from '../lib/declare-selftests.js'

let machine: ScratchMachine
let selftests: SelftestRunner

test.before(async () => {
  await provideSelftests()
  machine = await scratchMachine('selftests', {disks: [SCRATCH_DISK]})
  selftests = new SelftestRunner(machine)
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

declareSelftests(normalSelftests(), () => selftests)

test.serial('the kernel has not complained about the selftests', async t => {
  t.deepEqual([...kernelTrouble(machine.consoleText()), ...kernelTrouble(await kernelLogOf(machine))], [])
})
