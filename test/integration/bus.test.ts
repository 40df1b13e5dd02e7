import {execFile} from 'node:child_process'
import {EventEmitter, once} from 'node:events'
import {readFileSync} from 'node:fs'
import {promisify} from 'node:util'
import test, {type ExecutionContext} from 'ava'
import {PermafrostClient} from '../../service/bus/client.js'
import {BusConnection} from '../../service/bus/connection.js'
import {BUS_NAME, MANAGER_INTERFACE, OBJECT_PATH} from '../../service/bus/names.js'
import {polkitAuthority} from '../../service/bus/polkit.js'
import {
  AbortedError, BusLostError, BusyError, DaemonGoneError, DaemonMissingError, NoSpareDeviceError, SnapshotError, SystemCallError, TimedOutError,
} from '../../service/errors.js'
import {type PrivateBus, startPrivateBus} from './private-bus.js'
import {serve} from './served-story.js'

const run = promisify(execFile)
const target = [BUS_NAME, OBJECT_PATH, MANAGER_INTERFACE] as const

test('shows exactly its XML file to who introspects it', async (t) => {
  const {bus} = await serve(t)
  const reply = await bus.busctl('call', '-j', BUS_NAME, OBJECT_PATH, 'org.freedesktop.DBus.Introspectable', 'Introspect')
  const {data} = JSON.parse(reply) as {data: readonly string[]}
  t.is(data[0], readFileSync('service/bus/org.permafrost1.xml', 'utf8'))
  const listing = await bus.busctl('introspect', BUS_NAME, OBJECT_PATH)
  for (const line of [/\.Snapshot +method +sa\{sv\} +-/, /\.Hibernate +method +a\{sv\} +-/, /\.SelfTest +method +- +a\{sv\}/, /\.CanHibernate +method +- +ss/, /\.Check +method +- +a\(ssbs\)/,
    /\.ListNeeded +method +- +a\(usss\)/, /\.Abort +method +- +-/, /\.State +property +s +"idle" +emits-change/,
    /\.Resumed +signal +a\{sv\}/]) {
    t.regex(listing, line)
  }
  t.regex(await bus.busctl('tree', BUS_NAME), /\/org\/permafrost1/)
})

for (const {member, signature, body, expected} of [
  {member: 'Hibernate', signature: '', body: [], expected: /its signature is 'a\{sv\}', not ''/},
  {member: 'Hibernate', signature: 'b', body: ['true'], expected: /its signature is 'a\{sv\}', not 'b'/},
  {member: 'Abort', signature: 's', body: ['x'], expected: /its signature is '', not 's'/},
  {member: 'Hibernate', signature: 'a{sv}', body: ['1', 'Fast', 'b', 'true'], expected: /there is no option 'Fast'/},
  {member: 'Snapshot', signature: 'a{sv}', body: ['0'], expected: /its signature is 'sa\{sv\}', not 'a\{sv\}'/},
  {member: 'Snapshot', signature: 'sa{sv}', body: ['/run/x', '1', 'then', 's', 'sleep'], expected: /'then' is 'sleep', expected 'halt' or 'merge'/},
  {member: 'Snapshot', signature: 'sa{sv}', body: ['/run/x', '1', 'to', 's', 'disk'], expected: /there is no option 'to'/},
  {member: 'Explode', signature: '', body: [], expected: /no method 'Explode'/},
]) {
  test(`refuses ${member}(${signature}) with ${JSON.stringify(body)} and starts nothing`, async (t) => {
    const {bus, story} = await serve(t)
    const parameters = signature === '' ? [] : [signature, ...body]
    await t.throwsAsync(bus.busctl('call', ...target, member, ...parameters), {message: expected})
    t.is(story.calls, 0)
  })
}

test('refuses to have a property set, and the value stays', async (t) => {
  const {bus} = await serve(t)
  await t.throwsAsync(bus.busctl('set-property', ...target, 'State', 's', 'HACKED'), {message: /'State' cannot be written/})
  t.is(await bus.busctl('get-property', ...target, 'State'), 's "idle"\n')
  await t.throwsAsync(bus.busctl('get-property', ...target, 'Nonsense'), {message: /no property 'Nonsense'/})
  await t.throwsAsync(bus.busctl('get-property', BUS_NAME, OBJECT_PATH, 'org.x.Y', 'State'), {message: /no interface 'org\.x\.Y'/})
})

