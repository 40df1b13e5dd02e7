import {createHash, randomBytes} from 'node:crypto'
import {chmodSync, existsSync, readFileSync, truncateSync, unlinkSync, writeFileSync} from 'node:fs'
import {setTimeout as delay} from 'node:timers/promises'
import test from 'ava'
import fc from 'fast-check'
import {alignUp} from '../../service/edge/aligned.js'
import {openFiles} from '../../service/edge/files.js'
import type {Chunk} from '../../service/image/chunk.js'
import {loadDigest} from '../../service/image/digest.js'
import {encodeHeader} from '../../service/image/header.js'
import {loadLz4} from '../../service/image/lz4.js'
import {AwaySink} from '../../service/sinks/away-sink.js'
import {SpareDevice} from '../../service/sinks/spare-device.js'
import {LoaderBuild} from './loader-build.js'
import {withLoaderOr} from './with-loader.js'

const loader = new LoaderBuild()
const digest = loadDigest()
const KERNEL = {sysname: 'Linux', release: '6.12', version: '#1', machine: 'x86_64', physicalPages: 1}
/** The loader reads a stream in parts of 256 KiB: one chunk has less than that, one has more. */
const CHUNK_BYTES = [300_000, 64, 700_000]

const withLoader = withLoaderOr('the loader is not tested', loader)

withLoader('takes the stream that the spare device gives leave to', async t => {
  const {spare, stream} = await saveAway()
  t.regex(loader.inspect(spare, ['--foreign']).stdout, /^state: away$/m)
  const answer = loader.inspect(spare, ['--foreign', '--from', loader.write(stream)])
  t.is(answer.refused, null)
  t.true(answer.isGood)
})

withLoader('takes it in whatever pieces it was cut', async t => {
  const {spare, stream} = await saveAway()
  const answer = loader.inspect(spare, ['--foreign', '--from', loader.write(recut(stream, 4096))])
  t.is(answer.refused, null)
})

withLoader('refuses the stream of another image, however right it is', async t => {
  const {stream} = await saveAway()
  const {spare} = await saveAway()
  t.is(loader.inspect(spare, ['--foreign', '--from', loader.write(stream)]).refused, 'the stream is that of another image')
})

withLoader('refuses a stream that is another one behind its opening', async t => {
  const first = await saveAway()
  const second = await saveAway({imageId: first.imageId})
  t.regex(String(loader.inspect(first.spare, ['--foreign', '--from', loader.write(second.stream)]).refused), /chunk 0 has a wrong digest/)
})

withLoader('refuses what is no stream, and says so', async t => {
  const {spare} = await saveAway()
  t.regex(String(loader.inspect(spare, ['--foreign', '--from', loader.write(Buffer.alloc(200))]).refused), /is no image stream$/)
  const words = Buffer.from(`IP-Config: eth0 complete\n${'x'.repeat(100)}`)
  t.regex(String(loader.inspect(spare, ['--foreign', '--from', loader.write(words)]).refused), /is no image stream, it begins with 'IP-Config: eth0 complete'$/)
  t.regex(String(loader.inspect(spare, ['--foreign', '--from', loader.write(Buffer.alloc(0))]).refused), /ends before the image is complete/)
})

withLoader('ends a program that brings no stream, with all that it has started', async t => {
  const [child, script] = [loader.write(Buffer.alloc(0)), loader.write(Buffer.from(''))]
  writeFileSync(script, `#!/bin/sh\nsleep 1000 & echo $! > ${child}\nyes 'no image'\n`)
  chmodSync(script, 0o755)
  const {status, stderr} = loader.run(['resume', '--from-program', script])
  t.is(status, 1)
  t.regex(stderr, /is no image stream, it begins with 'no image'/)
  const pid = readFileSync(child, 'utf8').trim()
  t.regex(pid, /^\d+$/)
  // A signal needs its time to reach all of them.
  for (let count = 0; isRunning(pid) && count < 500; count++) await delay(10)
  t.false(isRunning(pid))
})

withLoader('says why a program cannot be run', async t => {
  const {status, stderr} = loader.run(['resume', '--from-program', '/nonexistent/program'])
  t.is(status, 1)
  t.regex(stderr, /cannot run '\/nonexistent\/program': No such file/)
})

withLoader('refuses a stream cut short anywhere, or with any bit wrong', async t => {
  const {spare, stream} = await saveAway()
  const damaged = (bytes: Buffer): string | null => {
    const path = loader.write(bytes)
    const {refused, signal} = loader.inspect(spare, ['--foreign', '--from', path])
    unlinkSync(path)
    t.is(signal, null)
    return refused
  }
  fc.assert(fc.property(fc.integer({min: 0, max: stream.length - 1}), length => damaged(stream.subarray(0, length)) !== null), {numRuns: 40})
  fc.assert(fc.property(fc.integer({min: 0, max: stream.length * 8 - 1}), bit => {
    const bytes = Buffer.from(stream)
    bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    return damaged(bytes) !== null
  }), {numRuns: 60})
})

