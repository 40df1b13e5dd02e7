// npm test: every check there is, the cheap ones first; the last line says how many passed, failed and were skipped.
import {spawn} from 'node:child_process'
import {readdirSync} from 'node:fs'
import {join} from 'node:path'
import {createInterface} from 'node:readline'
import {messageOf} from '../lab/errors.js'
import {repository} from '../lab/places.js'
import {say} from '../lab/say.js'
import {provideSystem} from '../lab/system.js'
import {reap} from '../lab/verbs/down.js'

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

interface Stage {
  readonly title: string
  readonly run: () => Promise<Counts>
}

const PASSED: Counts = {passed: 1, failed: 0, skipped: 0}
const FAILED: Counts = {passed: 0, failed: 1, skipped: 0}
const NOTHING: Counts = {passed: 0, failed: 0, skipped: 0}

/** The cheapest come first, one after the other. */
const FIRST: readonly Stage[] = [
  {title: 'types', run: async () => await runCheck(['node_modules/typescript/bin/tsc', '--noEmit', '--project', 'test/tsconfig.json'])},
  {title: 'lint', run: async () => await runCheck(['node_modules/eslint/bin/eslint.js', '--config', 'test/lib/eslint.config.js', 'service', 'test'])}
]

const ON_THE_HOST: readonly Stage[] = [
  {title: 'unit and integration', run: async () => await runAva(['test/unit/**/*.test.ts', 'test/integration/**/*.test.ts'], ['--timeout=5m'])}
]

/** Beside those on the host: machines leave processors idle for much of a boot. */
const IN_MACHINES: readonly Stage[] = [
  {title: 'kernel, initramfs and root file system', run: buildSystem},
  {title: 'machine', run: runMachineTests}
]

async function runAll(): Promise<Counts> {
  await reap()
  const first = await runStages(FIRST)
  const beside = await Promise.all([runStages(ON_THE_HOST), runStages(IN_MACHINES)])
  await reap()
  return beside.reduce(sum, first)
}

async function runStages(stages: readonly Stage[]): Promise<Counts> {
  let total = NOTHING
  for (const stage of stages) {
    say(`test: ${stage.title}`)
    const counts = await safely(stage)
    total = sum(total, counts)
    say(`test: ${stage.title}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
  }
  return total
}

/** A stage that crashes is a failure, and the others still run. */
async function safely(stage: Stage): Promise<Counts> {
  try {
    return await stage.run()
  } catch (thrown) {
    say(`test: ${stage.title}: ${messageOf(thrown)}`)
    return FAILED
  }
}

async function runCheck(args: readonly string[]): Promise<Counts> {
  const status = await runNode(args, line => { process.stdout.write(`${line}\n`) })
  return status === 0 ? PASSED : FAILED
}

async function buildSystem(): Promise<Counts> {
  await provideSystem({packages: [], isDebug: false, isForced: false})
  return PASSED
}

const MACHINES_AT_ONCE = 2

/** Begun first, so that nobody waits for the last of them. */
const LONGEST = ['selftests.test.ts', 'faults.test.ts']

async function runMachineTests(): Promise<Counts> {
  const files = readdirSync(join(repository(), 'test/machine')).filter(name => name.endsWith('.test.ts'))
  const waiting = [...LONGEST, ...files.filter(name => !LONGEST.includes(name))]
  const takeTurns = async (): Promise<Counts> => {
    let counts = NOTHING
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift())
      counts = sum(counts, await runAva([`test/machine/${file}`], ['--timeout=40m'], `${file.replace('.test.ts', '')} › `))
    return counts
  }
  return (await Promise.all(Array.from({length: MACHINES_AT_ONCE}, takeTurns))).reduce(sum)
}

/** `prefix` goes before the titles of a single file: ava names files only when there are several. */
async function runAva(patterns: readonly string[], options: readonly string[], prefix = ''): Promise<Counts> {
  let counts = NOTHING
  const status = await runNode(['node_modules/ava/entrypoints/cli.mjs', '--tap', ...options, ...patterns], line => {
    const outcome = outcomeOf(line)
    counts = sum(counts, outcome ?? NOTHING)
    process.stdout.write(`${line.replace(/^((?:not )?ok) \d+ - /, `$1: ${prefix}`)}\n`)
  })
  return status !== 0 && counts.failed === 0 ? sum(counts, FAILED) : counts
}

/** A test point of the Test Anything Protocol; null for every other line. */
function outcomeOf(line: string): Counts | null {
  const [, not, directive] = /^(not )?ok \d+(?:.*# (SKIP|TODO))?/.exec(line) ?? []
  if (!/^(not )?ok \d/.test(line))
    return null
  return directive !== undefined ? {passed: 0, failed: 0, skipped: 1} : not === undefined ? PASSED : FAILED
}

/** Dies with us: a test run that is killed leaves nothing behind. */
async function runNode(args: readonly string[], onLine: (line: string) => void): Promise<number> {
  const words = ['--pdeathsig', 'SIGKILL', process.execPath, ...args]
  const child = spawn('setpriv', words, {cwd: repository(), stdio: ['ignore', 'pipe', 'inherit']})
  createInterface({input: child.stdout}).on('line', onLine)
  return await new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', status => { resolve(status ?? 1) })
  })
}

function sum(a: Counts, b: Counts): Counts {
  return {passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped}
}

const total = await runAll()
process.exitCode = total.failed === 0 ? 0 : 1
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`)
