// The verbs, their options and what they print.
import {existsSync, readFileSync} from 'node:fs'
import {parseArgs, type ParseArgsConfig} from 'node:util'
import {describeDisks, parseDiskWish, parseSize} from './disks.js'
import {messageOf, UsageError} from './errors.js'
import {Machine} from './machine.js'
import {parseNetwork} from './network.js'
import {say} from './say.js'
import {provideSystem} from './system.js'
import {pull, push} from './verbs/copy.js'
import {cut, cutAll, down} from './verbs/down.js'
import {exec} from './verbs/exec.js'
import {hibernate, type Report} from './verbs/hibernate.js'
import {resume} from './verbs/resume.js'
import {stock} from './verbs/stock.js'
import {up, UP_DEFAULTS} from './verbs/up.js'

export interface Verb {
  readonly usage: string
  readonly run: (words: readonly string[]) => Promise<number>
}

type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>

interface Parsed {
  readonly values: Values
  readonly positionals: readonly string[]
}

export const VERBS: Readonly<Record<string, Verb>> = {
  build: {usage: '[--packages a,b,c] [--debug] [--force]', run: runBuild},
  up: {
    usage: 'NAME [--memory MIB] [--cpus N] [--disk NAME=SIZE:FS]… [--spare SIZE] [--swap SIZE] [--net SEGMENT=ADDRESS/PREFIX] [--packages a,b,c] [--debug]',
    run: runUp
  },
  exec: {usage: 'NAME [--timeout S] -- CMD…', run: runExec},
  push: {usage: 'NAME SRC DEST', run: async words => await runCopy(words, push)},
  pull: {usage: 'NAME SRC DEST', run: async words => await runCopy(words, pull)},
  hibernate: {usage: 'NAME [--via systemctl|dbus|cli]', run: runHibernate},
  resume: {usage: 'NAME [--expect resumed|fresh] [--append WORDS]', run: runResume},
  stock: {usage: 'NAME [--compressor lz4|lzo]', run: runStock},
  cut: {usage: 'NAME', run: runCut},
  down: {usage: 'NAME [--wipe] | --all [--wipe]', run: runDown},
  disks: {usage: 'NAME', run: runDisks},
  log: {usage: 'NAME', run: runLog},
  help: {usage: '', run: runHelp}
}

async function runBuild(words: readonly string[]): Promise<number> {
  const {values} = parse(words, 0, {packages: {type: 'string'}, debug: {type: 'boolean'}, force: {type: 'boolean'}})
  const system = await provideSystem({
    packages: listOf(values['packages']), isDebug: values['debug'] === true, isForced: values['force'] === true
  })
  say('built')
  print({kernel: system.kernel.image, release: system.kernel.release, initrd: system.initrd, root: system.rootImage})
  return 0
}

async function runUp(words: readonly string[]): Promise<number> {
  const {values, positionals} = parse(words, 1, {
    memory: {type: 'string'}, cpus: {type: 'string'}, disk: {type: 'string', multiple: true}, spare: {type: 'string'},
    swap: {type: 'string'}, net: {type: 'string'}, packages: {type: 'string'}, debug: {type: 'boolean'}, append: {type: 'string'}
  })
  await up(machineOf(positionals), {
    ...UP_DEFAULTS,
    memoryMib: numberOf(values['memory'], UP_DEFAULTS.memoryMib),
    cpus: numberOf(values['cpus'], UP_DEFAULTS.cpus),
    disks: (Array.isArray(values['disk']) ? values['disk'] : []).map(text => parseDiskWish(String(text))),
    spareBytes: typeof values['spare'] === 'string' ? parseSize(values['spare']) : null,
    swapBytes: typeof values['swap'] === 'string' ? parseSize(values['swap']) : 0,
    network: typeof values['net'] === 'string' ? parseNetwork(values['net']) : null,
    packages: listOf(values['packages']),
    isDebug: values['debug'] === true,
    extra: textOf(values['append'], '')
  })
  return 0
}

async function runExec(words: readonly string[]): Promise<number> {
  const split = words.indexOf('--')
  const argv = split < 0 ? [] : words.slice(split + 1)
  const {values, positionals} = parse(split < 0 ? words : words.slice(0, split), 1, {timeout: {type: 'string'}})
  if (argv.length === 0)
    throw new UsageError('Nothing to run: exec NAME [--timeout S] -- CMD…')
  return await exec(machineOf(positionals), {argv, timeoutMs: numberOf(values['timeout'], 0) * 1000})
}

async function runCopy(
  words: readonly string[], copy: (machine: Machine, source: string, target: string) => Promise<void>
): Promise<number> {
  const {positionals} = parse(words, 3, {})
  const [, source, target] = positionals
  await copy(machineOf(positionals), source ?? '', target ?? '')
  return 0
}

