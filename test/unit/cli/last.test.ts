import test from 'ava'
import {lastLines, parseLastAttempt} from '../../../service/cli/last.js'
import {reportAttempt} from '../../../service/stories/report.js'
import {AbortedError} from '../../../service/errors.js'
import type {HibernateOutcome} from '../../../service/stories/hibernate.js'

test('shows of the journal what was reported to it', (t) => {
  const last = throughJournal({kind: 'resumed', figures: {pause_ns: 812_400_000n, stored_bytes: 3 * 2 ** 20, save_ms: 5100, pages_copied: 22_000}})
  t.is(last?.result, 'resumed')
  t.deepEqual(lastLines(last), [
    'Ended   2026-11-21T05:00:00.000Z',
    'Result  resumed',
    'Kept    nbd-client[70] sshd[71]',
    '  pages copied         22000',
    '  pause                812.4 ms',
    '  save                 5100 ms',
    '  stored               3 MiB',
  ])
})

test('shows why an attempt was rolled back', (t) => {
  const last = throughJournal({kind: 'rolled-back', cause: new AbortedError(), figures: {}})
  t.is(lastLines(last)[1], 'Result  rolled-back: Cannot finish hibernating: it was aborted')
})

test('says so when the journal has no attempt', (t) => {
  t.is(parseLastAttempt(''), null)
  t.deepEqual(lastLines(null), ['No hibernation is in the journal, as far as you may read it.'])
})

test('leaves out what is no figure, whoever wrote it', (t) => {
  const last = parseLastAttempt(JSON.stringify({
    PERMAFROST_FIGURE_A_MS: 'many', PERMAFROST_FIGURE_B_MS: [1, 2], PERMAFROST_FIGURE_C_MS: '7', PERMAFROST_KEPT: null,
  }))
  t.deepEqual(last?.figures, {c_ms: 7})
  t.is(last?.kept, '')
})

/** Reports an attempt and reads it as journalctl would show it. */
function throughJournal(outcome: HibernateOutcome) {
  let entry: Readonly<Record<string, string>> = {}
  const log = {
    info: (text: string, fields?: Readonly<Record<string, string>>): void => {
      entry = {MESSAGE: text, ...fields}
    },
    warning: () => undefined,
    error: () => undefined,
    flush: () => undefined,
  }
  const kept = [{pid: 70, command: 'nbd-client'}, {pid: 71, command: 'sshd'}].map((each) => ({...each, unit: null, line: 'x:1', reason: 'test'}))
  reportAttempt(log, outcome, kept)
  return parseLastAttempt(JSON.stringify({...entry, __REALTIME_TIMESTAMP: String(Date.UTC(2026, 10, 21, 5) * 1000)}))
}
