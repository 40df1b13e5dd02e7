// npm run bench: stock hibernation (lz4) against Permafrost, in the same machine with the same memory, taking turns.
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
import {checkMemory, holdMemory} from '../lab/workload.js'
import {COLUMNS, mediansOf, tableOf, type Measures, type Round} from './summary.js'

const MEMORY_MIB = 1024
/** Stock hibernation cannot take more than half of the memory: this and the system itself still fit. */
const HELD_MIB = 300
const MINIMUM_ROUNDS = 5
const UNIT = 'bench-hold'

interface Settings {
  readonly rounds: number
  readonly heldMib: number
  readonly isJson: boolean
}

async function main(settings: Settings): Promise<void> {
  await reap()
  await using machine = await scratchMachine('bench', {memoryMib: MEMORY_MIB, swapBytes: 2 * MEMORY_MIB * 2 ** 20})
  await holdMemory(machine, UNIT, settings.heldMib)
  // All of the memory shall be in either image: by default the stock path swaps some of it out before.
  await insideShell(machine, 'echo 4294967296 > /sys/power/image_size')
  const rounds: Round[] = []
  for (let number = 1; number <= settings.rounds; number++) {
    rounds.push({
      stock: await measure(machine, `${number}: stock lz4`, async () => await stock(machine, 'lz4')),
      permafrost: await measure(machine, `${number}: Permafrost`, async () => await hibernate(machine, 'systemctl'))
    })
  }
  const medians = mediansOf(rounds)
  if (settings.isJson)
    process.stdout.write(`${JSON.stringify({memoryMib: MEMORY_MIB, heldMib: settings.heldMib, columns: COLUMNS, medians, rounds})}\n`)
  else
    process.stdout.write(`${MEMORY_MIB} MiB, ${settings.heldMib} MiB held by a process; medians of ${rounds.length} rounds\n${tableOf(medians)}`)
}

/** One hibernation and its resume; both start from a page cache that is as good as empty. */
async function measure(machine: Machine, title: string, save: () => Promise<Report>): Promise<Measures> {
  await insideShell(machine, 'systemctl is-system-running --wait > /dev/null || true; sync; echo 3 > /proc/sys/vm/drop_caches')
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
      held: {type: 'string', default: String(HELD_MIB)}
    }
  })
  const rounds = Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new UsageError(`Cannot take --rounds '${values.rounds}': expected a number from 1 on`)
  return {rounds, heldMib: Number(values.held), isJson: values.json}
}

try {
  await main(readSettings(process.argv.slice(2)))
} catch (thrown) {
  process.stderr.write(`bench: ${messageOf(thrown)}\n`)
  process.exitCode = thrown instanceof UsageError ? 2 : thrown instanceof LaboratoryError ? 3 : 1
}
