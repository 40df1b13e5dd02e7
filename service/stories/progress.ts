import type {WriteProgress} from '../image/write.js'

export interface Progress {
  /** 0 to 1. */
  readonly fraction: number
  readonly bytesRead: number
  readonly bytesTotal: number
  readonly bytesStored: number
  /** Null until there is something to judge by. */
  readonly secondsLeft: number | null
}

/** More often nobody looks. */
const INTERVAL_MS = 100
/** Sooner the rate of the first chunks says nothing. */
const JUDGED_AFTER_MS = 500

/** Passes on what is worth telling, with an estimate of the time left. */
export function reportProgress(
  onProgress: (progress: Progress) => void,
  now: () => number = () => performance.now(),
): (progress: WriteProgress) => void {
  const startedMs = now()
  let toldMs = Number.NEGATIVE_INFINITY
  return ({bytesRead, bytesTotal, bytesStored}) => {
    const atMs = now()
    if (atMs - toldMs < INTERVAL_MS && bytesRead < bytesTotal) return
    toldMs = atMs
    const elapsedMs = atMs - startedMs
    const isJudged = elapsedMs >= JUDGED_AFTER_MS && bytesRead > 0
    const secondsLeft = isJudged ? ((bytesTotal - bytesRead) * elapsedMs) / bytesRead / 1000 : null
    onProgress({fraction: bytesTotal === 0 ? 1 : bytesRead / bytesTotal, bytesRead, bytesTotal, bytesStored, secondsLeft})
  }
}
