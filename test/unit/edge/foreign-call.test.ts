import {pbkdf2} from 'node:crypto'
import {setImmediate} from 'node:timers/promises'
import {promisify} from 'node:util'
import test from 'ava'
import {loadDigest} from '../../../service/image/digest.js'
import {loadLz4} from '../../../service/image/lz4.js'
import {collectGarbage} from '../fakes/garbage.js'

const BYTES = 2 ** 20
/** Of libuv: docs.libuv.org, "Thread pool work scheduling". */
const MOST_THREADS = Number(process.env['UV_THREADPOOL_SIZE'] ?? 4)
const ITERATIONS = 300_000

interface Begun {
  readonly buffers: readonly Uint8Array[]
  readonly ended: Promise<unknown>
}

const lz4 = loadLz4()
const digest = loadDigest()

// Memory that nobody but the call holds must not be given back while a thread writes to it.
test.serial('compress: memory of a call is not collected before it has ended', async t => {
  t.is(await collectedEarly(() => {
    const buffers = [new Uint8Array(BYTES), new Uint8Array(BYTES)] as const
    return {buffers, ended: lz4.compress(...buffers)}
  }), 0)
})

test.serial('decompress: memory of a call is not collected before it has ended', async t => {
  t.is(await collectedEarly(() => {
    const buffers = [new Uint8Array(BYTES), new Uint8Array(BYTES)] as const
    return {buffers, ended: lz4.decompress(...buffers)}
  }), 0)
})

test.serial('ofLargeBytes: memory of a call is not collected before it has ended', async t => {
  t.is(await collectedEarly(() => {
    const bytes = new Uint8Array(BYTES)
    return {buffers: [bytes], ended: digest.ofLargeBytes(bytes)}
  }), 0)
})

/** How many buffers of a call were gone after garbage had been collected while it waited for a thread. */
async function collectedEarly(begin: () => Begun): Promise<number> {
  for (let tries = 0; tries < 20; tries++) {
    const lost = await collectedWhilePending(begin)
    if (lost !== null) return lost
  }
  throw new Error('Each call had ended before garbage was collected: nothing to be seen')
}

/** Null when the call had ended before. */
async function collectedWhilePending(begin: () => Begun): Promise<number | null> {
  const busy = keepThreadsBusy()
  const {memory, isPending, ended} = follow(begin)
  // What a WeakRef has been made of lives until the end of the job.
  await setImmediate()
  collectGarbage()
  const wasPending = isPending()
  const lost = memory.filter(reference => reference.deref() === undefined)
  await Promise.all([ended, ...busy])
  return wasPending ? lost.length : null
}

function keepThreadsBusy(): Promise<unknown>[] {
  return Array.from({length: MOST_THREADS}, async () => await promisify(pbkdf2)('', '', ITERATIONS, 64, 'sha512'))
}

/** Holds nothing that the call was given. */
function follow(begin: () => Begun) {
  const {buffers, ended} = begin()
  let isPending = true
  return {
    isPending: () => isPending,
    memory: buffers.map(({buffer}) => new WeakRef(buffer)),
    ended: ended.finally(() => { isPending = false })
  }
}
