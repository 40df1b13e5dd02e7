// The kernel's selftests: which there are, how they are built on the host, and how one runs in a machine.
import {mkdirSync, readdirSync, rmSync} from 'node:fs'
import {basename, dirname, join} from 'node:path'
import {cached, digestOf} from './cache.js'
import type {DiskWish} from './disks.js'
import {attemptInside, inside} from './execute.js'
import {applySeries, kernelDigest, lockTree, type KernelRequest} from './kernel.js'
import type {Machine} from './machine.js'
import {say} from './say.js'
import {filesOfSeries, textFromSeries} from './series.js'
import {testPointsOf, type TestPoint} from './tap.js'
import {run} from './tool.js'
import {push} from './verbs/copy.js'

/** One program: a folder of tools/testing/selftests and a file in it. */
export interface Selftest {
  readonly folder: string
  readonly program: string
  /** What it reports, by the names it reports them under. */
  readonly cases: readonly string[]
}

/** Whose tree they are built from; they run on the debugging kernel as well. */
const KERNEL: KernelRequest = {isDebug: false, isForced: false}

/** For a machine: what the selftests that take snapshots may write on, see snapshot_kernel/snapshot.h. */
export const SCRATCH_DISK: DiskWish = {name: 'scratch', bytes: 2 ** 31, type: 'none'}
const SCRATCH_VARIABLE = 'SNAPSHOT_KERNEL_SCRATCH=/dev/disk/by-id/virtio-scratch'

const FOLDER = 'tools/testing/selftests'
const IN_MACHINE = '/root/selftests'
/** On the debugging kernel the longest program takes ten minutes. */
const PROGRAM_PATIENCE_MS = 1_800_000

/** Of mainline: the other freezer of processes, which has to work as before. */
const CGROUP_FREEZER: Selftest = {
  folder: 'cgroup',
  program: 'test_freezer',
  cases: ['simple', 'tree', 'forkbomb', 'mkdir', 'rmdir', 'migrate', 'ptrace', 'stopped', 'ptraced', 'vfork'].map(name => `test_cgfreezer_${name}`)
}

/** Of the series, what asks for a configuration that only the debugging kernel has. */
const OF_DEBUG_KERNEL = ['check']

/** All that are run on the debugging kernel. */
export function allSelftests(): Selftest[] {
  return [...selftestsOfSeries(), CGROUP_FREEZER]
}

/** All that are run on the normal kernel. */
export function normalSelftests(): Selftest[] {
  return selftestsOfSeries().filter(test => !OF_DEBUG_KERNEL.includes(test.program))
}

/** Every selftest that the series brings. */
export function selftestsOfSeries(): Selftest[] {
  return filesOfSeries(new RegExp(`^${FOLDER}/[^/]+/Makefile$`)).flatMap(makefile => {
    const programs = /^TEST_GEN_PROGS\s*[:+]?=\s*((?:.*\\\n)*.*)$/m.exec(textFromSeries(makefile))?.[1] ?? ''
    return programs.split(/[\s\\]+/).filter(word => word !== '').map(program => ({
      folder: basename(dirname(makefile)),
      program,
      cases: casesOf(textFromSeries(`${dirname(makefile)}/${program}.c`))
    }))
  })
}

/** The names that kselftest_harness.h gives the cases of a program: FIXTURE[.VARIANT].CASE, 'global' without a fixture. */
export function casesOf(source: string): string[] {
  const variants = [...source.matchAll(/^FIXTURE_VARIANT_ADD\((\w+),\s*(\w+)\)/gm)]
  const cases = [...source.matchAll(/^TEST(?:_F)?(?:_TIMEOUT|_SIGNAL)?\((?:(\w+),\s*)?(\w+)(?:,\s*\w+)?\)/gm)]
  return cases.flatMap(([, fixture, name]) => {
    const own = variants.filter(variant => variant[1] === fixture).map(variant => `${fixture ?? ''}.${variant[2] ?? ''}`)
    return (own.length > 0 ? own : [fixture ?? 'global']).map(prefix => `${prefix}.${name ?? ''}`)
  })
}

/** Gives a directory with the programs, one folder a folder of selftests, built statically from the patched tree. */
export async function provideSelftests(): Promise<string> {
  return await cached({
    kind: 'selftests',
    digest: digestOf({kernel: kernelDigest(KERNEL), recipe: '3'}),
    isForced: false,
    make: async target => {
      using _held = await lockTree()
      await build(join(await applySeries(KERNEL), 'linux'), target)
    }
  })
}

async function build(source: string, target: string): Promise<void> {
  say('selftests: building')
  const headers = join(target, 'headers')
  mkdirSync(headers)
  await run('make', ['-s', '-C', source, `O=${headers}`, 'headers'])
  for (const folder of new Set(allSelftests().map(test => test.folder))) {
    const output = join(target, folder)
    // Of a folder of mainline no more than what is run.
    const programs = folder === CGROUP_FREEZER.folder ? [join(output, CGROUP_FREEZER.program)] : []
    mkdirSync(output)
    // The machine's C library is not the host's.
    await run('make', [
      '-s', '-C', join(source, FOLDER, folder), `OUTPUT=${output}`, `KHDR_INCLUDES=-isystem ${headers}/usr/include`,
      'USERCFLAGS=-Werror', 'USERLDFLAGS=-static', ...programs
    ])
  }
  rmSync(headers, {recursive: true})
}

/** The selftests in one machine. A program runs once, when the first of its cases is asked for. */
export class SelftestRunner {
  readonly #machine: Machine
  readonly #reports = new Map<Selftest, Promise<readonly TestPoint[]>>()
  readonly #consoles = new Map<string, string>()

  constructor(machine: Machine) {
    this.#machine = machine
  }

  /** All that the program reported, in its order. */
  async report(test: Selftest): Promise<readonly TestPoint[]> {
    const report = this.#reports.get(test) ?? this.#run(test)
    this.#reports.set(test, report)
    return await report
  }

  /** What it reported of one case; a case it did not come to has failed. */
  async point(test: Selftest, name: string): Promise<TestPoint> {
    const points = await this.report(test)
    const last = points.at(-1)?.text ?? 'nothing'
    return points.find(point => point.name === name) ?? {name, outcome: 'failed', text: `not reported; the last was:\n${last}`}
  }

  /** What the console said while a program of a folder ran; empty when it has not run. */
  consoleDuring(folder: string, program: string): string {
    return this.#consoles.get(`${folder}/${program}`) ?? ''
  }

  async #run(test: Selftest): Promise<readonly TestPoint[]> {
    const programs = join(await provideSelftests(), test.folder)
    const directory = `${IN_MACHINE}/${test.folder}`
    await inside(this.#machine, ['mkdir', '-p', directory])
    for (const file of readdirSync(programs))
      await push(this.#machine, join(programs, file), `${directory}/${file}`)
    const script = 'cd "$1"; exec "./$2" 2>&1'
    const words = ['env', SCRATCH_VARIABLE, 'sh', '-c', script, 'sh', directory, test.program]
    const begin = this.#machine.consoleText().length
    const outcome = await attemptInside(this.#machine, words, {timeoutMs: PROGRAM_PATIENCE_MS})
    this.#consoles.set(`${test.folder}/${test.program}`, this.#machine.consoleText().slice(begin))
    const points = testPointsOf(outcome.stdout)
    const isWhole = outcome.status === 0 || points.some(point => point.outcome === 'failed')
    const end = {name: `exit status ${outcome.status}`, outcome: 'failed' as const, text: outcome.stdout.slice(-2000)}
    return isWhole ? points : [...points, end]
  }
}