test('answers Ping and the machine id itself', async (t) => {
  const {bus} = await serve(t)
  t.is(await bus.busctl('call', BUS_NAME, OBJECT_PATH, 'org.freedesktop.DBus.Peer', 'Ping'), '')
  const expected = readFileSync('/etc/machine-id', 'utf8').trim()
  t.is(await bus.busctl('call', BUS_NAME, OBJECT_PATH, 'org.freedesktop.DBus.Peer', 'GetMachineId'), `s "${expected}"\n`)
  await t.throwsAsync(bus.busctl('call', BUS_NAME, '/elsewhere', 'org.freedesktop.DBus.Peer', 'Ping'), {message: /no object '\/elsewhere'/})
})

test('replies to Hibernate after the resume, with its signals before that and a figure table to read', async (t) => {
  const {bus, client, story} = await serve(t)
  const signals = await collectSignals(t, bus)
  const call = client.hibernate()
  const request = await story.started()
  request.onState('freezing')
  story.finish({kind: 'resumed', figures: {pause_ns: 12_000_000n, ratio: 0.5, image_bytes: 460_000_000n}})
  await call
  t.deepEqual(await client.properties(), {
    State: 'idle', Progress: 1, TimeLeftUSec: null, ImageBytes: 460_000_000, LastResult: 'Resumed', LastOutcome: 'resumed',
    LastFigures: {pause_ns: 12_000_000, ratio: 0.5, image_bytes: 460_000_000},
  })
  t.deepEqual(signals().filter((name) => name !== 'PropertiesChanged'), ['Hibernating', 'Resumed'])
})

test('lets the bus go on as soon as a snapshot has thawed everybody, and replies when it has ended', async (t) => {
  const {bus, client, story} = await serve(t)
  let finish = (): void => {}
  story.takeSnapshot = async (request, {then}) => {
    request.onState('freezing')
    request.onState('snapshot')
    request.onThawed()
    request.onState('saving')
    await new Promise<void>((resolve) => {
      finish = resolve
    })
    return {kind: then === 'merge' ? 'merged' : 'resumed', figures: {save_ms: 5}}
  }
  const call = client.snapshot({socket: '/run/x', then: 'merge'})
  while ((await bus.busctl('get-property', ...target, 'State')) !== 's "saving"\n') await new Promise((resolve) => setTimeout(resolve, 20))
  await t.throwsAsync(client.hibernate(), {message: /Cannot start: a snapshot is already being taken/})
  finish()
  await call
  t.like(await client.properties(), {State: 'idle', LastResult: 'Merged; the image was saved and will not be resumed', LastFigures: {save_ms: 5}})
})

test('gives what a self-test measured, and says why one failed', async (t) => {
  const {client, story} = await serve(t)
  t.deepEqual(await client.selfTest(), {pause_ns: 148_000_000})
  t.like(await client.properties(), {State: 'idle', LastOutcome: 'resumed'})
  story.goAndReturn = async () => ({kind: 'rolled-back', cause: new SystemCallError('go back to the snapshot', 16), figures: {}})
  await t.throwsAsync(client.selfTest(), {message: 'Cannot go back to the snapshot: EBUSY', name: 'RemoteFailedError'})
})

test('refuses a second Hibernate with Busy while one is under way, and takes one afterwards', async (t) => {
  const {client, story} = await serve(t)
  const first = client.hibernate()
  await story.started()
  await t.throwsAsync(client.hibernate(), {message: /already under way/, name: 'RemoteRefusedError'})
  t.like(await client.canHibernate(), {answer: 'no'})
  story.finish({kind: 'resumed', figures: {}})
  await first
  const second = client.hibernate()
  await story.started()
  story.finish({kind: 'resumed', figures: {}})
  await second
  t.is(story.calls, 2)
})

