/** How far saving has come. */
export interface ProgressFigures {
  readonly fraction: number
  readonly bytesRead: number
  readonly bytesTotal: number
  readonly secondsLeft: number | null
}

/** `saving 40 % (123 MiB of 310 MiB, 3 s left)` */
export function formatProgress(progress: ProgressFigures): string {
  const left = progress.secondsLeft === null ? '' : `, ${Math.ceil(progress.secondsLeft)} s left`
  const read = Math.floor(progress.bytesRead / 2 ** 20)
  const total = Math.ceil(progress.bytesTotal / 2 ** 20)
  return `saving ${percent(progress.fraction)} % (${read} MiB of ${total} MiB${left})`
}

export function percent(fraction: number): number {
  return Math.floor(Math.min(Math.max(fraction, 0), 1) * 100)
}
