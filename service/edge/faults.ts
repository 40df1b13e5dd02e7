import {FaultInjectedError} from '../errors.js'

/**
 * Points at which a test lets the story fail or the service die, in the order in which they
 * are passed. PERMAFROST_FAULT=NAME or NAME:fail makes the point throw, NAME:kill ends the process
 * there as a crash would. Where the variable is not set a point costs an empty call.
 */
export const FAULT_POINTS = [
  'preflight-passed',
  'base-created',
  'cow-created',
  'tables-loaded',
  'image-begun',
  'frozen',
  'needed-running',
  'snapshot-taken',
  'fingerprints-read',
  'first-chunk-written',
  'stream-written',
  'image-valid',
  'resumed',
  'merge-begun',
  'thawed',
] as const

export type FaultPoint = (typeof FAULT_POINTS)[number]

export interface Faults {
  hit(point: FaultPoint): void
}

export const NO_FAULTS: Faults = {hit() {}}

type Kind = 'fail' | 'kill'

/** Throws where `setting` names no point, so that no test passes for a misspelling. */
export function parseFaults(setting: string | undefined): Faults {
  if (setting === undefined || setting === '') return NO_FAULTS
  const [name, kind = 'fail'] = setting.split(':')
  const point = FAULT_POINTS.find((known) => known === name)
  if (point === undefined || !isKind(kind)) {
    throw new Error(`Cannot use PERMAFROST_FAULT='${setting}': expected NAME[:fail|:kill], NAME one of ${FAULT_POINTS.join(' ')}`)
  }
  return {
    hit(passed) {
      if (passed !== point) return
      if (kind === 'kill') process.kill(process.pid, 'SIGKILL')
      throw new FaultInjectedError(point)
    },
  }
}

function isKind(text: string): text is Kind {
  return text === 'fail' || text === 'kill'
}
