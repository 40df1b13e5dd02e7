// npm test: every check there is, the cheap ones first; the last line says how many passed, failed and were skipped.
import {spawn} from 'node:child_process'
import {existsSync, readdirSync} from 'node:fs'
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

const STAGES: readonly Stage[] = [
  {title: 'types', run: async () => await runCheck(['node_modules/typescript/bin/tsc', '--noEmit', '--project', 'test/tsconfig.json'])},
  {title: 'lint', run: async () => await runCheck(['node_modules/eslint/bin/eslint.js', '--config', 'test/lib/eslint.config.js', 'service', 'test'])},
  {title: 'unit and integration', run: async () => await runAva(['test/unit', 'test/integration'], ['--timeout=5m'])},
  {title: 'kernel, initramfs and root file system', run: buildSystem},
  {title: 'machine', run: async () => await runAva(['test/machine'], ['--serial', '--concurrency=1', '--timeout=40m'])}
]

async function runAll(): Promise<Counts> {
  await reap()
  let total = NOTHING
  for (const stage of STAGES) {
    say(`test: ${stage.title}`)
    const counts = await safely(stage)
    total = sum(total, counts)
    say(`test: ${stage.title}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
  }
  await reap()
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

async function runAva(folders: readonly string[], options: readonly string[]): Promise<Counts> {
  const patterns = folders.filter(hasTests).map(folder => `${folder}/**/*.test.ts`)
  if (patterns.length === 0)
    return NOTHING
  let counts = NOTHING
  const status = await runNode(['node_modules/ava/entrypoints/cli.mjs', '--tap', ...options, ...patterns], line => {
    const outcome = outcomeOf(line)
    counts = sum(counts, outcome ?? NOTHING)
    if (outcome === null || outcome.passed === 0)
      process.stdout.write(`${line}\n`)
    else
      process.stdout.write(`${line.replace(/^ok \d+ - /, 'ok: ')}\n`)
  })
  return status !== 0 && counts.failed === 0 ? sum(counts, FAILED) : counts
}

function hasTests(folder: string): boolean {
  const path = join(repository(), folder)
  return existsSync(path) && readdirSync(path, {recursive: true}).some(name => String(name).endsWith('.test.ts'))
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
