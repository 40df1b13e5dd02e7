import test from 'ava'
import {inside, insideShell} from '../lab/execute.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {hibernate, type Via} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {
  checkDatabase, checkMemory, diaryComplaints, endPayload, holdMemory, holdMemoryUpTo, kernelLogOf, kernelTrouble, memoryComplaints,
  startDatabase, startPayload, usedShare
} from '../lab/workload.js'
import {casesOfRun} from '../lib/cases.js'

const DIARY = '/mnt/data/diary'
const DATABASE = '/var/lib/data.sqlite'
/** Bound to a processor that is taken down meanwhile, by its affinity and by a cpuset. */
const PINNED = 'pinned'

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('hibernate', {disks: [{name: 'data', bytes: 400 * 2 ** 20, type: 'xfs'}]})
  await startPayload(machine, 'diary', 'append', DIARY)
  await startDatabase(machine, 'database', DATABASE)
  await holdMemory(machine, 'hold', 200)
  await inside(machine, ['systemd-run', '--quiet', `--unit=${PINNED}`, '--property=CPUAffinity=1', '--property=AllowedCPUs=1', 'sleep', 'infinity'])
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

for (const via of casesOfRun<Via>(['dbus'], ['systemctl', 'cli'])) {
  test.serial(`goes on where it was when asked through ${via}`, async t => {
    const before = await checkMemory(machine, 'hold')
    const saved = await hibernate(machine, via)
    t.true(saved.ok, saved.reason ?? '')
    const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
    t.true(resumed.ok, resumed.reason ?? '')
    t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
    t.deepEqual(await diaryComplaints(machine, DIARY), [])
    t.is(await processorsOf(machine, PINNED), '1\n1\n')
    const database = await checkDatabase(machine, DATABASE)
    t.is(database.integrity, 'ok')
    t.is(database.rows, database.lastId)
  })
}

/** As its main process may use, and as its cgroup. */
async function processorsOf(where: ScratchMachine, unit: string): Promise<string> {
  return await insideShell(where, `
    pid=$(systemctl show --property=MainPID --value "$1")
    sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "/proc/$pid/status"
    cat "/sys/fs/cgroup/system.slice/$1.service/cpuset.cpus.effective"`, unit)
}

test.serial('a self-test goes to a snapshot and back, without switching off', async t => {
  const before = await checkMemory(machine, 'hold')
  const {qemu} = machine.state
  const console = machine.consoleText().length
  const {ok, figures} = JSON.parse(await inside(machine, ['permafrost', 'selftest', '--json'])) as {ok: boolean, figures: Record<string, number>}
  t.true(ok)
  t.log(`${figures['round_trip_ms'] ?? ''} ms there and back`)
  // On the console, for what the kernel has said in between has gone with the rest of its memory.
  t.regex(machine.consoleText().slice(console), /PM: snapshot_kernel: \d+ pages in place/)
  t.deepEqual(machine.state.qemu, qemu)
  t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
  t.deepEqual(await diaryComplaints(machine, DIARY), [])
  t.is((await checkDatabase(machine, DATABASE)).integrity, 'ok')
  t.is(await processorsOf(machine, PINNED), '1\n1\n')
  t.notRegex(await inside(machine, ['dmsetup', 'table']), /snapshot|permafrost-base|permafrost-cow/)
})

for (const kind of ['private', 'shared'] as const) {
  test.serial(`takes an image with 85 % of the memory in use, ${kind}, and no swap`, async t => {
    for (const unit of ['hold', 'database', 'full'])
      await endPayload(machine, unit)
    // What is available grows by some MiB when caches shrink.
    await holdMemoryUpTo(machine, 'full', 0.9, 'half', kind === 'shared')
    const used = await usedShare(machine)
    t.true(used >= 0.85, `${used} of the memory is used`)
    const saved = await hibernate(machine, 'systemctl')
    t.true(saved.ok, saved.reason ?? '')
    const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
    t.true(resumed.ok, resumed.reason ?? '')
    t.is((await checkMemory(machine, 'full')).badPages, 0)
  })
}

test.serial('the kernel has not complained', async t => {
  t.deepEqual([...kernelTrouble(machine.consoleText()), ...kernelTrouble(await kernelLogOf(machine))], [])
})
