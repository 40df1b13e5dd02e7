/**
 * Parsers of single values, with the notation systemd uses for them. Each gives undefined for
 * a value it does not take; who calls it knows the file and line to complain about.
 */

const SIZE_UNITS: Readonly<Record<string, number>> = {'': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40}

/** `64M`, `1.5G`, `4096`: bytes, base 1024. */
export function parseSize(text: string): number | undefined {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)\s*([KMGT]?)B?$/.exec(text) ?? []
  const factor = SIZE_UNITS[unit ?? '']
  if (amount === undefined || factor === undefined) return undefined
  const bytes = Math.round(Number(amount) * factor)
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

const TIME_UNITS_MS: Readonly<Record<string, number>> = {
  '': 1000,
  ms: 1, msec: 1,
  s: 1000, sec: 1000, second: 1000, seconds: 1000,
  m: 60_000, min: 60_000, minute: 60_000, minutes: 60_000,
  h: 3_600_000, hr: 3_600_000, hour: 3_600_000, hours: 3_600_000,
}

/** `20`, `20s`, `2min 30s`, `500ms` as in systemd.time(7): milliseconds; a bare number is seconds. */
export function parseTimeSpan(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?\s*[a-z]*\s*)+$/.test(text)) return undefined
  let sumMs = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]*)/g)) {
    const factor = TIME_UNITS_MS[unit ?? '']
    if (factor === undefined) return undefined
    sumMs += Number(amount) * factor
  }
  return Math.round(sumMs)
}

/** As systemd reads them: systemd.syntax(7). */
export function parseBoolean(text: string): boolean | undefined {
  if (/^(1|yes|y|true|t|on)$/i.test(text)) return true
  return /^(0|no|n|false|f|off)$/i.test(text) ? false : undefined
}

export function parseInteger(text: string): number | undefined {
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

/** An absolute path that names one thing only: no `//`, no `.` or `..`. */
export function parseAbsolutePath(text: string): string | undefined {
  const isPlain = /^\/[^\0]*$/.test(text) && !text.split('/').slice(1).some((part) => part === '' || part === '.' || part === '..')
  return isPlain ? text : undefined
}
