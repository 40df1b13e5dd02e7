import {mkdtempSync, rmSync, truncateSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {setImmediate, setTimeout as delay} from 'node:timers/promises'
import test from 'ava'
import {allocateAligned} from '../../../service/edge/aligned.js'
import {DirectDevice} from '../../../service/edge/direct-device.js'
import {openFiles} from '../../../service/edge/files.js'
import {SinkError} from '../../../service/errors.js'
import {loadDigest} from '../../../service/image/digest.js'
import {layOutDevice} from '../../../service/sinks/layout.js'
import {writeSuperblock} from '../../../service/sinks/spare-access.js'
import {SpareDevice} from '../../../service/sinks/spare-device.js'
import {FLUSH_AFTER_BYTES, SpareSession} from '../../../service/sinks/spare-session.js'

const MIB = 2 ** 20
const PIECE = allocateAligned(4 * MIB)
const PIECES_OF_A_FLUSH = FLUSH_AFTER_BYTES / PIECE.length
const directory = mkdtempSync(join(tmpdir(), 'permafrost-session-'))
const digest = loadDigest()
test.after.always(() => rmSync(directory, {recursive: true}))

test('the device flushes while chunks go on, once for so many bytes', async (t) => {
  const {session, device} = await openSession()
  const flush = holdFlushes(device)
  await writePieces(session, PIECES_OF_A_FLUSH - 1)
  t.is(flush.count, 0)
  await writePieces(session, 1)
  t.is(flush.count, 1)
  await writePieces(session, PIECES_OF_A_FLUSH)
  t.is(flush.count, 1, 'a second flush while the first is under way')
  flush.end()
  await setImmediate()
  await writePieces(session, 1)
  t.is(flush.count, 2)
  flush.end()
  await session[Symbol.asyncDispose]()
})

test('an image of which a part could not be flushed does not become valid', async (t) => {
  const {session, device, path} = await openSession()
  const flush = holdFlushes(device)
  await writePieces(session, PIECES_OF_A_FLUSH)
  flush.fail(new Error('EIO: i/o error, fsync'))
  await setImmediate()
  await writePieces(session, PIECES_OF_A_FLUSH)
  t.is(flush.count, 1, 'a later flush would take the place of the one that failed')
  flush.stop()
  await t.throwsAsync(session.complete({header: Buffer.from('header'), storedBytes: 1, streamBytes: 1}), {
    instanceOf: SinkError,
    message: /EIO/,
  })
  await session[Symbol.asyncDispose]()
  t.is(await new SpareDevice(path, {files: openFiles(), digest}).readState(), 'writing')
})

test('the device is closed when a flush under way has ended, and not before', async (t) => {
  const {session, device} = await openSession()
  const flush = holdFlushes(device)
  await writePieces(session, PIECES_OF_A_FLUSH)
  let isClosed = false
  const closing = session[Symbol.asyncDispose]().then(() => {
    isClosed = true
  })
  await delay(50)
  t.false(isClosed)
  flush.fail(new Error('EIO: i/o error, fsync'))
  await closing
  flush.stop()
  await t.throwsAsync(device.flush(), undefined, 'the device is open')
})

async function openSession(): Promise<{readonly session: SpareSession; readonly device: DirectDevice; readonly path: string}> {
  const path = join(directory, `${Math.random()}`)
  const deviceBytes = 512 * MIB
  writeFileSync(path, '')
  truncateSync(path, deviceBytes)
  const device = await DirectDevice.openForWriting(path, {isExclusive: false})
  const superblock = {...layOutDevice({device: path, deviceBytes, deviceId: '0'.repeat(32)}), state: 'writing'} as const
  await writeSuperblock(device, path, superblock, digest)
  return {session: new SpareSession({path, device, superblock, digest, becomes: 'valid'}), device, path}
}

async function writePieces(session: SpareSession, count: number): Promise<void> {
  for (let piece = 0; piece < count; piece++) await session.write(PIECE, session.reserve(PIECE.length))
}

/** Flushes that take as long as the test wants. */
function holdFlushes(device: DirectDevice): {readonly count: number; end(): void; fail(error: Error): void; stop(): void} {
  const flush = device.flush.bind(device)
  let count = 0
  let end = (): void => {}
  let fail: (error: Error) => void = () => {}
  device.flush = () => {
    count++
    return new Promise((resolve, reject) => {
      end = resolve
      fail = reject
    })
  }
  return {
    get count() {
      return count
    },
    end: () => end(),
    fail: (error) => fail(error),
    stop() {
      device.flush = flush
    },
  }
}
