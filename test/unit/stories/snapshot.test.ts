import {readFileSync} from 'node:fs'
import test, {type ExecutionContext} from 'ava'
import {FAULT_POINTS, parseFaults} from '../../../service/edge/faults.js'
import type {ByteInput} from '../../../service/edge/pipe.js'
import {AbortedError, CowFullError, FaultInjectedError, FreezeError, MemoryRunsOutError, SinkError} from '../../../service/errors.js'
import {MERGE_SLOTS_BYTES, MERGE_SLOTS_OFFSET} from '../../../service/image/merge-list.js'
import {receiveImage} from '../../../service/image/stream-read.js'
import {decodeSuperblock} from '../../../service/image/superblock.js'
import {AwaySink} from '../../../service/sinks/away-sink.js'
import type {MergeNotes} from '../../../service/sinks/sink.js'
import type {StreamTarget} from '../../../service/sinks/stream-target.js'
import {recover} from '../../../service/stories/rollback.js'
import {snapshotRunning, type SnapshotRequest} from '../../../service/stories/snapshot.js'
import {assertAsBefore} from '../fakes/as-before.js'
import {fakeMachine, needed, ORIGINAL_TABLES, recordingRequest, type FakeMachine, type FakeMachineOptions} from '../fakes/machine.js'

test('after halt the power goes when the other side has everything, and by then the image may be resumed', async (t) => {
  const {fake, away, atPowerOff} = await untilPowerOff(t)
  t.deepEqual(fake.kernel.runningAtPowerOff, [[]])
  t.true(away.isFinished)
  t.like(atPowerOff, {state: 'away', streamBytes: fake.stream.length})
  const {superblock, header} = await received(fake, away)
  t.is(superblock.imageId, atPowerOff.imageId)
  t.is(superblock.headerDigest, atPowerOff.headerDigest)
  t.is(header.fileSystems.length, 2)
})

test('everybody runs before the first byte goes out, and what they write is on the list of merges', async (t) => {
  const away = new FakeTarget()
  const fake = await awayMachine(t, away)
  const seen: {isFrozen: boolean; merges: number}[] = []
  away.onAppend = async () => void seen.push({isFrozen: fake.kernel.isFrozen, merges: (await fake.spare.readMerges())?.merges.length ?? 0})
  await snapshotRunning(request('halt'), fake.machine)
  t.true(seen.length > 0)
  t.deepEqual(seen.filter(({isFrozen, merges}) => isFrozen || merges !== 2), [])
})

test('the list of merges is gone when the power goes, so that the next boot resumes', async (t) => {
  const {lists} = await untilPowerOff(t)
  t.true(lists[0]?.every((byte) => byte === 0))
})

test('while the list goes nobody runs but whom the policy names, and when the power goes nobody does', async (t) => {
  const fake = await awayMachine(t, new FakeTarget(), {needed: [needed(70), needed(71)]})
  const running: (readonly number[] | null)[] = []
  const mergeNotes: MergeNotes = {
    readMerges: () => fake.spare.readMerges(),
    recordMerges: (list) => fake.spare.recordMerges(list),
    clearMerges: () => {
      running.push(fake.kernel.isFrozen ? [...fake.kernel.unfrozen] : null)
      return fake.spare.clearMerges()
    },
  }
  await snapshotRunning(request('halt'), {...fake.machine, mergeNotes})
  t.deepEqual(running[0], [70, 71])
  t.deepEqual(fake.kernel.runningAtPowerOff, [[]])
})

test('when somebody does not stop for the second time the machine goes on as it was', async (t) => {
  const fake = await awayMachine(t, new FakeTarget())
  const outcome = await snapshotRunning({...request('halt'), onState: (state) => {
    if (state === 'powering-off') fake.kernel.failing = {call: 'freezeProcesses', error: new FreezeError(110, {pid: 9, command: 'dd'})}
  }}, fake.machine)
  t.regex(outcome.kind === 'rolled-back' ? outcome.cause.message : '', /'dd' \(pid 9\) does not stop/)
  t.is(fake.kernel.poweredOff, 0)
  await assertAsBefore(t, fake)
})

