// npm run fuzz -- MINUTES: libFuzzer on the loader's parsers, with sanitizers, all programs at once; what they learn stays in corpus/.
import {mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync} from 'node:fs'
import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {attempt} from '../lab/tool.js'
import {say} from '../lab/say.js'
import {repository} from '../lab/places.js'
import {makeMergeSeeds, makeSeeds, makeStreamSeeds, type Seed} from './seeds.js'

const EXIT_DONE = 0
const EXIT_FOUND = 1
const EXIT_USAGE = 2
const EXIT_MISSING = 3

const FUZZ = join(repository(), 'test/fuzz')
const FINDINGS = join(FUZZ, 'findings')
const LOADER = join(repository(), 'kernel/loader')
/** What stands between a device and a decompressed chunk, or a merge; the rest of the loader sees no byte of an image. */
const SOURCES = [
  'base-samples', 'chunks', 'disk', 'exception-store', 'header', 'inspect', 'merge-list', 'regions', 'say', 'server', 'stream', 'superblock', 'way-back'
].map(name => join(LOADER, `${name}.c`))

interface Target {
  /** Of its C file, and of its part of the corpus. */
  readonly name: string
  readonly makeSeeds: () => Promise<readonly Seed[]>
  readonly inputBytesMaximum: number
}

const TARGETS: readonly Target[] = [
  {name: 'loader', makeSeeds, inputBytesMaximum: 8192},
  {name: 'stream', makeSeeds: makeStreamSeeds, inputBytesMaximum: 16_384},
  {name: 'merges', makeSeeds: makeMergeSeeds, inputBytesMaximum: 32_768}
]

async function main(parameters: readonly string[]): Promise<number> {
  const minutes = Number(parameters[0])
  if (parameters.length !== 1 || !(minutes > 0)) {
    say('Usage: npm run fuzz -- MINUTES')
    return EXIT_USAGE
  }
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-fuzz-'))
  mkdirSync(FINDINGS, {recursive: true})
  try {
    const statuses = await Promise.all(TARGETS.map(async target => await fuzz(target, directory, minutes)))
    const findings = readdirSync(FINDINGS)
    if (findings.length === 0) rmSync(FINDINGS, {recursive: true})
    for (const name of findings) say(join(FINDINGS, name))
    return findings.length > 0 ? EXIT_FOUND : Math.max(...statuses)
  } finally {
    rmSync(directory, {recursive: true})
  }
}

async function fuzz({name, makeSeeds, inputBytesMaximum}: Target, directory: string, minutes: number): Promise<number> {
  const program = join(directory, name)
  const built = await attempt('clang', [
    '-g', '-O1', '-std=gnu11', '-D_GNU_SOURCE', '-D_FILE_OFFSET_BITS=64', '-fsanitize=fuzzer,address,undefined',
    '-fno-sanitize-recover=all', `-I${LOADER}`, '-o', program, join(FUZZ, `${name}.c`), join(FUZZ, 'heap.c'), ...SOURCES,
    '-Wl,--wrap=pages_allocate,--wrap=pages_free', '-llz4', '-lxxhash', '-lpthread'
  ])
  if (built.status !== 0) {
    say(`Cannot build '${program}': ${built.stderr}`)
    return EXIT_MISSING
  }
  const corpus = join(FUZZ, 'corpus', name)
  const learnt = join(directory, `${name}-learnt`)
  const seeds = join(directory, `${name}-seeds`)
  for (const each of [learnt, seeds, corpus]) mkdirSync(each, {recursive: true})
  for (const {name: file, bytes} of await makeSeeds()) writeFileSync(join(seeds, file), bytes)
  const status = await run(program, [
    `-max_total_time=${Math.ceil(minutes * 60)}`, `-max_len=${inputBytesMaximum}`, '-close_fd_mask=1', '-timeout=20', '-print_final_stats=1',
    `-artifact_prefix=${FINDINGS}/${name}-`, learnt, corpus, seeds
  ])
  // Only what reaches something that nothing kept so far does.
  await run(program, ['-merge=1', '-close_fd_mask=3', corpus, seeds, learnt])
  say(`${name}: ${readdirSync(corpus).length} inputs in the corpus`)
  return status === 0 ? EXIT_DONE : EXIT_FOUND
}

/** Dies with us. */
async function run(program: string, args: readonly string[]): Promise<number> {
  const child = spawn('setpriv', ['--pdeathsig', 'SIGKILL', program, ...args], {stdio: ['ignore', 'ignore', 'inherit']})
  const [code]: readonly unknown[] = await once(child, 'exit')
  return typeof code === 'number' ? code : EXIT_FOUND
}

process.exitCode = await main(process.argv.slice(2))