for (const {cause, busName, family} of [
  {cause: new NoSpareDeviceError(null), busName: 'org.permafrost1.Error.NoSpareDevice', family: 'RemoteRefusedError'},
  {cause: new BusyError('x'), busName: 'org.permafrost1.Error.Busy', family: 'RemoteRefusedError'},
  {cause: new SnapshotError(12, 7n), busName: 'org.permafrost1.Error.Snapshot', family: 'RemoteFailedError'},
]) {
  test(`tells the caller of ${cause.name} by name and sentence`, async (t) => {
    const {bus, client, story} = await serve(t)
    const call = client.hibernate()
    await story.started()
    story.fail(cause)
    await t.throwsAsync(call, {message: cause.message, name: family})
    // With its type: what has none gdbus looks up by introspection, and takes for a string if that takes three seconds.
    const dbusCall = run('gdbus', ['call', '--address', bus.address, '--dest', BUS_NAME, '--object-path', OBJECT_PATH,
      '--method', `${MANAGER_INTERFACE}.Hibernate`, '@a{sv} {}'])
    await Promise.race([story.started(), dbusCall])
    story.fail(cause)
    await t.throwsAsync(dbusCall, {message: new RegExp(busName.replaceAll('.', '\\.'))})
    t.is((await client.properties()).LastResult, cause.message)
  })
}

test('tells the caller of a roll-back by its cause, and of a bug without a stack', async (t) => {
  const {client, story} = await serve(t)
  const rolledBack = client.hibernate()
  await story.started()
  story.finish({kind: 'rolled-back', cause: new SnapshotError(12, 7n), figures: {pages_short: 7}})
  await t.throwsAsync(rolledBack, {message: /more memory needed/, name: 'RemoteFailedError'})
  t.deepEqual((await client.properties()).LastFigures, {pages_short: 7})
  const broken = client.hibernate()
  await story.started()
  story.fail(new TypeError('undefined is not a function'))
  await t.throwsAsync(broken, {message: 'Cannot hibernate: undefined is not a function'})
})

test('says in CanHibernate what is missing, never "no" alone', async (t) => {
  const {client, story} = await serve(t)
  t.deepEqual(await client.canHibernate(), {answer: 'yes', reason: ''})
  story.checks = [{id: 'spare', title: 'There is a spare device', passed: false, remedy: 'Run permafrost setup'}]
  t.deepEqual(await client.canHibernate(), {answer: 'no', reason: 'Run permafrost setup'})
  story.checks = [{id: 'kernel', title: 'The kernel can', passed: false, remedy: ''}]
  t.deepEqual(await client.canHibernate(), {answer: 'na', reason: 'The kernel can'})
  t.deepEqual(await client.check(), story.checks)
  t.deepEqual(await client.listNeeded(), [{pid: 7, command: 'rpc.statd', unit: null, line: '/p.conf:2'}])
})

for (const {answer, errorName, can} of [
  {answer: 'no', errorName: /AccessDenied|Access denied|does not grant/, can: 'no'},
  {answer: 'challenge', errorName: /does not let us ask|[Ii]nteractive/, can: 'challenge'},
] as const) {
  test(`starts nothing for a caller whom polkit answers "${answer}"`, async (t) => {
    const {bus, client, story} = await serve(t, {findAuthority: () => ({authorize: async () => answer})})
    await t.throwsAsync(bus.busctl('--allow-interactive-authorization=no', 'call', ...target, 'Hibernate', 'a{sv}', '0'), {message: errorName})
    await t.throwsAsync(bus.busctl('--allow-interactive-authorization=no', 'call', ...target, 'Abort'), {message: errorName})
    const {answer: answered, reason} = await client.canHibernate()
    t.is(answered, can)
    t.not(reason, '')
    t.is(story.calls, 0)
  })
}

test('lets root pass where there is no polkit at all', async (t) => {
  const bus = await startPrivateBus()
  t.teardown(() => bus.stop())
  const connection = await BusConnection.connect(bus.address)
  const asker = await BusConnection.connect(bus.address)
  const [names] = await asker.callBus('ListNames', '', [])
  const sender = Array.isArray(names) ? String(names.at(-1)) : ''
  const answer = await polkitAuthority(connection).authorize({sender, action: 'org.permafrost1.hibernate', isInteractive: false})
  t.is(answer, process.getuid?.() === 0 ? 'yes' : 'no')
  await Promise.all([connection.close(), asker.close()])
})

