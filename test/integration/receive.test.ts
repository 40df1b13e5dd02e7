import {randomBytes} from 'node:crypto'
import {once} from 'node:events'
import {existsSync, readdirSync, readFileSync, writeFileSync} from 'node:fs'
import {createConnection, createServer, type Socket} from 'node:net'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import fc from 'fast-check'
import {openFiles} from '../../service/edge/files.js'
import {SinkError, StoreError, TargetError} from '../../service/errors.js'
import {encodeRequest, type ServerRequest} from '../../service/image/request-form.js'
import {ImageStore} from '../../service/receive/image-store.js'
import {Receiver} from '../../service/receive/receiver.js'
import {serverTarget} from '../../service/sinks/server-target.js'
import {spawnCommand, startCommand} from './receive-command.js'
import {digest, imageStream, sendImage, temporaryDirectory} from './sent-image.js'

test('keeps an image whole under its name, and sends it back byte for byte', async (t) => {
  const {directory, port} = await start(t)
  const imageId = newId()
  await sendImage(targetAt(port), imageId)
  const stream = await imageStream(imageId)
  t.deepEqual(readdirSync(directory), ['ice.permafrost'])
  t.true(readFileSync(path.join(directory, 'ice.permafrost')).equals(stream))
  const answer = await exchange(port, encodeRequest({kind: 'fetch', imageId, name: 'ice'}, digest))
  t.true(answer.equals(Buffer.concat([Buffer.from(`sending ${stream.length}\n`), stream])))
})

test('takes images of several machines at once', async (t) => {
  const {directory, port} = await start(t)
  const names = Array.from({length: 12}, (_, index) => `machine-${index}`)
  const ids = await Promise.all(names.map(async (name) => {
    const imageId = newId()
    await sendImage(targetAt(port, {name}), imageId, {pieces: 200})
    return imageId
  }))
  for (const [index, name] of names.entries()) {
    t.true(readFileSync(path.join(directory, `${name}.permafrost`)).equals(await imageStream(ids[index] ?? '', 200)), name)
  }
})

test('an image that comes later takes the place of the one before', async (t) => {
  const {directory, port} = await start(t)
  const [first, second] = [newId(), newId()]
  await sendImage(targetAt(port), first)
  await sendImage(targetAt(port), second)
  t.deepEqual(readdirSync(directory), ['ice.permafrost'])
  t.regex((await exchange(port, encodeRequest({kind: 'fetch', imageId: first, name: 'ice'}, digest))).toString(), /^failed .*another one/)
})

test('a connection cut anywhere leaves what was there before, and no half image under any name', async (t) => {
  const {directory, port} = await start(t)
  const before = newId()
  await sendImage(targetAt(port), before)
  const imageId = newId()
  const whole = Buffer.concat([encodeRequest({kind: 'store', imageId, name: 'ice'}, digest), await imageStream(imageId)])
  await fc.assert(fc.asyncProperty(fc.integer({min: 0, max: whole.length - 1}), fc.boolean(), async (length, isReset) => {
    const socket = createConnection({port, host: '127.0.0.1', allowHalfOpen: true})
    socket.on('error', () => undefined)
    socket.resume()
    await once(socket, 'connect')
    socket.write(whole.subarray(0, length))
    if (isReset) socket.resetAndDestroy()
    else socket.end()
    await once(socket, 'close')
    await until(() => readdirSync(directory).length === 1)
    t.true(readFileSync(path.join(directory, 'ice.permafrost')).equals(await imageStream(before)))
  }), {numRuns: 60})
})

test('a stream with any bit wrong is refused, and nothing of it stays', async (t) => {
  const {directory, port} = await start(t)
  const imageId = newId()
  const stream = await imageStream(imageId)
  await fc.assert(fc.asyncProperty(fc.integer({min: 0, max: stream.length * 8 - 1}), async (bit) => {
    const bytes = Buffer.from(stream)
    bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    const answer = await exchange(port, Buffer.concat([encodeRequest({kind: 'store', imageId, name: 'ice'}, digest), bytes]))
    t.regex(answer.toString(), /^ready \d+\nfailed /)
    t.deepEqual(readdirSync(directory), [])
  }), {numRuns: 60})
})

