import {execFile} from 'node:child_process'
import {promisify} from 'node:util'
import {ATTEMPT_ENDED, FIGURE_PREFIX} from '../stories/report.js'
import {EXIT_DONE, type Surroundings, toJson} from './verb.js'

/** What the journal says of the last attempt to hibernate, of this boot or an earlier one. */
export interface LastAttempt {
  readonly endedAt: Date
  readonly result: string
  /** Empty when it went well. */
  readonly cause: string
  /** `command[pid]` of who was kept running, with spaces between. */
  readonly kept: string
  readonly figures: Readonly<Record<string, number>>
}

export async function showLast(isJson: boolean, {print}: Surroundings): Promise<number> {
  const last = parseLastAttempt(await readJournal())
  if (isJson) print(toJson({ok: true, last}))
  else for (const line of lastLines(last)) print(line)
  return EXIT_DONE
}

async function readJournal(): Promise<string> {
  const {stdout} = await promisify(execFile)('journalctl', [
    '--quiet', '--no-pager', '--output=json', '--lines=1', `MESSAGE_ID=${ATTEMPT_ENDED}`,
  ])
  return stdout
}

/** Null where there is no entry, or none that whoever asks may read. */
export function parseLastAttempt(text: string): LastAttempt | null {
  if (text.trim() === '') return null
  const parsed: unknown = JSON.parse(text)
  const entry = Object.entries(Object(parsed)).filter((each): each is [string, string] => typeof each[1] === 'string')
  const fields = new Map(entry)
  const figures = entry
    .filter(([name, value]) => name.startsWith(FIGURE_PREFIX) && /^\d+$/.test(value))
    .map(([name, value]) => [name.slice(FIGURE_PREFIX.length).toLowerCase(), Number(value)] as const)
  return {
    endedAt: new Date(Number(fields.get('__REALTIME_TIMESTAMP') ?? 0) / 1000),
    result: fields.get('PERMAFROST_RESULT') ?? 'unknown',
    cause: fields.get('PERMAFROST_CAUSE') ?? '',
    kept: fields.get('PERMAFROST_KEPT') ?? '',
    figures: Object.fromEntries(figures.sort(([left], [right]) => (left < right ? -1 : 1))),
  }
}

export function lastLines(last: LastAttempt | null): readonly string[] {
  if (last === null) return ['No hibernation is in the journal, as far as you may read it.']
  return [
    `Ended   ${last.endedAt.toISOString()}`,
    `Result  ${last.result}${last.cause === '' ? '' : `: ${last.cause}`}`,
    `Kept    ${last.kept === '' ? 'nobody' : last.kept}`,
    ...Object.entries(last.figures).map(([name, value]) => `  ${formatFigure(name, value)}`),
  ]
}

/** Names of figures end in the unit they are measured in. */
const UNITS: readonly {readonly suffix: string, readonly factor: number, readonly unit: string}[] = [
  {suffix: '_ns', factor: 1e-6, unit: 'ms'},
  {suffix: '_ms', factor: 1, unit: 'ms'},
  {suffix: '_bytes', factor: 2 ** -20, unit: 'MiB'},
]

/** As people read it: 'pause 812.4 ms' for pause_ns=812400000. */
export function formatFigure(name: string, value: number): string {
  const known = UNITS.find(({suffix}) => name.endsWith(suffix))
  const words = (known === undefined ? name : name.slice(0, -known.suffix.length)).replaceAll('_', ' ')
  const amount = known === undefined ? String(value) : `${Math.round(value * known.factor * 10) / 10} ${known.unit}`
  return `${words.padEnd(20)} ${amount}`
}
