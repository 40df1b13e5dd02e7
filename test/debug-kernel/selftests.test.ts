import test from 'ava'
import {inside} from '../lab/execute.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {allSelftests, provideSelftests, SCRATCH_DISK, SelftestRunner} from '../lab/selftests.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, holdMemory, kernelLogOf, kernelTrouble, memoryComplaints} from '../lab/workload.js'
import {declareSelftests} from '../lib/declare-selftests.js'

/** Freed pages are filled and checked only when it says so: Documentation/admin-guide/kernel-parameters.txt. */
const PAGE_POISONING = 'page_poison=1'

/** KASAN's shadow and red zones make the kernel itself so large that an image of it would not fit beside it in 1 GiB. */
const MEMORY_MIB = 1536

let machine: ScratchMachine
let selftests: SelftestRunner

test.before(async () => {
  await provideSelftests()
  machine = await scratchMachine('debug-kernel', {isDebug: true, memoryMib: MEMORY_MIB, disks: [SCRATCH_DISK], extra: PAGE_POISONING})
  selftests = new SelftestRunner(machine)
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

declareSelftests(allSelftests(), () => selftests)

test.serial('goes on where it was on the debugging kernel', async t => {
  await holdMemory(machine, 'hold', 30)
  const before = await checkMemory(machine, 'hold')
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true, extra: PAGE_POISONING})
  t.true(resumed.ok, resumed.reason ?? '')
  t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
})

test.serial('the checks of the debugging kernel were on until the end', async t => {
  const lockdep = await inside(machine, ['cat', '/proc/lockdep_stats'])
  t.regex(lockdep, /debug_locks:\s+1$/m)
  t.regex(await inside(machine, ['zcat', '/proc/config.gz']), /^CONFIG_KASAN=y$/m)
})

test.serial('the debugging kernel has not complained', async t => {
  // The selftest of the check changes pages itself, and looks whether others have been reported. The kernel's own log is of what
  // came after it: selftests behind it clear that.
  const ofCheck = selftests.consoleDuring('snapshot_kernel', 'check').split('\n').filter(line => /has changed while it was in place/.test(line))
  t.true(ofCheck.length > 0)
  const onConsole = kernelTrouble(machine.consoleText()).filter(line => !ofCheck.includes(line))
  t.deepEqual([...onConsole, ...kernelTrouble(await kernelLogOf(machine))], [])
})