async function runHibernate(words: readonly string[]): Promise<number> {
  const {values, positionals} = parse(words, 1, {via: {type: 'string'}})
  const via = choice(values['via'], ['systemctl', 'dbus', 'cli'], '--via')
  const machine = machineOf(positionals)
  return finish(machine, await reported(async () => await hibernate(machine, via)))
}

async function runResume(words: readonly string[]): Promise<number> {
  const {values, positionals} = parse(words, 1, {expect: {type: 'string'}, append: {type: 'string'}})
  const expect = choice(values['expect'], ['resumed', 'fresh'], '--expect')
  const machine = machineOf(positionals)
  const extra = textOf(values['append'], '')
  return finish(machine, await reported(async () => await resume(machine, {expect, diesWithStarter: false, extra})))
}

async function runStock(words: readonly string[]): Promise<number> {
  const {values, positionals} = parse(words, 1, {compressor: {type: 'string'}})
  const compressor = choice(values['compressor'], ['lz4', 'lzo'], '--compressor')
  const machine = machineOf(positionals)
  return finish(machine, await reported(async () => await stock(machine, compressor)))
}

async function runCut(words: readonly string[]): Promise<number> {
  await cut(machineOf(parse(words, 1, {}).positionals))
  return 0
}

async function runDown(words: readonly string[]): Promise<number> {
  const options = {wipe: {type: 'boolean'}, all: {type: 'boolean'}} as const
  const {values, positionals} = parse(words, words.includes('--all') ? 0 : 1, options)
  const isWiped = values['wipe'] === true
  if (values['all'] === true)
    await cutAll({isWiped})
  else
    await down(machineOf(positionals), {isWiped})
  return 0
}

async function runDisks(words: readonly string[]): Promise<number> {
  print(describeDisks(machineOf(parse(words, 1, {}).positionals).state.disks))
  return await Promise.resolve(0)
}

async function runLog(words: readonly string[]): Promise<number> {
  const {consoleLog} = machineOf(parse(words, 1, {}).positionals)
  process.stdout.write(existsSync(consoleLog) ? readFileSync(consoleLog) : '')
  return await Promise.resolve(0)
}

async function runHelp(): Promise<number> {
  process.stdout.write(`usage: npm run lab -- VERB …\n${Object.entries(VERBS).map(([name, verb]) => `  ${name} ${verb.usage}`).join('\n')}\n`)
  return await Promise.resolve(0)
}

function parse(words: readonly string[], positionalCount: number, options: ParseArgsConfig['options']): Parsed {
  try {
    const {values, positionals} = parseArgs({args: [...words], options: options ?? {}, allowPositionals: true})
    if (positionals.length !== positionalCount)
      throw new UsageError(`Expected ${positionalCount} names, got ${positionals.length}: '${words.join(' ')}'`)
    return {values, positionals}
  } catch (thrown) {
    throw thrown instanceof UsageError ? thrown : new UsageError(messageOf(thrown))
  }
}

function machineOf(positionals: readonly string[]): Machine {
  return new Machine(positionals[0] ?? '')
}

function listOf(value: Values[string]): string[] {
  return textOf(value, '').split(',').filter(word => word !== '')
}

function textOf(value: Values[string], fallback: string): string {
  return typeof value === 'string' ? value : fallback
}

function numberOf(value: Values[string], fallback: number): number {
  const number = typeof value === 'string' ? Number(value) : fallback
  if (!Number.isFinite(number) || number < 0)
    throw new UsageError(`Cannot read '${String(value)}': expected a number`)
  return number
}

function choice<T extends string>(value: Values[string], allowed: readonly [T, ...T[]], option: string): T {
  const chosen = value === undefined ? allowed[0] : allowed.find(word => word === value)
  if (chosen === undefined)
    throw new UsageError(`Cannot take ${option} '${String(value)}': expected ${allowed.join(', ')}`)
  return chosen
}

/** Usage errors aside, these verbs end in a JSON line whatever happens. */
async function reported(work: () => Promise<Report>): Promise<Report | {readonly ok: false, readonly reason: string}> {
  try {
    return await work()
  } catch (thrown) {
    if (thrown instanceof UsageError)
      throw thrown
    return {ok: false, reason: messageOf(thrown)}
  }
}

function finish(machine: Machine, report: {readonly ok: boolean, readonly reason: string | null}): number {
  if (!report.ok)
    process.stderr.write(`${machine.consoleOfLastBoot().split('\n').slice(-25).join('\n')}\nlab: ${report.reason ?? ''}\n`)
  print(report)
  return report.ok ? 0 : 1
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}