test('an image that may be resumed is held until the power goes, so that nobody swaps out over what it has there', async (t) => {
  const isHeld: boolean[] = []
  const away = new FakeTarget()
  const fake = await awayMachine(t, away, {onPowerOff: () => void isHeld.push(fake.kernel.isImageOpen)})
  away.onFinish = async () => void isHeld.push(fake.kernel.isImageOpen)
  await snapshotRunning(request('halt'), fake.machine)
  t.deepEqual(isHeld, [true, true])
})

test('an image that is given up takes no memory while the other side is busy', async (t) => {
  const isHeld: boolean[] = []
  const away = new FakeTarget()
  const fake = await awayMachine(t, away, {}, false)
  away.onFinish = async () => void isHeld.push(fake.kernel.isImageOpen)
  await snapshotRunning(request('merge'), fake.machine)
  t.deepEqual(isHeld, [false])
})

test('after merge the machine goes on as it was, and the image is one that was given up before anybody ran', async (t) => {
  const away = new FakeTarget()
  const fake = await awayMachine(t, away, {}, false)
  const states: string[] = []
  away.onAppend = async () => void states.push(await fake.imageState())
  const outcome = await snapshotRunning(request('merge'), fake.machine)
  t.is(outcome.kind, 'merged')
  t.true(away.isFinished)
  t.deepEqual([...new Set(states)], ['aborted'])
  const {superblock} = await received(fake, away)
  t.is(superblock.imageId, (await fake.spare.readSuperblock()).imageId)
  await assertAsBefore(t, fake)
})

test('in the resumed system nothing comes out, the image is marked and everybody runs', async (t) => {
  const away = new FakeTarget()
  const fake = await awayMachine(t, away, {side: 'resumed'})
  const outcome = await snapshotRunning(request('halt'), fake.machine)
  t.is(outcome.kind, 'resumed')
  t.is(away.bytes.length, 0)
  t.false(away.isFinished)
  t.is(await fake.imageState(), 'resumed')
  t.false(fake.kernel.isFrozen)
  t.deepEqual(await fake.liveTables(), ORIGINAL_TABLES)
})

for (const then of ['halt', 'merge'] as const) {
  for (const point of FAULT_POINTS.slice(1, FAULT_POINTS.indexOf('resumed'))) {
    test(`then ${then}: a failure at '${point}' ends with the machine as it was`, async (t) => {
      const fake = await awayMachine(t, new FakeTarget(), {faults: parseFaults(point)}, then === 'halt')
      const outcome = await snapshotRunning(request(then), fake.machine)
      t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof FaultInjectedError)
      await assertAsBefore(t, fake)
    })
  }
}

test('a reader that goes is named as the reason, and the machine goes on as it was', async (t) => {
  const away = new FakeTarget()
  const fake = await awayMachine(t, away)
  away.onAppend = async () => {
    throw Object.assign(new Error('write EPIPE'), {code: 'EPIPE', syscall: 'write'})
  }
  const outcome = await snapshotRunning(request('halt'), fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof SinkError)
  t.is(outcome.kind === 'rolled-back' ? outcome.cause.message : '', "Cannot write the image to 'target': whoever read it has gone")
  await assertAsBefore(t, fake)
})

test('a reader that cannot keep what it got is believed, and the image may not be resumed', async (t) => {
  const away = new FakeTarget()
  const fake = await awayMachine(t, away)
  away.onFinish = async () => {
    throw new Error('No space left on device')
  }
  const outcome = await snapshotRunning(request('halt'), fake.machine)
  t.regex(outcome.kind === 'rolled-back' ? outcome.cause.message : '', /No space left on device/)
  t.is(fake.kernel.poweredOff, 0)
  await assertAsBefore(t, fake)
})

test('a reader that has stopped reading is not waited for after an abort', async (t) => {
  const away = new FakeTarget()
  const fake = await awayMachine(t, away)
  const controller = new AbortController()
  away.onAppend = () => new Promise((_, reject) => {
    away.signal?.addEventListener('abort', () => reject(new Error('destroyed')))
    controller.abort(new AbortedError())
  })
  const outcome = await snapshotRunning({...request('halt'), signal: controller.signal}, fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof AbortedError)
  await assertAsBefore(t, fake)
})

test('a slice that fills up ends the snapshot before it overflows', async (t) => {
  const away = new FakeTarget()
  const fake = await awayMachine(t, away)
  fake.dm.statuses = ['1700/2048 16', '1700/2048 16', '16/2048 16']
  away.onAppend = () => untilAborted(away)
  const outcome = await snapshotRunning(request('halt'), fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof CowFullError)
  await assertAsBefore(t, fake)
})

