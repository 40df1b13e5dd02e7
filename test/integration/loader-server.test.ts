// The loader fetches from a server what the service has sent there. The server is a process of its own, as both wait for it.
import {randomBytes} from 'node:crypto'
import {once} from 'node:events'
import {truncateSync} from 'node:fs'
import {createServer} from 'node:net'
import path from 'node:path'
import {Worker} from 'node:worker_threads'
import type {ExecutionContext} from 'ava'
import {openFiles} from '../../service/edge/files.js'
import {AwaySink} from '../../service/sinks/away-sink.js'
import {serverTarget} from '../../service/sinks/server-target.js'
import {SpareDevice} from '../../service/sinks/spare-device.js'
import type {StreamTarget, TargetConnection} from '../../service/sinks/stream-target.js'
import {LoaderBuild} from './loader-build.js'
import {startCommand} from './receive-command.js'
import {digest, fillImage, sendImage, temporaryDirectory} from './sent-image.js'
import {withLoaderOr} from './with-loader.js'

const loader = new LoaderBuild()
const withLoader = withLoaderOr('the loader is not tested', loader)
const FETCH = ['--foreign', '--from-server']

withLoader('fetches the image that the spare device names from its server, and finds it right', async t => {
  const {spare, port} = await sentAway(t)
  for (const inspect of [loader.inspect.bind(loader), loader.inspectSanitized.bind(loader)]) {
    const answer = inspect(spare, FETCH)
    t.is(answer.refused, null)
    t.true(answer.isGood)
    t.regex(answer.stdout, new RegExp(`^way_back: target=tcp://127.0.0.1:${port}/ice$`, 'm'))
  }
})

withLoader('says so when the server keeps another image under that name, or none', async t => {
  const {spare, port} = await sentAway(t)
  await sendImage(targetAt(port), randomBytes(16).toString('hex'))
  t.regex(String(loader.inspect(spare, FETCH).refused), /'tcp:.*' does not send the image: .*another one/)
  const other = await startCommand(t, temporaryDirectory(t))
  const lost = await sentAway(t, {wayBack: {address: '127.0.0.1', port: String(other.port)}})
  t.regex(String(loader.inspect(lost.spare, FETCH).refused), /'tcp:.*' does not send the image: .*none is kept under that name/)
})

withLoader('says so when what answers is no server of images, or goes without a word', async t => {
  for (const [answer, reason] of [
    ["'HTTP/1.1 400 Bad Request\\r\\n'", /no server of images/], ["''", /closed the connection without an answer/], ["'x'.repeat(3000)", /no server of images/],
    ["'sending 100\\n'", /ends before the image is complete/], ["'sending 100\\n' + 'y'.repeat(100)", /is no image stream/]
  ] as const) {
    const port = await startLiar(t, answer)
    const {spare} = await sentAway(t, {wayBack: {port: String(port)}})
    t.regex(String(loader.inspectSanitized(spare, FETCH).refused), reason)
  }
})

withLoader('asks again for what was cut in the middle, and gives up after the third time', async t => {
  for (const [cuts, refused] of [[2, /^null$/], [3, /ends before the image is complete/]] as const) {
    const cutter = await startCutter(t, cuts)
    const {spare, port} = await sentAway(t, {wayBack: {port: String(cutter.port)}})
    cutter.leadTo(port)
    const answer = loader.inspectSanitized(spare, FETCH)
    t.regex(String(answer.refused), refused)
    t.is(answer.isGood, cuts < 3)
    t.is(answer.stderr.match(/asking for it again/g)?.length, 2)
  }
})

withLoader('gives up on a server that falls silent before the image', async t => {
  const port = await startLiar(t, "'sending 100\\n'", {isSilentThen: true})
  const {spare} = await sentAway(t, {wayBack: {port: String(port)}})
  t.regex(String(loader.inspectSanitized(spare, FETCH).refused), /nothing came for too long/)
})

withLoader('gives up on a server that is not there within its time, and says which', async t => {
  const closed = createServer()
  closed.listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const address = closed.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  closed.close()
  const {spare} = await sentAway(t, {wayBack: {port: String(port)}})
  const started = performance.now()
  t.regex(String(loader.inspect(spare, FETCH).refused), /cannot connect to 'tcp:.*' \(127.0.0.1\): Connection refused/)
  t.true(performance.now() - started > 25_000)
})

