import type {Log} from '../edge/journal.js'
import {causeText} from '../errors.js'
import type {Needed} from '../policy/match.js'
import {describeFigures, printFigures} from './figures.js'
import type {SnapshotOutcome} from './snapshot.js'

/** MESSAGE_ID of the entry that says how an attempt ended and what it measured: `journalctl MESSAGE_ID=…`. */
export const ATTEMPT_ENDED = 'a35d402e0c080b247e767bfb8ae661c0'
/** In front of the names of figures, as journal fields. */
export const FIGURE_PREFIX = 'PERMAFROST_FIGURE_'

/** One entry with everything there is to know of an attempt, each part a field of its own. */
export function reportAttempt(log: Log, outcome: SnapshotOutcome, needed: readonly Needed[]): void {
  const figures = Object.entries(printFigures(outcome.figures))
  log.info(`${TITLES[outcome.kind]}: ${describeFigures(outcome.figures)}`, {
    MESSAGE_ID: ATTEMPT_ENDED,
    PERMAFROST_RESULT: outcome.kind,
    ...(outcome.kind === 'rolled-back' ? {PERMAFROST_CAUSE: causeText(outcome.cause)} : {}),
    PERMAFROST_KEPT: needed.map(({command, pid}) => `${command}[${pid}]`).join(' '),
    ...Object.fromEntries(figures.map(([name, value]) => [`${FIGURE_PREFIX}${name.toUpperCase()}`, value])),
  })
}

const TITLES: Readonly<Record<SnapshotOutcome['kind'], string>> = {resumed: 'Resumed', merged: 'Merged', 'rolled-back': 'Rolled back'}