test('the snapshot is given up before memory runs out', async (t) => {
  const away = new FakeTarget()
  const fake = await awayMachine(t, away, {tree: {texts: {'/proc/meminfo': 'MemTotal: 4000000 kB\nMemAvailable: 100000 kB\nMemFree: 400000 kB\n'}}})
  away.onAppend = () => untilAborted(away)
  const outcome = await snapshotRunning(request('halt'), fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof MemoryRunsOutError)
  await assertAsBefore(t, fake)
})

test('slices get the room of the image as well, but for its header', async (t) => {
  const fake = await awayMachine(t, new FakeTarget())
  const {imageAreaOffset, cowAreaOffset, cowAreaBytes} = await fake.spare.readSuperblock()
  const {offsetBytes, bytes} = await fake.machine.cow.area()
  t.is(offsetBytes, imageAreaOffset + 4 * 2 ** 20)
  t.is(offsetBytes + bytes, cowAreaOffset + cowAreaBytes)
})

test('a daemon killed after it gave leave to resume takes the leave back when it starts', async (t) => {
  const {fake} = await untilPowerOff(t)
  await using session = await fake.spare.beginAway('ab'.repeat(16))
  await session.complete({header: Buffer.alloc(64), storedBytes: 1, streamBytes: 1})
  t.is(await fake.imageState(), 'away')
  await recover(fake.machine)
  t.is(await fake.imageState(), 'aborted')
})

/** The other side, which keeps everything in memory. */
class FakeTarget implements StreamTarget {
  readonly name = 'target'
  bytes: Buffer = Buffer.alloc(0)
  isFinished = false
  signal: AbortSignal | null = null
  onAppend: () => Promise<void> = async () => {}
  onFinish: () => Promise<void> = async () => {}

  inspect = () => Promise.resolve({freeBytes: Number.POSITIVE_INFINITY})

  async open(signal: AbortSignal) {
    this.signal = signal
    return {
      append: async (bytes: Buffer) => {
        await this.onAppend()
        this.bytes = Buffer.concat([this.bytes, bytes])
      },
      finish: async () => {
        await this.onFinish()
        this.isFinished = true
      },
      [Symbol.asyncDispose]: async () => {},
    }
  }
}

async function untilAborted({signal}: FakeTarget): Promise<never> {
  await new Promise<void>((resolve) => signal?.aborted === true ? resolve() : signal?.addEventListener('abort', () => resolve()))
  throw new Error('destroyed')
}

async function awayMachine(t: ExecutionContext, target: StreamTarget, options: FakeMachineOptions = {}, grantsResume = true): Promise<FakeMachine> {
  const fake = await fakeMachine(t, options)
  const sink = new AwaySink({spare: fake.spare, target, digest: fake.machine.digest, grantsResume, settle: async () => {}})
  return {...fake, machine: {...fake.machine, sink, cow: sink}}
}

function request(then: 'halt' | 'merge'): SnapshotRequest {
  return {...recordingRequest(), then, onThawed: () => undefined}
}

/** What is on the spare device is looked at in the instant of the power-off: the test goes on with a roll-back. */
async function untilPowerOff(t: ExecutionContext) {
  const sectors: Buffer[] = []
  const lists: Buffer[] = []
  const away = new FakeTarget()
  const fake = await awayMachine(t, away, {
    onPowerOff: () => {
      const bytes = readFileSync(fake.spare.name)
      sectors.push(bytes.subarray(0, 512))
      lists.push(bytes.subarray(MERGE_SLOTS_OFFSET, MERGE_SLOTS_OFFSET + MERGE_SLOTS_BYTES))
    },
  })
  await snapshotRunning(request('halt'), fake.machine)
  return {fake, away, lists, atPowerOff: decodeSuperblock(sectors[0] ?? Buffer.alloc(0), fake.machine.digest, 'spare')}
}

async function received(fake: FakeMachine, {bytes}: FakeTarget) {
  let position = 0
  const input: ByteInput = {
    fill: async (target) => {
      const count = bytes.copy(target, 0, position)
      position += count
      return count
    },
  }
  return await receiveImage({input, digest: fake.machine.digest, where: 'stream'}, {open: async () => {}, take: async () => {}}, new AbortController().signal)
}
