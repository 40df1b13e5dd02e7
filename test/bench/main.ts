// npm run bench: stock hibernation against Permafrost, in the same machine with the same memory, taking turns.
import {parseArgs} from 'node:util'
import {LaboratoryError, MachineError, messageOf, UsageError} from '../lab/errors.js'
import {insideShell} from '../lab/execute.js'
import type {Machine} from '../lab/machine.js'
import {say} from '../lab/say.js'
import {scratchMachine} from '../lab/scratch.js'
import {reap} from '../lab/verbs/down.js'
import {hibernate, type Report} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {stock} from '../lab/verbs/stock.js'
import type {Compressor} from '../lab/stock-path.js'
import {checkMemory, CONTENTS, endPayload, holdMemory, settle, type Content} from '../lab/workload.js'
import {numberFrom} from './options.js'
import {PERMAFROST, ratiosOf, ROWS, summarize, tableOf, worstOf, type Measures, type Round} from './summary.js'

const MEMORY_MIB = 1024
/** Stock hibernation cannot take more than half of the memory: this and the system itself still fit. */
const HELD_MIB = 300
const MINIMUM_ROUNDS = 5
const UNIT = 'bench-hold'
/** Asking if a save has been refused takes of the two processors, a tenth of their time: not before any save is over. */
const QUIET_MS = 300_000

const COMPRESSORS = ['lz4', 'lzo'] as const

interface Settings {
  readonly rounds: number
  readonly heldMib: readonly number[]
  readonly contents: readonly Content[]
  readonly compressors: readonly Compressor[]
  readonly memoryMib: number
  readonly isJson: boolean
}

/** The rounds with one amount of memory held and one content. */
interface Fill {
  readonly heldMib: number
  readonly content: Content
  readonly rounds: readonly Round[]
}

async function main(settings: Settings): Promise<void> {
  const {memoryMib} = settings
  await reap()
  await using machine = await scratchMachine('bench', {memoryMib, swapBytes: 2 * memoryMib * 2 ** 20})
  // All of the memory shall be in either image: by default the stock path swaps some of it out before.
  await insideShell(machine, 'echo 1099511627776 > /sys/power/image_size')
  const fills: Fill[] = []
  for (const content of settings.contents) {
    for (const heldMib of settings.heldMib)
      fills.push({heldMib, content, rounds: await measureFill(machine, heldMib, content, settings)})
  }
  const runs = fills.map(fill => {
    const summary = summarize(fill.rounds)
    return {...fill, summary, ratio: ratiosOf(summary, titleOf('lz4'))}
  })
  if (settings.isJson)
    return void process.stdout.write(`${JSON.stringify({memoryMib, rows: ROWS, ratio: worstOf(runs.map(({ratio}) => ratio)), runs})}\n`)
  for (const {heldMib, content, rounds, summary, ratio} of runs)
    process.stdout.write(`${memoryMib} MiB, ${heldMib} MiB held by a process (${content}); medians of ${rounds.length} rounds\n${tableOf(summary, ratio)}\n`)
}

async function measureFill(machine: Machine, heldMib: number, content: Content, settings: Settings): Promise<readonly Round[]> {
  await endPayload(machine, UNIT)
  await holdMemory(machine, UNIT, heldMib, content)
  const rounds: Round[] = []
  for (let number = 1; number <= settings.rounds; number++) {
    const round: Record<string, Measures> = {}
    for (const compressor of settings.compressors)
      round[titleOf(compressor)] = await measure(machine, `${content} ${number}: ${titleOf(compressor)}`, async () => await stock(machine, compressor, QUIET_MS))
    round[PERMAFROST] = await measure(machine, `${content} ${number}: ${PERMAFROST}`, async () => await hibernate(machine, 'systemctl', QUIET_MS))
    rounds.push(round)
  }
  return rounds
}

function titleOf(compressor: Compressor): string {
  return `stock ${compressor}`
}

/** One hibernation and its resume; both start from a page cache that is as good as empty. */
async function measure(machine: Machine, title: string, save: () => Promise<Report>): Promise<Measures> {
  await settle(machine)
  const saved = await save()
  if (!saved.ok)
    throw new MachineError(`${title}: ${saved.reason ?? 'did not hibernate'}`)
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  if (!resumed.ok)
    throw new MachineError(`${title}: ${resumed.reason ?? 'did not resume'}`)
  const {badPages} = await checkMemory(machine, UNIT)
  if (badPages !== 0)
    throw new MachineError(`${title}: ${badPages} pages are wrong after the resume`)
  const measures = {
    saveSeconds: saved.seconds,
    pauseMs: saved.pauseMs,
    imageBytes: saved.imageBytes,
    storedBytes: saved.storedBytes,
    bootToUserMs: resumed.bootToUserMs
  }
  say(`${title}: ${JSON.stringify(measures)}`)
  return measures
}

function readSettings(words: readonly string[]): Settings {
  const {values} = parseArgs({
    args: [...words],
    options: {
      json: {type: 'boolean', default: false},
      rounds: {type: 'string', default: String(MINIMUM_ROUNDS)},
      held: {type: 'string', default: String(HELD_MIB)},
      memory: {type: 'string', default: String(MEMORY_MIB)},
      contents: {type: 'string', default: 'half'},
      stock: {type: 'string', default: 'lz4'}
    }
  })
  return {
    rounds: numberFrom(values.rounds, '--rounds'),
    heldMib: values.held.split(',').map(text => numberFrom(text, '--held')),
    memoryMib: numberFrom(values.memory, '--memory'),
    contents: wordsFrom(values.contents, '--contents', CONTENTS),
    compressors: wordsFrom(values.stock, '--stock', COMPRESSORS),
    isJson: values.json
  }
}

function wordsFrom<Word extends string>(text: string, option: string, known: readonly Word[]): readonly Word[] {
  return text.split(',').map(word => {
    const found = known.find(each => each === word)
    if (found === undefined)
      throw new UsageError(`Cannot take ${option} '${text}': expected some of ${known.join()}`)
    return found
  })
}

try {
  await main(readSettings(process.argv.slice(2)))
} catch (thrown) {
  process.stderr.write(`bench: ${messageOf(thrown)}\n`)
  process.exitCode = thrown instanceof UsageError ? 2 : thrown instanceof LaboratoryError ? 3 : 1
}