test('explains who keeps running, and refuses a process that is not there', async (t) => {
  const {client} = await serve(t)
  t.deepEqual(await client.explainNeeded(7), {isNeeded: true, line: '/p.conf:2', sentence: 'A test'})
  await t.throwsAsync(client.explainNeeded(8), {name: 'RemoteRefusedError', message: /process '8'/})
})

test('tells the time left while saving, and none when it cannot be told', async (t) => {
  const {bus, client, story, server} = await serve(t)
  const call = client.hibernate()
  const {onState, onNeeded, onProgress} = await story.started()
  onState('freezing')
  onNeeded([server.daemonPid ?? 0])
  onState('saving')
  t.is((await client.properties()).TimeLeftUSec, null)
  t.is(await bus.busctl('get-property', ...target, 'TimeLeftUSec'), `t ${2n ** 64n - 1n}\n`)
  onProgress({fraction: 0.5, bytesRead: 5, bytesTotal: 10, bytesStored: 0, secondsLeft: 3.25})
  t.is((await client.properties()).TimeLeftUSec, 3_250_000n)
  story.finish({kind: 'resumed', figures: {}})
  await call
  t.is((await client.properties()).TimeLeftUSec, null)
})

test('aborts what is under way, and refuses when nothing is', async (t) => {
  const {client, story} = await serve(t)
  await t.throwsAsync(client.abort(), {message: /no hibernation is under way/})
  const call = client.hibernate()
  const {signal, onState} = await story.started()
  onState('powering-off')
  await t.throwsAsync(client.abort(), {message: /is complete/})
  onState('saving')
  await client.abort()
  t.true(signal.reason instanceof AbortedError)
  story.finish({kind: 'rolled-back', cause: new AbortedError(), figures: {}})
  await t.throwsAsync(call, {message: /it was aborted/})
})

test('writes nothing to the bus while frozen, then only the newest values', async (t) => {
  const {bus, client, story, server} = await serve(t)
  const signals = await collectSignals(t, bus)
  const call = client.hibernate()
  const {onState, onProgress} = await story.started()
  onState('freezing')
  await turn()
  const written = server.bytesWritten
  onState('snapshot')
  onState('saving')
  for (let step = 1; step <= 50; step += 1) {
    onProgress({fraction: step / 100, bytesRead: step, bytesTotal: 100, bytesStored: 0, secondsLeft: null})
    await turn()
  }
  const question = client.properties() // in the socket when everybody was frozen
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.is(server.bytesWritten, written)
  const before = signals().length
  story.finish({kind: 'resumed', figures: {}})
  await call
  t.is((await question).State, 'saving')
  t.true(server.bytesWritten > written)
  t.true(signals().slice(before).filter((name) => name === 'PropertiesChanged').length <= 2)
})

test('goes on talking to a bus that is kept running', async (t) => {
  const {client, story, server} = await serve(t)
  const call = client.hibernate()
  const {onState, onNeeded, signal} = await story.started()
  onState('freezing')
  onNeeded([1, server.daemonPid ?? 0])
  onState('saving')
  t.is((await client.properties()).State, 'saving')
  await client.abort()
  t.true(signal.aborted)
  story.finish({kind: 'rolled-back', cause: new AbortedError(), figures: {}})
  await t.throwsAsync(call, {message: /it was aborted/})
})

test('aborts for Esc once everybody is frozen, and says so on the console once', async (t) => {
  const {client, story} = await serve(t)
  const call = client.hibernate()
  const {onState, signal} = await story.started()
  onState('freezing')
  onState('saving')
  t.false(signal.aborted)
  story.pressEscape()
  story.pressEscape()
  t.true(signal.reason instanceof AbortedError)
  t.deepEqual(story.console, ['permafrost: saving; Esc goes back', 'permafrost: Esc was pressed, going back'])
  story.finish({kind: 'rolled-back', cause: new AbortedError(), figures: {}})
  await t.throwsAsync(call, {message: /it was aborted/})
})

