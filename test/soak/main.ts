// npm run soak -- faults | cuts N | cycles N: long experiments on the sentence that nothing is ever lost.
import {parseArgs} from 'node:util'
import {LaboratoryError, messageOf, UsageError} from '../lab/errors.js'
import {say} from '../lab/say.js'
import {reap} from '../lab/verbs/down.js'
import {runCuts} from './cuts.js'
import {runCycles} from './cycles.js'
import {runFaults} from './faults.js'
import {Limit} from './limit.js'
import {printOutcome, type Outcome} from './outcome.js'

const HELP = `npm run soak -- VERB …

  faults                      every fault point of the service, with failure and with kill
  cuts N [--seed TEXT]        N power cuts at random instants of save and resume; the seed is printed, and gives the same instants again
  cycles N [--debug]          N hibernations and resumes of one machine at work; --debug takes the debugging kernel

  --minutes M                 cuts, cycles: begin no further round once M minutes have passed
  --json                      the summary, the last line, as one JSON object
`

interface Settings {
  readonly limit: Limit
  readonly seed: string
  readonly isDebug: boolean
}

const VERBS: Readonly<Record<string, (settings: Settings) => Promise<Outcome>>> = {faults: runFaults, cuts: runCuts, cycles: runCycles}

/** The verbs that are told how many. */
const COUNTED: Readonly<Record<string, string>> = {cuts: 'power cuts', cycles: 'hibernations'}

async function main(words: readonly string[]): Promise<number> {
  const {values, positionals} = parseArgs({
    args: [...words],
    allowPositionals: true,
    options: {
      json: {type: 'boolean', default: false}, help: {type: 'boolean', default: false},
      seed: {type: 'string'}, debug: {type: 'boolean', default: false}, minutes: {type: 'string'}
    }
  })
  const [verb, rounds] = positionals
  const run = VERBS[verb ?? '']
  const isHelp = values.help || verb === 'help'
  if (isHelp || run === undefined) {
    process.stdout.write(HELP)
    return isHelp ? 0 : 2
  }
  await reap()
  const outcome = await run({
    limit: new Limit({rounds: readRounds(verb ?? '', rounds), minutes: readMinutes(values.minutes)}),
    seed: values.seed ?? String(Date.now() % 1_000_000),
    isDebug: values.debug
  })
  printOutcome(outcome, {isJson: values.json})
  return outcome.failures.length === 0 ? 0 : 1
}

function readRounds(verb: string, text: string | undefined): number {
  const what = COUNTED[verb]
  if (what === undefined)
    return 0
  const rounds = Number(text)
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new UsageError(`Cannot make '${text ?? ''}' ${what}: expected a number from 1 on`)
  return rounds
}

function readMinutes(text: string | undefined): number {
  const minutes = text === undefined ? Infinity : Number(text)
  if (!(minutes > 0))
    throw new UsageError(`Cannot go on for '${text ?? ''}' minutes: expected a number above 0`)
  return minutes
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (thrown) {
  say(messageOf(thrown))
  process.exitCode = thrown instanceof UsageError ? 2 : thrown instanceof LaboratoryError ? 3 : 1
}
