import {execFileSync, spawn} from 'node:child_process'
import {randomBytes} from 'node:crypto'
import {once} from 'node:events'
import {mkdtempSync, readdirSync, rmSync} from 'node:fs'
import {createConnection} from 'node:net'
import {tmpdir} from 'node:os'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {openFiles} from '../../service/edge/files.js'
import {readTlsFiles, type TlsFiles} from '../../service/edge/tls-files.js'
import {SinkError, TargetError} from '../../service/errors.js'
import {encodeRequest} from '../../service/image/request-form.js'
import {ImageStore} from '../../service/receive/image-store.js'
import {Receiver} from '../../service/receive/receiver.js'
import {serverTarget} from '../../service/sinks/server-target.js'
import {digest, imageStream, sendImage, temporaryDirectory} from './sent-image.js'

const certificates = mkdtempSync(path.join(tmpdir(), 'permafrost-tls-'))

test.before(() => {
  execFileSync('bash', ['-c', `
    set -e; cd "$1"
    authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem"; }
    signed() { # FILE CN AUTHORITY ALTERNATIVE-NAME
      openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$1.csr"
      openssl x509 -req -in "$1.csr" -CA "$3.pem" -CAkey "$3.key" -CAcreateserial -days 30 -extfile <(echo "subjectAltName=$4") -out "$1.pem"
    }
    authority ca; authority other
    signed server server ca DNS:localhost; signed elsewhere elsewhere ca DNS:elsewhere.example; signed numbered numbered ca IP:127.0.0.1
    signed rogue server other DNS:localhost
    signed ice ice ca DNS:ice; signed intruder ice other DNS:ice`, 'bash', certificates], {stdio: 'pipe'})
})

test.after.always(() => rmSync(certificates, {recursive: true}))

test('an image goes to a server and comes back over TLS', async (t) => {
  const {directory, port} = await start(t)
  const imageId = randomBytes(16).toString('hex')
  const target = targetAt(port)
  t.true((await target.inspect()).freeBytes > 0)
  await sendImage(target, imageId, {pieces: 1000})
  t.deepEqual(readdirSync(directory), ['ice.permafrost'])
  const stream = await imageStream(imageId, 1000)
  const answer = await fetchByOpenssl(port, imageId)
  t.true(answer.equals(Buffer.concat([Buffer.from(`sending ${stream.length}\n`), stream])))
})

test('a server that is named by its address has to have a certificate for that', async (t) => {
  const {port} = await start(t, 'numbered')
  t.true((await targetAt(port, {host: '127.0.0.1'}).inspect()).freeBytes > 0)
  await t.throwsAsync(targetAt(port, {host: 'localhost'}).inspect(), {instanceOf: TargetError, message: /localhost.*(altnames|alternative|match)/i})
})

test('a server with the certificate of another host, or of another authority, gets nothing', async (t) => {
  for (const [certificate, reason] of [['elsewhere', /does not match|altnames/i], ['rogue', /certificate|self.signed|unable to verify/i]] as const) {
    const {directory, port} = await start(t, certificate)
    await t.throwsAsync(targetAt(port).inspect(), {instanceOf: TargetError, message: reason})
    await t.throwsAsync(sendImage(targetAt(port), randomBytes(16).toString('hex')), {instanceOf: SinkError, message: reason})
    t.deepEqual(readdirSync(directory), [])
  }
})

test('a machine whose certificate another authority has signed is refused', async (t) => {
  const {directory, port, lines} = await start(t)
  await t.throwsAsync(sendImage(targetAt(port, {own: 'intruder'}), randomBytes(16).toString('hex')), {instanceOf: SinkError})
  t.deepEqual(readdirSync(directory), [])
  t.false(lines.some((line) => line.startsWith('kept')))
})

test('a machine gets, and replaces, the image of its own name only', async (t) => {
  const {directory, port} = await start(t)
  await t.throwsAsync(targetAt(port, {name: 'snow'}).inspect(), {message: /the certificate is that of 'ice'/})
  await t.throwsAsync(sendImage(targetAt(port, {name: 'snow'}), randomBytes(16).toString('hex')), {message: /the certificate is that of 'ice'/})
  t.deepEqual(readdirSync(directory), [])
})

test('somebody who speaks no TLS is served nothing, and harms nobody', async (t) => {
  const {port} = await start(t)
  const socket = createConnection({port, host: '127.0.0.1'})
  socket.on('error', () => undefined)
  socket.end(encodeRequest({kind: 'ask', imageId: '00'.repeat(16), name: 'ice'}, digest))
  let heard = Buffer.alloc(0)
  socket.on('data', (piece: Buffer) => void (heard = Buffer.concat([heard, piece])))
  await once(socket, 'close')
  t.notRegex(heard.toString('latin1'), /ready/)
  await sendImage(targetAt(port), randomBytes(16).toString('hex'))
})

test('a connection that is cut in the middle leaves nothing', async (t) => {
  const {directory, port} = await start(t)
  await using connection = await targetAt(port).open(new AbortController().signal, '5a'.repeat(16))
  await connection.append((await imageStream('5a'.repeat(16), 500)).subarray(0, 1_000_000))
  await connection[Symbol.asyncDispose]()
  const deadline = performance.now() + 10_000
  while (readdirSync(directory).length > 0 && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 10))
  t.deepEqual(readdirSync(directory), [])
})

function filesOf(name: string): TlsFiles {
  const file = (suffix: string): string => path.join(certificates, suffix)
  return readTlsFiles({certificate: file(`${name}.pem`), key: file(`${name}.key`), ca: file('ca.pem')})
}

function targetAt(port: number, {host = 'localhost', name = 'ice', own = 'ice'} = {}) {
  return serverTarget({
    address: {kind: 'tls', text: `tls://${host}:${port}/${name}`, host, port, name},
    files: openFiles(), digest, patienceMs: 60_000, readTls: () => filesOf(own),
  })
}

async function start(t: ExecutionContext, certificate = 'server') {
  const directory = temporaryDirectory(t)
  const lines: string[] = []
  const receiver = await Receiver.start({
    host: '127.0.0.1', port: 0, tls: filesOf(certificate), digest, store: new ImageStore(directory, digest), say: (line) => void lines.push(line),
  })
  t.teardown(() => receiver[Symbol.asyncDispose]())
  return {directory, port: receiver.address.port, lines}
}

/** With the options that the loader gives it: kernel/loader/server.c. */
async function fetchByOpenssl(port: number, imageId: string): Promise<Buffer> {
  const file = (name: string): string => path.join(certificates, name)
  const child = spawn('openssl', [
    's_client', '-quiet', '-verify_quiet', '-tls1_3', '-connect', `127.0.0.1:${port}`, '-CAfile', file('ca.pem'), '-cert', file('ice.pem'),
    '-key', file('ice.key'), '-verify_return_error', '-verify_hostname', 'localhost', '-servername', 'localhost',
  ], {stdio: ['pipe', 'pipe', 'inherit']})
  child.stdin.write(encodeRequest({kind: 'fetch', imageId, name: 'ice'}, digest))
  const pieces: Buffer[] = []
  for await (const piece of child.stdout as AsyncIterable<Buffer>) pieces.push(piece)
  return Buffer.concat(pieces)
}
