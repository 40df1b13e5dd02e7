import test from 'ava'
import {median, ratiosOf, summarize, tableOf, worstOf} from '../../bench/summary.js'

const STOCK = {saveSeconds: 4.24, pauseMs: 4000, imageBytes: 10, storedBytes: 5, bootToUserMs: 6400}

test('gives the middle of an odd and the mean of an even number of values', t => {
  t.is(median([9, 1, 5]), 5)
  t.is(median([4, 1, 2, 10]), 3)
})

test('does not give a median when a value is missing', t => {
  t.is(median([1, null, 3]), null)
  t.is(median([]), null)
})

test('shows the paths side by side, with how far the rounds lie apart', t => {
  const rounds = [3, 2, 7].map(saveSeconds => ({'stock lz4': STOCK, Permafrost: {...STOCK, saveSeconds, pauseMs: null}}))
  const summary = summarize(rounds)
  const table = tableOf(summary, ratiosOf(summary, 'stock lz4'))
  t.regex(table, /stock lz4 +Permafrost\n/)
  t.regex(table, /save, request to power off \[s\] +4\.2 +3 \(2–7\)\n/)
  t.regex(table, /stopped \[ms\] +4000 +-\n/)
})

test('says how much of the stock path ours takes, and the worst of several', t => {
  const ratiosFor = (saveSeconds: number, storedBytes: number) =>
    ratiosOf(summarize([{'stock lz4': STOCK, Permafrost: {...STOCK, saveSeconds, storedBytes}}]), 'stock lz4')
  t.deepEqual(ratiosFor(2.12, 6), {save: 0.5, resume: 1, bytes: 1.2})
  t.deepEqual(worstOf([ratiosFor(2.12, 6), ratiosFor(4.24, 5)]), {save: 1, resume: 1, bytes: 1.2})
})

test('gives no ratio to a path that was not measured', t => {
  t.deepEqual(ratiosOf(summarize([{Permafrost: STOCK}]), 'stock lz4'), {save: null, resume: null, bytes: null})
})
