// Which cases of a machine test run: all of them would make `npm test` too long.

/** Set to '1' by `npm run test:long`. */
const ALL = 'PERMAFROST_TEST_ALL'

/** Those for every run, and in the long one the others as well. */
export function casesOfRun<Case>(always: readonly Case[], inLongRun: readonly Case[]): readonly Case[] {
  return process.env[ALL] === '1' ? [...always, ...inLongRun] : always
}
