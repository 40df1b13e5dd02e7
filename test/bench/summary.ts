// Medians of the rounds, and the table that shows them side by side.

export interface Measures {
  readonly saveSeconds: number
  readonly pauseMs: number | null
  readonly imageBytes: number | null
  readonly storedBytes: number | null
  readonly bootToUserMs: number | null
}

export interface Round {
  readonly stock: Measures
  readonly permafrost: Measures
}

/** What each column means, for whoever reads the JSON. */
export const COLUMNS: Readonly<Record<keyof Measures, string>> = {
  saveSeconds: 'save, request to power off [s]',
  pauseMs: 'all user processes stopped [ms]',
  imageBytes: 'image [bytes]',
  storedBytes: 'stored [bytes]',
  bootToUserMs: 'kernel start to user process [ms]'
}

export type Medians = Readonly<Record<keyof Measures, {readonly stock: number | null, readonly permafrost: number | null}>>

const KEYS = ['saveSeconds', 'pauseMs', 'imageBytes', 'storedBytes', 'bootToUserMs'] as const

export function mediansOf(rounds: readonly Round[]): Medians {
  const column = (key: keyof Measures) => ({
    stock: median(rounds.map(round => round.stock[key])),
    permafrost: median(rounds.map(round => round.permafrost[key]))
  })
  return {
    saveSeconds: column('saveSeconds'),
    pauseMs: column('pauseMs'),
    imageBytes: column('imageBytes'),
    storedBytes: column('storedBytes'),
    bootToUserMs: column('bootToUserMs')
  }
}

/** The middle value, or the mean of the two in the middle; null when a value is missing. */
export function median(values: readonly (number | null)[]): number | null {
  const known = values.filter(value => value !== null).sort((a, b) => a - b)
  const upper = known[Math.floor(known.length / 2)]
  const lower = known[Math.ceil(known.length / 2) - 1]
  return known.length < values.length || upper === undefined || lower === undefined ? null : (lower + upper) / 2
}

export function tableOf(medians: Medians): string {
  const rows = KEYS.map(key => [COLUMNS[key], show(medians[key].stock), show(medians[key].permafrost)])
  return [['', 'stock lz4', 'Permafrost'], ...rows]
    .map(([title, stock, permafrost]) => `${(title ?? '').padEnd(36)}${(stock ?? '').padStart(14)}${(permafrost ?? '').padStart(14)}\n`)
    .join('')
}

function show(value: number | null): string {
  return value === null ? '-' : String(Math.round(value * 10) / 10)
}
