// Numbers by chance that come again with the same seed.
import {createHash} from 'node:crypto'
import type {Random} from '../lab/write-cache.js'

/** Each number is made of the digest of seed and position. */
export function seededRandom(seed: string): Random {
  let position = 0
  return () => createHash('sha256').update(`${seed} ${position++}`).digest().readUInt32LE(0) / 2 ** 32
}
