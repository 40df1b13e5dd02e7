// Hibernation to somebody outside: a real server on this machine's loopback device, and real commands.
import {existsSync, mkdtempSync, readFileSync, readdirSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {openFiles} from '../../../service/edge/files.js'
import {parseFaults} from '../../../service/edge/faults.js'
import {AbortedError, CowFullError, SinkError} from '../../../service/errors.js'
import {decodeHeader} from '../../../service/image/header.js'
import {readHeaderBytes} from '../../../service/image/read.js'
import {decodeSuperblock} from '../../../service/image/superblock.js'
import {DirectDevice} from '../../../service/edge/direct-device.js'
import {ImageStore} from '../../../service/receive/image-store.js'
import {describeImageFile} from '../../../service/receive/listing.js'
import {Receiver} from '../../../service/receive/receiver.js'
import {AwaySink} from '../../../service/sinks/away-sink.js'
import {commandTarget} from '../../../service/sinks/command-target.js'
import {serverTarget} from '../../../service/sinks/server-target.js'
import type {StreamTarget} from '../../../service/sinks/stream-target.js'
import {hibernate} from '../../../service/stories/hibernate.js'
import {preflight} from '../../../service/stories/preflight.js'
import {assertAsBefore} from '../fakes/as-before.js'
import {fakeMachine, recordingRequest, type FakeMachine, type FakeMachineOptions} from '../fakes/machine.js'

test('the power goes when the server has the image for good, and the spare device says how to get it back', async (t) => {
  const {directory, port, target} = await startServer(t)
  const sectors: Buffer[] = []
  const kept: string[][] = []
  const fake = await machineWith(t, target, {
    onPowerOff: () => {
      sectors.push(readFileSync(fake.spare.name).subarray(0, 512))
      kept.push(readdirSync(directory))
    },
  })
  await hibernate(recordingRequest(), fake.machine)
  const superblock = decodeSuperblock(sectors[0] ?? Buffer.alloc(0), fake.machine.digest, 'spare')
  t.is(superblock.state, 'away')
  t.deepEqual(kept, [['ice.permafrost']])
  t.like(await describeImageFile(path.join(directory, 'ice.permafrost'), fake.machine.digest), {isWhole: true, imageId: superblock.imageId, hostname: 'ice'})
  await using source = await DirectDevice.openForReading(fake.spare.name)
  const {wayBack} = decodeHeader(await readHeaderBytes({source, superblock, digest: fake.machine.digest, where: 'spare'}), 'spare')
  t.deepEqual(wayBack, {target: `tcp://localhost:${port}/ice`, kind: 'tcp', host: 'localhost', address: '127.0.0.1', port: String(port), name: 'ice'})
})

test('a server that goes half-way rolls back, with the reason, and has nothing that has a name', async (t) => {
  const {directory, receiver, target} = await startServer(t)
  const fake = await machineWith(t, target)
  let isGone = false
  const request = {
    ...recordingRequest(),
    onProgress: () => {
      if (!isGone) void receiver[Symbol.asyncDispose]()
      isGone = true
    },
  }
  const outcome = await hibernate(request, fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof SinkError)
  t.regex(outcome.kind === 'rolled-back' ? outcome.cause.message : '', /Cannot write the image to 'tcp:.*': the server has closed the connection/)
  t.false(fake.kernel.poweredOff > 0)
  await assertAsBefore(t, fake)
  t.deepEqual(readdirSync(directory), [])
})

for (const point of ['image-begun', 'snapshot-taken', 'first-chunk-written', 'stream-written', 'image-valid'] as const) {
  test(`a failure of ours at '${point}' leaves no half image at the server, and no leave here`, async (t) => {
    const {directory, receiver, target} = await startServer(t)
    const fake = await machineWith(t, target, {faults: parseFaults(point)})
    const outcome = await hibernate(recordingRequest(), fake.machine)
    t.is(outcome.kind, 'rolled-back')
    await assertAsBefore(t, fake)
    await receiver[Symbol.asyncDispose]()
    t.deepEqual(readdirSync(directory), point === 'image-valid' ? ['ice.permafrost'] : [])
  })
}

test('in the resumed system the server hears nothing but the end', async (t) => {
  const {directory, receiver, target} = await startServer(t)
  const fake = await machineWith(t, target, {side: 'resumed'})
  const outcome = await hibernate(recordingRequest(), fake.machine)
  t.is(outcome.kind, 'resumed')
  await receiver[Symbol.asyncDispose]()
  t.deepEqual(readdirSync(directory), [])
})

test('a server that is not there is a row of the check, and nothing is changed', async (t) => {
  const {receiver, target} = await startServer(t)
  await receiver[Symbol.asyncDispose]()
  const fake = await machineWith(t, target)
  const failed = (await preflight(fake.machine)).filter(({passed}) => !passed)
  t.deepEqual(failed.map(({id}) => id), ['target', 'room'])
  t.regex(failed[0]?.remedy ?? '', /Cannot send the image to 'tcp:.*': ECONNREFUSED/)
  await t.throwsAsync(hibernate(recordingRequest(), fake.machine), {message: /ECONNREFUSED/})
  t.deepEqual(fake.dm.changes, [])
  t.is(await fake.imageState(), 'empty')
})

const SERVER = {text: 'x', host: 'store', port: 1, name: 'ice'}
for (const [what, target, wayBackMarks, remedy] of [
  ['a server, and an initramfs without network cards', {kind: 'tcp', ...SERVER}, {built: {file: '/boot/i', words: ['']}}, /'\/boot\/i' may lack the drivers of this machine's network cards; run 'update-initramfs -u -k 6\.12'/],
  ['a server, and an initramfs made elsewhere', {kind: 'tcp', ...SERVER}, {built: null}, null],
  ['TLS without certificates', {kind: 'tls', ...SERVER}, {}, /has not all of 'ca\.pem'/],
  ['TLS, and an initramfs without the certificates', {kind: 'tls', ...SERVER}, {tlsDigest: 'ab'}, /has not the certificates of/],
  ['TLS, and an initramfs with other certificates', {kind: 'tls', ...SERVER}, {tlsDigest: 'ab', built: {file: '/boot/i', words: ['net', 'tls=cd']}}, /has not the certificates of/],
  ['TLS, and an initramfs that has all', {kind: 'tls', ...SERVER}, {tlsDigest: 'ab', built: {file: '/boot/i', words: ['net', 'tls=ab']}}, null],
  ['a command, and nobody to bring the image back', {kind: 'command', text: 'x', command: 'x'}, {programs: []}, /no program in '\/etc\/permafrost\/resume\.d'/],
  ['a command, and somebody to bring it back', {kind: 'command', text: 'x', command: 'x'}, {}, null],
] as const) {
  test(`${what}: ${remedy === null ? 'nothing is missing' : 'the check says what to do'}`, async (t) => {
    const fake = await fakeMachine(t, {wayBackMarks})
    const machine = {...fake.machine, configuration: {...fake.machine.configuration, target}}
    const row = (await preflight(machine)).find(({id}) => id === 'way-back')
    t.is(row?.passed, remedy === null)
    t.regex(row?.remedy ?? '', remedy ?? /^$/)
  })
}

test('a server without room is a row of the check', async (t) => {
  const full: StreamTarget = {name: 'tcp://full:1/ice', inspect: async () => ({freeBytes: 1000}), open: async () => { throw new Error('not asked') }}
  const fake = await machineWith(t, full)
  const failed = (await preflight(fake.machine)).filter(({passed}) => !passed)
  t.deepEqual(failed.map(({id}) => id), ['room'])
  t.regex(failed[0]?.remedy ?? '', /Cannot send the image to 'tcp:\/\/full:1\/ice': \d+ MiB are needed, it has 0 MiB; make room there/)
})

test('a command that ends well has the image, and then the power goes', async (t) => {
  const directory = temporary(t)
  const file = path.join(directory, 'image')
  const atPowerOff: string[] = []
  const fake = await machineWith(t, command(`cat > '${file}.part' && mv '${file}.part' '${file}'`), {
    onPowerOff: () => atPowerOff.push(...readdirSync(directory), decodeSuperblock(readFileSync(fake.spare.name).subarray(0, 512), fake.machine.digest, 'spare').state),
  })
  await hibernate(recordingRequest(), fake.machine)
  t.deepEqual(atPowerOff, ['image', 'away'])
  t.like(await describeImageFile(file, fake.machine.digest), {isWhole: true})
})

/** Longer than any command of these takes, however busy the host is. */
const PATIENCE_MS = 30_000

for (const [what, script, reason, patienceMs] of [
  ['ends with a failure after it has read all', "cat > /dev/null; echo 'no room at all' >&2; exit 3", /: it ended with 3: no room at all$/, PATIENCE_MS],
  ['ends in the middle', 'head -c 100000 > /dev/null; echo enough >&2; exit 1', /: it ended with 1: enough$/, PATIENCE_MS],
  ['ends well in the middle', 'head -c 100000 > /dev/null', /: it did not read all of the image$/, PATIENCE_MS],
  ['is killed', 'head -c 100000 > /dev/null; kill -9 $$', /: it was ended by SIGKILL$/, PATIENCE_MS],
  ['reads no more', 'sleep 1000', /: it took nothing for 0.5 s$/, 500],
  ['is not there', 'no-such-command', /: it ended with 127: .*no-such-command/, PATIENCE_MS],
] as const) {
  test(`a command that ${what} rolls back, with the reason`, async (t) => {
    const fake = await machineWith(t, command(script, patienceMs))
    const outcome = await hibernate(recordingRequest(), fake.machine)
    t.regex(outcome.kind === 'rolled-back' ? outcome.cause.message : outcome.kind, reason)
    await assertAsBefore(t, fake)
  })
}

for (const side of ['created', 'resumed'] as const) {
  test(`a command that is given up on the ${side} side never takes what it has for all of the image`, async (t) => {
    const directory = temporary(t)
    const fake = await machineWith(t, command(`echo $$ > '${directory}/pid'; (cat > '${directory}/part'; touch '${directory}/whole')`), {
      side, ...(side === 'created' ? {faults: parseFaults('stream-written')} : {}),
    })
    await hibernate(recordingRequest(), fake.machine)
    // A zombie is no longer there either.
    const pid = existsSync(path.join(directory, 'pid')) ? readFileSync(path.join(directory, 'pid'), 'utf8').trim() : '0'
    await until(() => !/^\d+ \(.*\) [RSD]/.test(existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : ''))
    t.false(existsSync(path.join(directory, 'whole')))
  })
}

test('an abort while a command takes the image ends it', async (t) => {
  const fake = await machineWith(t, command('sleep 1000'))
  const controller = new AbortController()
  const request = recordingRequest(controller.signal)
  const onState = (state: Parameters<typeof request.onState>[0]): void => {
    if (state === 'saving') controller.abort(new AbortedError())
  }
  const outcome = await hibernate({...request, onState}, fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof AbortedError)
  await assertAsBefore(t, fake)
})

test('a slice without room ends a target that takes nothing', async (t) => {
  const fake = await machineWith(t, command('sleep 1000', PATIENCE_MS))
  const request = recordingRequest()
  const onState = (state: Parameters<typeof request.onState>[0]): void => {
    if (state === 'saving') fake.dm.statuses = ['Overflow']
  }
  const startedMs = performance.now()
  const outcome = await hibernate({...request, onState}, fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof CowFullError)
  t.true(performance.now() - startedMs < PATIENCE_MS)
  await assertAsBefore(t, fake)
})

test('a disk that does not answer keeps nobody from aborting', async (t) => {
  const fake = await machineWith(t, command('cat > /dev/null'), {}, async () => {
    controller.abort(new AbortedError())
    await new Promise(() => undefined)
  })
  const controller = new AbortController()
  const outcome = await hibernate(recordingRequest(controller.signal), fake.machine)
  t.true(outcome.kind === 'rolled-back' && outcome.cause instanceof AbortedError)
  await assertAsBefore(t, fake)
})

test('what a command has started is waited for', async (t) => {
  const directory = temporary(t)
  let kept = 0
  const fake = await machineWith(t, command(`cat > '${directory}/part'; (sleep 1; mv '${directory}/part' '${directory}/kept') < /dev/null &`), {
    onPowerOff: () => { kept = readFileSync(path.join(directory, 'kept')).length },
  })
  await hibernate(recordingRequest(), fake.machine)
  t.true(kept > 0)
})

test('what a command says is fit for a terminal and the bus', async (t) => {
  const fake = await machineWith(t, command("cat > /dev/null; printf 'no\\000room\\033[2J' >&2; exit 1"))
  const outcome = await hibernate(recordingRequest(), fake.machine)
  t.regex(outcome.kind === 'rolled-back' ? outcome.cause.message : '', /: no\?room\?\[2J$/)
})

function command(script: string, patienceMs = 20_000): StreamTarget {
  return commandTarget({kind: 'command', text: `command:${script}`, command: script}, patienceMs)
}

async function startServer(t: ExecutionContext) {
  const directory = temporary(t)
  const fake = await fakeMachine(t)
  const {digest} = fake.machine
  const receiver = await Receiver.start({host: '127.0.0.1', port: 0, tls: null, digest, store: new ImageStore(directory, digest), say: () => undefined})
  t.teardown(() => receiver[Symbol.asyncDispose]())
  const {port} = receiver.address
  const text = `tcp://localhost:${port}/ice`
  const target = serverTarget({
    address: {kind: 'tcp', text, host: 'localhost', port, name: 'ice'}, files: openFiles(), digest, patienceMs: 20_000,
    readTls: () => { throw new Error('no TLS is spoken here') },
  })
  return {directory, port, receiver, target}
}

async function machineWith(t: ExecutionContext, target: StreamTarget, options: FakeMachineOptions = {}, settle = async (): Promise<void> => {}): Promise<FakeMachine> {
  const fake = await fakeMachine(t, options)
  const sink = new AwaySink({spare: fake.spare, target, digest: fake.machine.digest, grantsResume: true, settle})
  return {...fake, machine: {...fake.machine, sink, cow: sink, target}}
}

function temporary(t: ExecutionContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'permafrost-target-'))
  t.teardown(() => rmSync(directory, {recursive: true, force: true}))
  return directory
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('It did not come to that within 10 s')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