for (const [what, wayBack, reason] of [
  ['of an unknown kind', {kind: 'carrier-pigeon'}, /is too long|unknown kind/],
  ['of no kind', {kind: ''}, /unknown kind/],
  ['without an address', {address: ''}, /does not say where it is/],
  ['with a name for an address', {address: 'store'}, /does not say where it is/],
  ['with a card and no address of it', {mac: '02:00:00:00:00:01'}, /does not say by which address/],
  ['with a gateway that is none', {gateway: '10.0.0'}, /no right gateway/],
  ['with a name of any length', {name: 'x'.repeat(64)}, /'name' of the way back to the image is too long/],
] as const) {
  withLoader(`refuses a way back ${what}`, async t => {
    const {spare} = await sentAway(t, {wayBack})
    t.regex(String(loader.inspectSanitized(spare, ['--foreign']).refused), reason)
  })
}

withLoader('leaves an image that went to no server to somebody else', async t => {
  const {spare} = await sentAway(t, {wayBack: null})
  t.is(loader.inspect(spare, ['--foreign']).refused, null)
  t.is(loader.inspect(spare, FETCH).refused, 'the image went to no server')
})

interface Sent {
  /** Instead of what is true; null for no way back at all. */
  readonly wayBack?: Readonly<Record<string, string>> | null
}

async function sentAway(t: ExecutionContext, {wayBack = {}}: Sent = {}) {
  const {port} = await startCommand(t, temporaryDirectory(t))
  const spare = loader.write(Buffer.alloc(0))
  truncateSync(spare, 64 * 2 ** 20)
  const device = new SpareDevice(spare, {files: openFiles(), digest})
  await device.setUp({isForced: true})
  const target = misleading(targetAt(port), wayBack)
  await using session = await new AwaySink({spare: device, target, digest, grantsResume: true, settle: async () => {}}).begin()
  await fillImage(session, 5)
  return {spare, port}
}

function targetAt(port: number): StreamTarget {
  return serverTarget({
    address: {kind: 'tcp', text: `tcp://127.0.0.1:${port}/ice`, host: '127.0.0.1', port, name: 'ice'}, files: openFiles(), digest, patienceMs: 120_000,
    readTls: () => { throw new Error('no TLS is spoken here') },
  })
}

function misleading(target: StreamTarget, wayBack: Sent['wayBack']): StreamTarget {
  return {
    name: target.name,
    inspect: () => target.inspect(),
    async open(signal, imageId): Promise<TargetConnection> {
      const connection = await target.open(signal, imageId)
      return {
        append: (bytes) => connection.append(bytes),
        finish: () => connection.finish(),
        [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
        ...(wayBack === null ? {} : {wayBack: {...connection.wayBack, ...wayBack}}),
      }
    },
  }
}

/** Says one thing to whoever calls. In a thread, since the loader is waited for in ours. */
async function startLiar(t: ExecutionContext, answer: string, {isSilentThen = false} = {}): Promise<number> {
  const worker = new Worker(`
    const server = require('node:net').createServer((caller) => { caller.on('error', () => {}); caller.once('data', () => caller.${isSilentThen ? 'write' : 'end'}(${answer})) })
    server.listen(0, '127.0.0.1', () => require('node:worker_threads').parentPort.postMessage(server.address().port))`, {eval: true, execArgv: []})
  t.teardown(() => worker.terminate())
  const [port]: readonly unknown[] = await once(worker, 'message')
  return Number(port)
}

/** Stands before a server and cuts the first connections after some of what is sent. In a thread, as above. */
async function startCutter(t: ExecutionContext, cuts: number) {
  const worker = new Worker(`
    const {parentPort} = require('node:worker_threads')
    const {connect, createServer} = require('node:net')
    let to = 0, left = ${cuts}
    parentPort.on('message', (port) => { to = port })
    const stand = createServer((caller) => {
      const server = connect(to, '127.0.0.1')
      for (const end of [caller, server]) end.on('error', () => {})
      caller.pipe(server)
      if (left-- <= 0) return server.pipe(caller)
      let passed = 0
      server.on('data', (bytes) => {
        caller.write(bytes.subarray(0, Math.max(0, 4096 - passed)))
        passed += bytes.length
        if (passed >= 4096) caller.end()
      })
    })
    stand.listen(0, '127.0.0.1', () => parentPort.postMessage(stand.address().port))`, {eval: true, execArgv: []})
  t.teardown(() => worker.terminate())
  const [port]: readonly unknown[] = await once(worker, 'message')
  return {port: Number(port), leadTo: (to: number) => worker.postMessage(to)}
}