test('while an image is coming another one of its name is refused, and one of another name is not', async (t) => {
  const {port} = await start(t)
  await using _first = await targetAt(port).open(NEVER, newId())
  const refusal = await t.throwsAsync(async () => { await using _second = await targetAt(port).open(NEVER, newId()) }, {instanceOf: SinkError})
  t.regex(refusal.message, /Cannot send the image to 'tcp:.*another image of that name is coming/)
  await t.throwsAsync(targetAt(port).inspect(), {instanceOf: TargetError, message: /another image of that name is coming/})
  await sendImage(targetAt(port, {name: 'snow'}), newId())
})

test('a directory has one server at a time, which loses nothing of what is coming', async (t) => {
  const {directory, port} = await start(t)
  await using session = await targetAt(port).open(NEVER, newId())
  t.truthy(session)
  await until(() => readdirSync(directory).length === 1)
  const second = {host: '127.0.0.1', port: 0, digest, tls: null, say: () => undefined, store: new ImageStore(directory, digest)}
  await t.throwsAsync(Receiver.start(second), {instanceOf: StoreError, message: /^Cannot keep images in '.*': another server keeps its images there$/})
  t.is(readdirSync(directory).length, 1)
})

for (const [what, request] of [
  ['is no request', Buffer.alloc(256, 'GET / ')],
  ['is cut short', encodeRequest({kind: 'ask', imageId: '00'.repeat(16), name: 'ice'}, digest).subarray(0, 100)],
  ['has a name that leads elsewhere', withName('../ice')],
  ['has no name', withName('')],
] as const) {
  test(`what ${what} is answered with a failure`, async (t) => {
    const {directory, port} = await start(t)
    t.regex((await exchange(port, request)).toString(), /^failed .*\n$/)
    t.deepEqual(readdirSync(directory), [])
  })
}

test('what cannot be told from garbage harms nobody', async (t) => {
  const {port} = await start(t)
  await fc.assert(fc.asyncProperty(fc.uint8Array({maxLength: 600}), async (bytes) => {
    t.regex((await exchange(port, Buffer.from(bytes))).toString(), /^failed /)
  }), {numRuns: 50})
  await sendImage(targetAt(port), newId())
})

test('a server that is asked says what room it has, and changes nothing', async (t) => {
  const {directory, port} = await start(t)
  const {freeBytes} = await targetAt(port).inspect()
  t.true(freeBytes > 0 && Number.isFinite(freeBytes))
  t.deepEqual(readdirSync(directory), [])
})

test('a name under which nothing is kept is said', async (t) => {
  const {port} = await start(t)
  t.regex((await exchange(port, encodeRequest({kind: 'fetch', imageId: newId(), name: 'ice'}, digest))).toString(), /^failed .*none is kept/)
})

test('a server that is not there, or is another one, is told before anything begins', async (t) => {
  const closed = createServer()
  const port = await listen(t, closed)
  closed.close()
  await t.throwsAsync(targetAt(port).inspect(), {instanceOf: TargetError, message: /ECONNREFUSED/})
  const other = await listen(t, createServer((caller) => caller.end('HTTP/1.1 400 Bad Request\r\n')))
  await t.throwsAsync(targetAt(other).inspect(), {instanceOf: TargetError, message: /no server of images/})
  const silent = await listen(t, createServer(() => undefined))
  await t.throwsAsync(targetAt(silent, {patienceMs: 200}).inspect(), {instanceOf: TargetError, message: /no answer within 0.2 s/})
})

test('a server that takes nothing any more is given up after the time that is configured', async (t) => {
  const deaf = await listen(t, createServer((caller) => {
    caller.on('error', () => undefined)
    caller.once('data', () => void caller.pause().write('ready 1000000\n'))
  }))
  const failure = await t.throwsAsync(sendImage(targetAt(deaf, {patienceMs: 2000}), newId(), {pieces: 4000}), {instanceOf: SinkError})
  t.regex(failure.message, /nothing was heard of it for 2 s/)
})

test('a server that does not say that it has kept the image is not believed', async (t) => {
  for (const [last, reason] of [['', /closed the connection/], ['failed no room\n', /no room/], ['thanks\n', /closed the connection/]] as const) {
    const liar = await listen(t, createServer({allowHalfOpen: true}, (caller) => {
      caller.on('error', () => undefined)
      caller.once('data', () => {
        caller.write('ready 1000000\n')
        caller.resume().once('end', () => caller.end(last))
      })
    }))
    await t.throwsAsync(sendImage(targetAt(liar), newId()), {message: reason})
  }
})

test('a server that gives up in the same breath as it was ready is heard', async (t) => {
  const hasty = await listen(t, createServer((caller) => {
    caller.on('error', () => undefined)
    caller.once('data', () => void caller.resume().write('ready 1000000\nfailed another one is coming\n'))
  }))
  await t.throwsAsync(sendImage(targetAt(hasty), newId()), {message: /another one is coming/})
})

test('an abort ends a connection at once', async (t) => {
  const {directory, port} = await start(t)
  const controller = new AbortController()
  const connection = await targetAt(port).open(controller.signal, newId())
  controller.abort(new Error('enough'))
  await t.throwsAsync(connection.append(Buffer.alloc(4096)), {message: /enough/})
  await connection[Symbol.asyncDispose]()
  await until(() => readdirSync(directory).length === 0)
  t.pass()
})

test('what goes wrong while it writes is the reason that the client hears, whatever is still on its way', async (t) => {
  const {directory, port} = await start(t)
  const imageId = newId()
  // Somebody has taken the name of the file that is written.
  writeFileSync(path.join(directory, `.ice.${imageId}.part`), '')
  const failure = await t.throwsAsync(sendImage(targetAt(port), imageId, {pieces: 5000}))
  t.regex(failure.message, /EEXIST/)
})

test('a server that is killed in the middle leaves nothing that has a name, and the next one cleans up', async (t) => {
  const directory = temporaryDirectory(t)
  const first = await startCommand(t, directory)
  const imageId = newId()
  await using connection = await targetAt(first.port).open(NEVER, imageId)
  const stream = await imageStream(imageId, 500)
  await connection.append(stream.subarray(0, 1_000_000))
  await until(() => readdirSync(directory).some((name) => name.endsWith('.part')))
  first.child.kill('SIGKILL')
  await once(first.child, 'exit')
  const failure = await t.throwsAsync(async () => {
    for (;;) await connection.append(stream.subarray(0, 1_000_000))
  })
  t.regex(failure.message, /the server has closed the connection/)
  t.deepEqual(readdirSync(directory), [`.ice.${imageId}.part`])
  const second = await startCommand(t, directory)
  t.deepEqual(readdirSync(directory), [])
  await sendImage(targetAt(second.port), imageId)
  second.child.kill('SIGTERM')
  const [status]: readonly unknown[] = await once(second.child, 'exit')
  t.is(status, 0)
})

test('the command lists what is whole, and names what is not', async (t) => {
  const {directory, port} = await start(t)
  const imageId = newId()
  await sendImage(targetAt(port), imageId)
  const stream = readFileSync(path.join(directory, 'ice.permafrost'))
  writeFileSync(path.join(directory, 'short.permafrost'), stream.subarray(0, stream.length - 1))
  writeFileSync(path.join(directory, 'notes.txt'), 'mine')
  const lines = (await runCommand(['receive', 'list', directory, '--json'])).stdout.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
  t.is(lines.length, 2)
  t.like(lines[0], {name: 'ice', isWhole: true, imageId, hostname: 'ice', kernel: '6.12-ice', storedBytes: 12_288})
  t.like(lines[1], {name: 'short', isWhole: false})
  t.regex((await runCommand(['receive', 'list', directory])).stdout, new RegExp(`^ice +2023-11-14T22:13:20.000Z +1 MiB ice 6.12-ice ${imageId}\nshort +.*`))
})

for (const words of [
  ['receive'],
  ['receive', '--listen', '127.0.0.1:0'],
  ['receive', '--listen', 'here', '--directory', '/tmp'],
  ['receive', '--listen', '127.0.0.1:0', '--directory', '/tmp', '--key', '/dev/null'],
  ['receive', 'show', '/tmp'],
]) {
  test(`'permafrost ${words.join(' ')}' is wrong usage`, async (t) => {
    t.is((await runCommand(words)).status, 2)
  })
}

test('a directory that is not there is said before anybody can connect', async (t) => {
  const {status, stderr} = await runCommand(['receive', '--listen', '127.0.0.1:0', '--directory', '/nowhere'])
  t.is(status, 1)
  t.regex(stderr, /Cannot keep images in '\/nowhere'/)
})

test('an address that is taken is said', async (t) => {
  const {port, directory} = await start(t)
  await t.throwsAsync(startAt(port, temporaryDirectory(t)), {instanceOf: StoreError, message: /Cannot listen on '127.0.0.1:\d+': EADDRINUSE/})
  t.true(existsSync(directory))
})

const NEVER = new AbortController().signal

function newId(): string {
  return randomBytes(16).toString('hex')
}

function targetAt(port: number, {name = 'ice', patienceMs = 20_000} = {}) {
  const text = `tcp://127.0.0.1:${port}/${name}`
  return serverTarget({
    address: {kind: 'tcp', text, host: '127.0.0.1', port, name}, files: openFiles(), digest, patienceMs,
    readTls: () => { throw new Error('no TLS is spoken here') },
  })
}

async function startAt(port: number, directory: string): Promise<Receiver> {
  return await Receiver.start({host: '127.0.0.1', port, tls: null, digest, store: new ImageStore(directory, digest), say: () => undefined})
}

async function start(t: ExecutionContext) {
  const directory = temporaryDirectory(t)
  const receiver = await startAt(0, directory)
  t.teardown(() => receiver[Symbol.asyncDispose]())
  return {directory, port: receiver.address.port}
}

/** Everything that comes back for what is sent. */
async function exchange(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = createConnection({port, host: '127.0.0.1', allowHalfOpen: true})
  socket.end(bytes)
  return await collect(socket)
}

async function collect(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of socket as AsyncIterable<Buffer>) pieces.push(piece)
  return Buffer.concat(pieces)
}

function withName(name: string): Buffer {
  const request: ServerRequest = {kind: 'ask', imageId: '00'.repeat(16), name}
  return encodeRequest(request, digest)
}

async function listen(t: ExecutionContext, server: ReturnType<typeof createServer>): Promise<number> {
  const callers = new Set<Socket>()
  server.on('connection', (caller: Socket) => callers.add(caller))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const caller of callers) caller.destroy()
  })
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('It did not come to that within 10 s')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

async function runCommand(words: readonly string[]) {
  const child = spawnCommand(words)
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit') as Promise<readonly unknown[]>])
  return {stdout, stderr, status}
}

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
  let all = ''
  for await (const piece of stream) all += piece.toString('utf8')
  return all
}
