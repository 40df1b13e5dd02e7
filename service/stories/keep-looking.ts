import {setTimeout as sleep} from 'node:timers/promises'

export interface Looking {
  /** Throws what is to be reported. */
  readonly look: () => Promise<void>
  readonly intervalMs: number
  /** Called at most once; nobody looks any more then. */
  readonly onFailure: (error: unknown) => void
  /** Nobody looks any more once it is aborted. */
  readonly signal: AbortSignal
}

/** Looks at once, and again and again, until something is found. Disposing of it waits for the look that is under way. */
export function keepLooking(job: Looking): AsyncDisposable {
  const done = new AbortController()
  const looking = lookUntilDone(job, done.signal)
  return {
    async [Symbol.asyncDispose]() {
      done.abort()
      await looking
    },
  }
}

async function lookUntilDone({look, intervalMs, onFailure, signal}: Looking, done: AbortSignal): Promise<void> {
  try {
    while (!done.aborted && !signal.aborted) {
      await look()
      await sleep(intervalMs, undefined, {signal: done})
    }
  } catch (error) {
    if (!done.aborted) onFailure(error)
  }
}
