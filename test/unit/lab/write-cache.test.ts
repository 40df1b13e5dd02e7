import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {replay} from '../../lab/write-cache.js'
import {seededRandom} from '../../soak/random.js'

const SECTOR = 512
const FLUSH = 1

test('what was flushed is on the disk, and of the rest what chance leaves', t => {
  const log = [write(0, 'a'), write(1, 'b'), flush(), ...Array.from({length: 40}, (_, index) => write(2 + index, 'c'))]
  const {disk, settled} = settle(t, log, seededRandom('x'))
  t.is(disk.toString('latin1', 0, 2 * SECTOR), 'a'.repeat(SECTOR) + 'b'.repeat(SECTOR))
  const kept = Array.from({length: 40}, (_, index) => disk[(2 + index) * SECTOR] === 'c'.charCodeAt(0)).filter(Boolean).length
  t.true(kept > 5 && kept < 35, `${kept} kept`)
  t.deepEqual(settled, {writes: 43, unflushed: 40, lost: 40 - kept})
})

test('a machine that was switched off in order loses nothing', t => {
  const {disk, settled} = settle(t, [write(0, 'a'), write(0, 'b')], null)
  t.is(disk.toString('latin1', 0, SECTOR), 'b'.repeat(SECTOR))
  t.is(settled.lost, 0)
})

test('an entry that was on its way to the log ends it', t => {
  const {settled} = settle(t, [write(0, 'a'), flush(), Buffer.alloc(2 * SECTOR), write(1, 'b')], null)
  t.is(settled.writes, 2)
  const cutShort = settle(t, [write(0, 'a'), write(1, 'b').subarray(0, SECTOR + 7)], null)
  t.is(cutShort.settled.writes, 1)
})

test('the same seed gives the same chances, another one others', t => {
  const draw = (seed: string) => Array.from({length: 5}, seededRandom(seed))
  t.deepEqual(draw('1'), draw('1'))
  t.notDeepEqual(draw('1'), draw('2'))
  t.true(draw('1').every(number => number >= 0 && number < 1))
})

function write(sector: number, letter: string): Buffer {
  return Buffer.concat([entry(sector, 1, 0), Buffer.alloc(SECTOR, letter)])
}

function flush(): Buffer {
  return entry(0, 0, FLUSH)
}

function entry(sector: number, count: number, flags: number): Buffer {
  const bytes = Buffer.alloc(SECTOR)
  bytes.writeBigUInt64LE(BigInt(sector), 0)
  bytes.writeBigUInt64LE(BigInt(count), 8)
  bytes.writeBigUInt64LE(BigInt(flags), 16)
  return bytes
}

function settle(t: ExecutionContext, entries: readonly Buffer[], random: (() => number) | null) {
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-log-'))
  t.teardown(() => rmSync(directory, {recursive: true}))
  const [path, log] = [join(directory, 'disk'), join(directory, 'log')]
  writeFileSync(path, Buffer.alloc(64 * SECTOR))
  const head = Buffer.alloc(SECTOR)
  head.writeBigUInt64LE(0x6a736677736872n, 0)
  writeFileSync(log, Buffer.concat([head, ...entries]))
  const settled = replay(path, log, random)
  return {disk: readFileSync(path), settled}
}
