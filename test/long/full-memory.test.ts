import test from 'ava'
import {scratchMachine} from '../lab/scratch.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, holdMemoryUpTo, kernelLogOf, kernelTrouble, memoryComplaints, settle, usedShare} from '../lab/workload.js'

/** What is in memory is stored in some half of its size; the rest is for what is written meanwhile. */
const SPARE_BYTES = 4 * 2 ** 30

for (const {mib, share} of [{mib: 1024, share: 0.92}, {mib: 4096, share: 0.95}])
  test.serial(`with ${share * 100} % of ${mib} MiB in use, and no swap, it goes on where it was`, async t => {
    await using machine = await scratchMachine(`full-${mib}`, {memoryMib: mib, spareBytes: SPARE_BYTES})
    await settle(machine)
    await holdMemoryUpTo(machine, 'most', share - 0.02)
    // What was available shrinks and grows with caches: the rest in a second step.
    await holdMemoryUpTo(machine, 'rest', share + 0.02)
    const used = await usedShare(machine)
    t.log(`${used} of the memory is used`)
    t.true(used >= share)
    const before = [await checkMemory(machine, 'most'), await checkMemory(machine, 'rest')] as const
    const saved = await hibernate(machine, 'systemctl')
    t.true(saved.ok, saved.reason ?? '')
    t.log(`${saved.pagesCopied ?? ''} pages copied, ${saved.pagesInPlace ?? ''} in place`)
    const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
    t.true(resumed.ok, resumed.reason ?? '')
    t.deepEqual([...await memoryComplaints(machine, 'most', before[0]), ...await memoryComplaints(machine, 'rest', before[1])], [])
    t.deepEqual([...kernelTrouble(machine.consoleText()), ...kernelTrouble(await kernelLogOf(machine))], [])
  })
