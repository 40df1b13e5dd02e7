import test from 'ava'
import {median, mediansOf, tableOf} from '../../bench/summary.js'

test('gives the middle of an odd and the mean of an even number of values', t => {
  t.is(median([9, 1, 5]), 5)
  t.is(median([4, 1, 2, 10]), 3)
})

test('does not give a median when a value is missing', t => {
  t.is(median([1, null, 3]), null)
  t.is(median([]), null)
})

test('shows both paths side by side', t => {
  const stock = {saveSeconds: 4.24, pauseMs: 4000, imageBytes: 10, storedBytes: 5, bootToUserMs: 6400}
  const permafrost = {...stock, saveSeconds: 3, pauseMs: null}
  const table = tableOf(mediansOf([{stock, permafrost}]))
  t.regex(table, /save, request to power off \[s\]\s+4\.2\s+3\n/)
  t.regex(table, /stopped \[ms\]\s+4000\s+-\n/)
})
