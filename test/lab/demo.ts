// npm run demo: the main job, told step by step, every sentence checked. Exit status 0 only when all held.
import {parseArgs} from 'node:util'
import {LaboratoryError, MachineError, messageOf} from './errors.js'
import {inside, insideShell} from './execute.js'
import {fsck, copyOnWriteArea, findInDisk} from './outside.js'
import {scratchMachine, type ScratchMachine} from './scratch.js'
import {Story} from './story.js'
import {down, reap} from './verbs/down.js'
import {hibernate, type Report} from './verbs/hibernate.js'
import {resume} from './verbs/resume.js'
import {
  appendedLines, checkDatabase, checkMemory, firstBreak, holdMemory, kernelLogOf, kernelTrouble, lineOnDisk, linesAfter, startDatabase,
  startPayload, waitFor, type DatabaseState, type HeldMemory
} from './workload.js'

const MEMORY_MIB = 1024
const HELD_MIB = 580
const DIARY = '/var/lib/demo/diary'
const DATABASE = '/var/lib/demo/data.sqlite'
const NEEDED_DIARY = '/var/lib/demo/needed-diary'
const NEEDED_MARK = 'written-by-a-needed-daemon'
const NEEDED_LINE = lineOnDisk(NEEDED_MARK)

const POLICY = `[Needed]
Unit=demo-needed.service
When=always
Reason=The demo shows that it keeps running
`

interface Before {
  readonly memory: HeldMemory
  readonly diary: readonly string[]
  readonly database: DatabaseState
  readonly bootId: string
}

async function main(words: readonly string[]): Promise<number> {
  const {values} = parseArgs({args: [...words], options: {cycles: {type: 'string', default: '1'}}})
  const story = new Story()
  await reap()
  story.step(`A machine with ${MEMORY_MIB} MiB, 2 processors, no swap, and a spare device`)
  await using machine = await scratchMachine('demo', {memoryMib: MEMORY_MIB})
  await startWork(machine, story)
  for (let cycle = 1; cycle <= Number(values.cycles); cycle++)
    await hibernateOnce(machine, story, cycle)
  await finish(machine, story)
  return story.end()
}

async function startWork(machine: ScratchMachine, story: Story): Promise<void> {
  const answer = await inside(machine, [
    'busctl', 'call', 'org.freedesktop.login1', '/org/freedesktop/login1', 'org.freedesktop.login1.Manager', 'CanHibernate'
  ])
  story.check('logind says that it can hibernate, without swap', answer.trim() === 's "yes"', answer.trim())
  story.step('Work: a process that counts and holds memory, a diary, a database, a daemon the policy needs')
  await insideShell(machine, 'mkdir -p /var/lib/demo /etc/permafrost/policy.d; printf %s "$1" > /etc/permafrost/policy.d/demo.conf', POLICY)
  await startPayload(machine, 'demo-diary', 'append', DIARY)
  await startPayload(machine, 'demo-needed', 'append', NEEDED_DIARY, NEEDED_MARK)
  await startDatabase(machine, 'demo-database', DATABASE)
  await holdMemory(machine, 'demo-hold', HELD_MIB)
  await waitFor(machine, `[ "$(wc -l < ${DIARY})" -ge 20 ]`)
  const used = await usedShare(machine)
  story.check('more than half of the memory is taken', used > 0.5, `${Math.round(used * 100)} %`)
}

async function usedShare(machine: ScratchMachine): Promise<number> {
  const [total, available] = (await insideShell(machine, "awk '/^MemTotal|^MemAvailable/ {print $2}' /proc/meminfo"))
    .trim().split('\n').map(Number)
  return total === undefined || available === undefined ? 0 : 1 - available / total
}

async function hibernateOnce(machine: ScratchMachine, story: Story, cycle: number): Promise<void> {
  story.step(`systemctl hibernate (${cycle})`)
  const before = await lookBefore(machine)
  story.tell(`the process has counted to ${before.memory.count}, the diary has ${before.diary.length} lines, the database ${before.database.rows} rows`)
  const saved = await hibernate(machine, 'systemctl')
  story.check('the machine saved itself and switched itself off', saved.ok && !machine.isRunning, tellReport(saved))
  if (!saved.ok)
    throw new MachineError(`The machine did not hibernate: ${saved.reason ?? ''}\n${machine.consoleOfLastBoot().slice(-3000)}`)
  const written = await lookWhileOff(machine, story)
  story.step('The power comes back')
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  story.check('the machine goes on; its processes are those from before', resumed.ok,
    resumed.ok ? `${resumed.bootToUserMs ?? 0} ms from the kernel's first words to the first answer` : resumed.reason ?? '')
  if (!resumed.ok)
    throw new MachineError(`The machine did not resume\n${machine.consoleOfLastBoot().slice(-3000)}`)
  await lookAfter(machine, story, before, written)
}

