import {FaultInjectedError} from '../errors.js'

/**
 * Points at which a test lets the story fail or the service die, in the order in which they
 * are passed; of 'fingerprints-read' and 'first-chunk-written' either may be the first.
 * PERMAFROST_FAULT=NAME or NAME:fail makes the point throw, NAME:kill ends the process there as a crash
 * would; several, with commas between them, reach a point of the way back.
 * Where the variable is not set a point costs an empty call.
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
  'resumed-thawed',
  'image-given-up',
  'merges-noted',
  'merge-begun',
  'thawed',
  'merged',
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
  const wanted = new Map(setting.split(',').map((one) => parseFault(one, setting)))
  return {
    hit(passed) {
      const kind = wanted.get(passed)
      if (kind === undefined) return
      if (kind === 'kill') process.kill(process.pid, 'SIGKILL')
      throw new FaultInjectedError(passed)
    },
  }
}

function parseFault(text: string, setting: string): [FaultPoint, Kind] {
  const [name, kind = 'fail'] = text.split(':')
  const point = FAULT_POINTS.find((known) => known === name)
  if (point === undefined || !isKind(kind)) {
    throw new Error(`Cannot use PERMAFROST_FAULT='${setting}': expected NAME[:fail|:kill][,…], NAME one of ${FAULT_POINTS.join(' ')}`)
  }
  return [point, kind]
}

function isKind(text: string): text is Kind {
  return text === 'fail' || text === 'kill'
}