test('takes no Esc for an abort when the image is complete', async (t) => {
  const {client, story} = await serve(t)
  const call = client.hibernate()
  const {onState, signal} = await story.started()
  onState('freezing')
  onState('powering-off')
  story.pressEscape()
  t.false(signal.aborted)
  story.finish({kind: 'resumed', figures: {}})
  await call
})

test('goes on when the caller vanishes in the middle', async (t) => {
  const {bus, client, story} = await serve(t)
  const caller = await PermafrostClient.connect(bus.address)
  const call = caller.hibernate()
  const {signal} = await story.started()
  await caller[Symbol.asyncDispose]()
  await t.throwsAsync(call, {instanceOf: BusLostError})
  t.false(signal.aborted)
  story.finish({kind: 'resumed', figures: {}})
  while ((await client.properties()).State !== 'idle') await turn()
  t.is((await client.properties()).LastResult, 'Resumed')
})

test('notices that the bus is gone, and ends all calls with that', async (t) => {
  const {bus, client, server, story} = await serve(t)
  const call = client.hibernate()
  await story.started()
  await Promise.all([bus.stop(), t.throwsAsync(call, {instanceOf: BusLostError}), server.lost])
  story.finish({kind: 'resumed', figures: {}})
  await t.throwsAsync(client.properties(), {instanceOf: BusLostError})
})

test('names the missing daemon when nobody has the name, or there is no bus', async (t) => {
  const bus = await startPrivateBus()
  t.teardown(() => bus.stop())
  await using client = await PermafrostClient.connect(bus.address)
  await t.throwsAsync(client.check(), {instanceOf: DaemonMissingError, message: /permafrostd\.service/})
  await t.throwsAsync(PermafrostClient.connect('unix:path=/nonexistent/bus'), {instanceOf: DaemonMissingError})
})

test('says that the daemon is gone when it ends in the middle', async (t) => {
  const {client, server, story} = await serve(t)
  const call = client.hibernate()
  await story.started()
  await server.close()
  await t.throwsAsync(call, {instanceOf: DaemonGoneError, message: /ended in the middle/})
})

test('ends a call that gets no answer after its own time-out', async (t) => {
  const {bus, server} = await serve(t)
  server.onCall(() => undefined)
  const connection = await BusConnection.connect(bus.address)
  await t.throwsAsync(connection.call({
    destination: BUS_NAME, path: OBJECT_PATH, interface: MANAGER_INTERFACE, member: 'Check', timeoutMs: 50,
  }), {instanceOf: TimedOutError})
  await connection.close()
})

test('makes a hibernation wait for what an earlier life left to be undone', async (t) => {
  const {client, story, attempts} = await serve(t)
  const undone = new EventEmitter()
  story.recover = async () => {
    await once(undone, 'done')
    return 'It was undone'
  }
  const recovery = attempts.recover()
  t.is((await client.properties()).State, 'checking')
  const call = client.hibernate()
  await turn()
  t.is(story.calls, 0)
  undone.emit('done')
  await recovery
  t.is((await client.properties()).LastResult, 'It was undone')
  await story.started()
  story.finish({kind: 'resumed', figures: {}})
  await call
  t.is(story.calls, 1)
})

test('writes a line to the console for each tenth that is saved', async (t) => {
  const {client, story} = await serve(t)
  const call = client.hibernate()
  const {onProgress} = await story.started()
  for (let percent = 0; percent <= 25; percent += 1) {
    onProgress({fraction: percent / 100, bytesRead: percent * 2 ** 20, bytesTotal: 100 * 2 ** 20, bytesStored: 0, secondsLeft: 3.2})
  }
  story.finish({kind: 'resumed', figures: {}})
  await call
  t.deepEqual(story.console, [0, 10, 20].map((percent) => `permafrost: saving ${percent} % (${percent} MiB of 100 MiB, 4 s left)`))
})

async function collectSignals(t: ExecutionContext, bus: PrivateBus): Promise<() => readonly string[]> {
  const connection = await BusConnection.connect(bus.address)
  t.teardown(() => connection.close())
  const names: string[] = []
  connection.onSignal(({path, member}) => {
    if (path === OBJECT_PATH) names.push(member)
  })
  await connection.addMatch(`type='signal',path='${OBJECT_PATH}'`)
  return () => names
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