withLoader('stays inside its memory whatever the frames of a stream claim', async t => {
  const {spare, stream} = await saveAway()
  const starts = frameStarts(stream)
  fc.assert(fc.property(
    fc.nat(starts.length - 1), fc.constantFrom(0, 4, 8), fc.oneof(fc.nat(10), fc.integer({min: 0, max: 2 ** 32 - 1})),
    (index, field, value) => {
      const bytes = Buffer.from(stream)
      const start = starts[index] ?? 0
      bytes.writeUInt32LE(value, start + field)
      bytes.writeBigUInt64LE(digest.ofBytes(bytes.subarray(start, start + 24)), start + 24)
      const path = loader.write(bytes)
      const {signal, status} = loader.inspectSanitized(spare, ['--foreign', '--from', path])
      unlinkSync(path)
      return signal === null && (status === 0 || status === 1)
    }), {numRuns: 40})
  t.pass()
})

withLoader('refuses a stream of which the spare device gives its chunks in another order', async t => {
  const {spare, stream} = await saveAway({chunksReversed: true})
  t.regex(String(loader.inspect(spare, ['--foreign', '--from', loader.write(stream)]).refused), /lies before the one before it/)
})

/** A spare device, as a file, that gives leave to a stream, as the service makes both. */
async function saveAway({imageId = randomBytes(16).toString('hex'), chunksReversed = false} = {}) {
  const path = loader.write(Buffer.alloc(0))
  truncateSync(path, 64 * 2 ** 20)
  const spare = new SpareDevice(path, {files: openFiles(), digest})
  await spare.setUp({isForced: true})
  const pieces: Buffer[] = []
  const target = {
    name: 'test',
    inspect: async () => ({freeBytes: Number.POSITIVE_INFINITY}),
    open: async () => ({
      append: async (bytes: Buffer) => void pieces.push(Buffer.from(bytes)),
      finish: async () => {},
      [Symbol.asyncDispose]: async () => {},
    }),
  }
  await using session = await new AwaySink({spare, target, digest, grantsResume: true, settle: async () => {}}).begin({imageId})
  const chunks: Chunk[] = []
  for (const [index, rawBytes] of CHUNK_BYTES.entries()) {
    const {bytes, storedBytes, codec} = await encode(index === 0 ? randomBytes(rawBytes) : textOf(rawBytes))
    const offset = session.reserve(bytes.length)
    await session.write(bytes, offset)
    chunks.push({offset, storedBytes, rawBytes, digest: digest.ofBytes(bytes.subarray(0, storedBytes)), codec})
  }
  if (chunksReversed) chunks.reverse()
  const header = encodeHeader({kernel: KERNEL, chunks, fileSystems: [], figures: {pause_ns: '1'}, text: {}})
  const sum = (of: (chunk: Chunk) => number): number => chunks.reduce((all, chunk) => all + of(chunk), 0)
  await session.complete({header, storedBytes: sum(({storedBytes}) => storedBytes), streamBytes: sum(({rawBytes}) => rawBytes)})
  return {spare: path, stream: Buffer.concat(pieces), imageId}
}

async function encode(raw: Buffer): Promise<{bytes: Buffer; storedBytes: number; codec: 'lz4' | 'stored'}> {
  const packed = Buffer.alloc(raw.length)
  const length = await loadLz4().compress(raw, packed)
  const isPacked = length > 0 && length < raw.length
  const storedBytes = isPacked ? length : raw.length
  const bytes = Buffer.alloc(alignUp(storedBytes))
  ;(isPacked ? packed : raw).copy(bytes, 0, 0, storedBytes)
  return {bytes, storedBytes, codec: isPacked ? 'lz4' : 'stored'}
}

function textOf(bytes: number): Buffer {
  return Buffer.alloc(bytes, createHash('sha256').update(String(bytes)).digest('hex'))
}

function frameStarts(stream: Buffer): readonly number[] {
  const starts: number[] = []
  for (let at = 64; at < stream.length; at += 32 + stream.readUInt32LE(at + 4)) starts.push(at)
  return starts
}

/** The same stream in pieces of that many bytes. */
function recut(stream: Buffer, pieceBytes: number): Buffer {
  const parts = [stream.subarray(0, 64)]
  for (const start of frameStarts(stream)) {
    const payload = stream.subarray(start + 32, start + 32 + stream.readUInt32LE(start + 4))
    if (stream.readUInt32LE(start) !== 1) {
      parts.push(stream.subarray(start, start + 32), payload)
      continue
    }
    const offset = Number(stream.readBigUInt64LE(start + 8))
    for (let at = 0; at < payload.length; at += pieceBytes) {
      const piece = payload.subarray(at, at + pieceBytes)
      const frame = Buffer.alloc(32)
      frame.writeUInt32LE(1, 0)
      frame.writeUInt32LE(piece.length, 4)
      frame.writeBigUInt64LE(BigInt(offset + at), 8)
      frame.writeBigUInt64LE(digest.ofBytes(piece), 16)
      frame.writeBigUInt64LE(digest.ofBytes(frame.subarray(0, 24)), 24)
      parts.push(frame, piece)
    }
  }
  return Buffer.concat(parts)
}

/** A zombie is not. */
function isRunning(pid: string): boolean {
  return existsSync(`/proc/${pid}/stat`) && !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
}
