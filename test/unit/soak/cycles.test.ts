import test from 'ava'
import {spreadsOf} from '../../soak/outcome.js'
import {judgeTimers, type Reading} from '../../soak/work/timers.js'

test('the spread of a figure is its least, its median and its most', t => {
  t.deepEqual(spreadsOf([{ms: 30}, {ms: 10}, {ms: 20}]), {ms: {least: 10, median: 20, most: 30}})
  t.deepEqual(spreadsOf([{ms: 4}, {ms: 1}, {ms: 3}, {ms: 2}]), {ms: {least: 1, median: 2.5, most: 4}})
  t.deepEqual(spreadsOf([]), {})
})

const SECOND = 1e6
const AFTER = {atMs: 45_000, tookMs: 0}
/** The machine was asked, ran for ten seconds, had no power for thirty, and ran for five. */
const OFF = {fromMs: 10_000, untilMs: 40_000}
const BEFORE: Reading = {
  atMs: 0,
  tookMs: 0,
  fields: {
    monotonic: 100 * SECOND, boottime: 200 * SECOND, realtime: 1.7e15, left_monotonic: 1000 * SECOND, left_boottime: 1000 * SECOND, slept: 10, early: 0
  }
}
const RIGHT = {
  monotonic: 115 * SECOND, boottime: 245 * SECOND, realtime: 1.7e15 + 45 * SECOND, left_monotonic: 985 * SECOND, left_boottime: 955 * SECOND, slept: 20, early: 0
}

const WRONG: Readonly<Record<string, {readonly fields: Partial<typeof RIGHT>, readonly complaint: RegExp}>> = {
  'a clock that should have stood still went on': {
    fields: {monotonic: 145 * SECOND, left_monotonic: 955 * SECOND}, complaint: /^CLOCK_MONOTONIC ran/
  },
  'a clock that should have gone on stood still': {
    fields: {boottime: 215 * SECOND, left_boottime: 985 * SECOND}, complaint: /^CLOCK_BOOTTIME did not/
  },
  'the wall clock stood still': {fields: {realtime: 1.7e15 + 15 * SECOND}, complaint: /^CLOCK_REALTIME did not/},
  'a timer lost time that its clock has not counted': {fields: {left_monotonic: 955 * SECOND}, complaint: /^what is left .*MONOTONIC/},
  'a sleep was too short': {fields: {early: 1}, complaint: /^a sleep was too short/},
  'no sleep has ended': {fields: {slept: 10}, complaint: /^no sleep/}
}

test('clocks and timers that are right are found right', t => {
  t.deepEqual(judgeTimers(BEFORE, {...AFTER, fields: RIGHT}, OFF, 1), [])
})

for (const [what, {fields, complaint}] of Object.entries(WRONG)) {
  test(`it is noticed when ${what}`, t => {
    const complaints = judgeTimers(BEFORE, {...AFTER, fields: {...RIGHT, ...fields}}, OFF, 1)
    t.is(complaints.length, 1)
    t.regex(complaints[0] ?? '', complaint)
  })
}
