// What an experiment found, for people and for programs.

export interface Outcome {
  readonly experiment: string
  /** How it is repeated; null when it is the same each time. */
  readonly seed: string | null
  readonly tried: number
  readonly failures: readonly Failure[]
  /** How often each sort of end was seen. */
  readonly ends: Readonly<Record<string, number>>
  readonly seconds: number
  /** What was measured, by name; the unit is in the name. */
  readonly figures?: Readonly<Record<string, Spread>>
}

export interface Spread {
  readonly least: number
  readonly median: number
  readonly most: number
}

export interface Failure {
  readonly title: string
  readonly complaints: readonly string[]
}

/** The summary, as the last line. */
export function printOutcome(outcome: Outcome, {isJson}: {readonly isJson: boolean}): void {
  if (isJson) {
    process.stdout.write(`${JSON.stringify(outcome)}\n`)
    return
  }
  for (const {title, complaints} of outcome.failures)
    process.stdout.write(`failed: ${title}\n${complaints.map(text => `  ${text.trim().replaceAll('\n', '\n  ')}\n`).join('')}`)
  for (const [name, {least, median, most}] of Object.entries(outcome.figures ?? {}))
    process.stdout.write(`${name}: ${least} to ${most}, median ${median}\n`)
  const ends = Object.entries(outcome.ends).map(([end, count]) => `${count} ${end}`).join(', ')
  const seed = outcome.seed === null ? '' : `; seed ${outcome.seed}`
  process.stdout.write(
    `${outcome.experiment}: ${outcome.tried} tried, ${outcome.failures.length} failed (${ends}) in ${outcome.seconds} s${seed}\n`)
}

export function countEnds(ends: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const end of ends)
    counts[end] = (counts[end] ?? 0) + 1
  return counts
}

/** Of figures that each round has under the same names. */
export function spreadsOf(rounds: readonly Readonly<Record<string, number>>[]): Record<string, Spread> {
  const names = Object.keys(rounds[0] ?? {})
  return Object.fromEntries(names.map(name => {
    const values = rounds.map(figures => figures[name] ?? NaN).sort((a, b) => a - b)
    const at = (index: number) => values[index] ?? NaN
    const middle = Math.floor(values.length / 2)
    const median = values.length % 2 === 1 ? at(middle) : Math.round((at(middle - 1) + at(middle)) * 50) / 100
    return [name, {least: at(0), median, most: at(values.length - 1)}]
  }))
}
