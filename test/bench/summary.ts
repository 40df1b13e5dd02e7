// Medians of the rounds, how far the values lie apart, ours against stock, and the table that shows them side by side.

export interface Measures {
  readonly saveSeconds: number
  readonly pauseMs: number | null
  readonly imageBytes: number | null
  readonly storedBytes: number | null
  readonly bootToUserMs: number | null
}

/** What is measured beside one another; the others are the stock path with a compressor of its. */
export const PERMAFROST = 'Permafrost'

/** One measurement on each path, by its title. */
export type Round = Readonly<Record<string, Measures>>

/** What each row means, for whoever reads the JSON. */
export const ROWS: Readonly<Record<keyof Measures, string>> = {
  saveSeconds: 'save, request to power off [s]',
  pauseMs: 'all user processes stopped [ms]',
  imageBytes: 'image [bytes]',
  storedBytes: 'stored [bytes]',
  bootToUserMs: 'kernel start to user process [ms]'
}

const KEYS = ['saveSeconds', 'pauseMs', 'imageBytes', 'storedBytes', 'bootToUserMs'] as const

export interface Spread {
  /** Null when a value is missing. */
  readonly median: number | null
  readonly lowest: number | null
  readonly highest: number | null
}

export type Summary = Readonly<Record<keyof Measures, Readonly<Record<string, Spread>>>>

export function summarize(rounds: readonly Round[]): Summary {
  const paths = Object.keys(rounds[0] ?? {})
  const row = (key: keyof Measures) =>
    Object.fromEntries(paths.map(path => [path, spreadOf(rounds.map(round => round[path]?.[key] ?? null))]))
  return {
    saveSeconds: row('saveSeconds'),
    pauseMs: row('pauseMs'),
    imageBytes: row('imageBytes'),
    storedBytes: row('storedBytes'),
    bootToUserMs: row('bootToUserMs')
  }
}

function spreadOf(values: readonly (number | null)[]): Spread {
  const known = values.filter(value => value !== null)
  const isWhole = known.length === values.length && known.length > 0
  return {median: median(values), lowest: isWhole ? Math.min(...known) : null, highest: isWhole ? Math.max(...known) : null}
}

/** The middle value, or the mean of the two in the middle; null when a value is missing. */
export function median(values: readonly (number | null)[]): number | null {
  const known = values.filter(value => value !== null).sort((a, b) => a - b)
  const upper = known[Math.floor(known.length / 2)]
  const lower = known[Math.ceil(known.length / 2) - 1]
  return known.length < values.length || upper === undefined || lower === undefined ? null : (lower + upper) / 2
}

/** Ours over stock: below one is faster, or smaller. */
export interface Ratios {
  readonly save: number | null
  readonly resume: number | null
  readonly bytes: number | null
}

/** The medians of Permafrost over those of the stock path `against`. */
export function ratiosOf(summary: Summary, against: string): Ratios {
  const ratio = (key: keyof Measures) => {
    const [ours, theirs] = [summary[key][PERMAFROST]?.median ?? null, summary[key][against]?.median ?? null]
    return ours === null || theirs === null ? null : Math.round(ours / theirs * 1000) / 1000
  }
  return {save: ratio('saveSeconds'), resume: ratio('bootToUserMs'), bytes: ratio('storedBytes')}
}

/** The worst of several, so that what holds of it holds of each. */
export function worstOf(all: readonly Ratios[]): Ratios {
  const worst = (key: keyof Ratios) => {
    const values = all.map(ratios => ratios[key])
    const known = values.filter(value => value !== null)
    return known.length === values.length && known.length > 0 ? Math.max(...known) : null
  }
  return {save: worst('save'), resume: worst('resume'), bytes: worst('bytes')}
}

export function tableOf(summary: Summary, ratios: Ratios): string {
  const paths = Object.keys(summary.saveSeconds)
  const rows = KEYS.map(key => [ROWS[key], ...paths.map(path => show(summary[key][path]))])
  const table = [['', ...paths], ...rows]
    .map(([title, ...cells]) => `${(title ?? '').padEnd(36)}${cells.map(cell => cell.padStart(26)).join('')}\n`)
  return `${table.join('')}ours / stock lz4: save ${ratios.save ?? '-'}, resume ${ratios.resume ?? '-'}, bytes ${ratios.bytes ?? '-'}\n`
}

function show(spread: Spread | undefined): string {
  if (spread === undefined || spread.median === null)
    return '-'
  const range = spread.lowest === spread.highest ? '' : ` (${round(spread.lowest)}–${round(spread.highest)})`
  return `${round(spread.median)}${range}`
}

function round(value: number | null): string {
  return value === null ? '-' : String(value >= 1e5 ? Math.round(value / 1e5) / 10 : Math.round(value * 10) / 10) + (value >= 1e5 ? 'M' : '')
}