function tellReport(report: Report): string {
  const mib = (bytes: number | null) => bytes === null ? '?' : String(Math.round(bytes / 2 ** 20))
  return report.ok
    ? `${report.seconds} s; processes stopped for ${report.pauseMs ?? '?'} ms; ${mib(report.imageBytes)} MiB stored in ${mib(report.storedBytes)} MiB; ` +
      `${report.pagesCopied ?? '?'} pages copied, ${report.pagesInPlace ?? '?'} left in place`
    : report.reason ?? ''
}

async function lookBefore(machine: ScratchMachine): Promise<Before> {
  return {
    memory: await checkMemory(machine, 'demo-hold'),
    diary: await appendedLines(machine, DIARY),
    database: await checkDatabase(machine, DATABASE),
    bootId: await inside(machine, ['cat', '/proc/sys/kernel/random/boot_id'])
  }
}

/** Gives what the needed daemon wrote after the snapshot. */
async function lookWhileOff(machine: ScratchMachine, story: Story): Promise<Set<string>> {
  story.step('The machine is off: what its disks say')
  const {disks} = machine.state
  const root = disks.find(disk => disk.role === 'root')
  const spare = disks.find(disk => disk.role === 'spare')
  if (root === undefined || spare === undefined)
    throw new LaboratoryError('The machine has lost its disks')
  const check = await fsck(root)
  story.check('the root file system is clean (e2fsck -fn)', check.isClean, lastLine(check.output))
  const onRoot = await findInDisk(root.path, NEEDED_LINE)
  const onSpare = await findInDisk(spare.path, NEEDED_LINE, await copyOnWriteArea(spare))
  const afterwards = linesAfter(onRoot, onSpare)
  story.check('the needed daemon went on writing after the snapshot', afterwards.size > 0, `${afterwards.size} lines on the spare device`)
  const stray = [...afterwards].filter(line => onRoot.has(line))
  story.check('not one of these lines is on the root disk', stray.length === 0 && onRoot.size > 0, `${onRoot.size} earlier lines are`)
  return afterwards
}

async function lookAfter(
  machine: ScratchMachine, story: Story, before: Before, written: ReadonlySet<string>
): Promise<void> {
  const memory = await checkMemory(machine, 'demo-hold')
  story.check('the count goes on where it was', memory.pid === before.memory.pid && memory.count > before.memory.count,
    `${before.memory.count} → ${memory.count}, process ${memory.pid}`)
  story.check('every byte of its memory is right', memory.badPages === 0 && memory.pages === before.memory.pages,
    `${memory.pages} pages, ${memory.badPages} wrong`)
  await waitFor(machine, `[ "$(wc -l < ${DIARY})" -gt ${before.diary.length + 5} ]`)
  const diary = await appendedLines(machine, DIARY)
  story.check('the diary goes on without a gap or a repetition', isContinued(before.diary, diary), `${diary.length} lines`)
  await waitFor(machine, `[ "$(sqlite3 -cmd '.timeout 5000' ${DATABASE} 'select count(*) from beat')" -gt ${before.database.rows} ]`)
  const database = await checkDatabase(machine, DATABASE)
  story.check('the database in use is whole and goes on', database.integrity === 'ok' && database.rows === database.lastId,
    `${before.database.rows} → ${database.rows} rows, integrity ${database.integrity}`)
  const needed = await appendedLines(machine, NEEDED_DIARY)
  const survivors = needed.filter(line => written.has(line))
  story.check('what was written after the snapshot is gone', survivors.length === 0 && firstBreak(needed) === null,
    `${needed.length} lines, ${survivors.length} of them from after the snapshot`)
  const bootId = await inside(machine, ['cat', '/proc/sys/kernel/random/boot_id'])
  story.check('it is the same boot of the same kernel', bootId === before.bootId, bootId.trim())
}

function isContinued(before: readonly string[], after: readonly string[]): boolean {
  return firstBreak(after) === null && before.every((line, index) => after[index] === line)
}

async function finish(machine: ScratchMachine, story: Story): Promise<void> {
  story.step('The end: kernel log, and the file system after an ordinary shutdown')
  const trouble = [...kernelTrouble(machine.consoleText()), ...kernelTrouble(await kernelLogOf(machine))]
  story.check('the kernel log has no BUG and no WARNING', trouble.length === 0, trouble[0] ?? 'none')
  await down(machine, {isWiped: false})
  for (const disk of machine.state.disks.filter(one => one.role === 'root' || one.role === 'data')) {
    const check = await fsck(disk)
    story.check(`'${disk.name}' is clean (fsck -fn)`, check.isClean, lastLine(check.output))
  }
}

function lastLine(text: string): string {
  return text.split('\n').at(-1) ?? ''
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (thrown) {
  process.stderr.write(`demo: ${messageOf(thrown)}\n`)
  process.exitCode = thrown instanceof LaboratoryError ? 3 : 1
}
