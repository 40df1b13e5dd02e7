import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {mkdtempSync, rmSync} from 'node:fs'
import {constants, tmpdir} from 'node:os'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {openDatagrams} from '../../../service/edge/datagram.js'
import {encodeEntry, openJournal} from '../../../service/edge/journal.js'
import {openServiceManager} from '../../../service/edge/notify.js'

test('encodes one field a line, and a value of several lines with its length', (t) => {
  t.is(encodeEntry({MESSAGE: 'hello', PRIORITY: '6'}).toString(), 'MESSAGE=hello\nPRIORITY=6\n')
  t.is(encodeEntry({MESSAGE: 'a\nb'}).toString('latin1'), 'MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n')
})

test('refuses a field name the journal would drop', (t) => {
  t.throws(() => encodeEntry({_PID: '1'}), {message: /'_PID'/})
  t.throws(() => encodeEntry({'A=B': '1'}), {message: /'A=B'/})
})

test('keeps lines in order while the journal takes none, and sends them when it does', (t) => {
  const journal = fakeJournal()
  journal.errno = constants.errno.EAGAIN
  journal.log.info('first', {STEP: 'freeze'})
  journal.log.error('second')
  t.deepEqual(journal.received, [])
  journal.errno = 0
  journal.log.warning('third')
  t.deepEqual(messages(journal.received), ['first', 'second', 'third'])
  t.true(journal.received[0]?.includes('STEP=freeze\n'))
  t.deepEqual(journal.received.map((entry) => /PRIORITY=(.)/.exec(entry)?.[1]), ['6', '3', '4'])
})

test('tries again by itself, though nobody logs or flushes any more', async (t) => {
  const journal = fakeJournal()
  journal.errno = constants.errno.EAGAIN
  journal.log.error('the last line')
  journal.errno = 0
  const deadline = performance.now() + 10_000
  while (journal.received.length === 0 && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20))
  t.deepEqual(messages(journal.received), ['the last line'])
})

test('delivers nothing twice when flushed again', (t) => {
  const journal = fakeJournal()
  journal.log.info('once')
  journal.log.flush()
  t.deepEqual(messages(journal.received), ['once'])
})

test('says how many lines it lost when too many came', (t) => {
  const journal = fakeJournal()
  journal.errno = constants.errno.EAGAIN
  for (let line = 0; line < 1003; line += 1) journal.log.info(`line ${line}`)
  journal.errno = 0
  journal.log.flush()
  t.is(journal.received.length, 1001)
  t.deepEqual(messages(journal.received).slice(0, 2), ['3 log lines were lost while nobody took them', 'line 3'])
})

test('writes to the fallback where no journal is running', (t) => {
  const journal = fakeJournal()
  journal.errno = constants.errno.ENOENT
  journal.log.info('nobody listens')
  t.deepEqual(journal.fallback, ['permafrostd: nobody listens'])
})

test('reaches a real datagram socket, and does not wait when its reader is stopped', async (t) => {
  const {socketPath, lines, child} = await listen(t)
  const log = openJournal({identifier: 'permafrostd', socketPath, fallback: (line) => t.fail(line)})
  log.info('hello\nworld', {MESSAGE_ID: 'f'.repeat(32)})
  t.regex(await lines(1), /MESSAGE\\n\\x0b.*hello\\nworld\\nPRIORITY=6\\n.*MESSAGE_ID=f{32}\\n/)
  child.kill('SIGSTOP')
  const start = performance.now()
  for (let line = 0; line < 500; line += 1) log.info(`line ${line}`)
  t.true(performance.now() - start < 1000)
  child.kill('SIGCONT')
  let seen = 1
  while (seen < 501) {
    await new Promise((resolve) => setTimeout(resolve, 2))
    log.flush()
    seen = Math.max(seen, (await lines(0)).split('\n').length - 1)
  }
  const all = await lines(501)
  t.true(all.indexOf('line 7\\n') < all.indexOf('line 499\\n'))
})

test('tells the service manager that it is ready, over an abstract address as well', async (t) => {
  const {socketPath, lines} = await listen(t, '@permafrost-test-')
  openServiceManager(socketPath).ready('Waiting')
  t.regex(await lines(1), /READY=1\\nSTATUS=Waiting/)
})

test('tells nobody without NOTIFY_SOCKET', (t) => {
  const sent: string[] = []
  openServiceManager(undefined, (socketPath) => sent.push(socketPath)).ready('Waiting')
  t.deepEqual(sent, [])
})

test('gives the errno of a socket that is not there', (t) => {
  t.is(openDatagrams()('/nonexistent/socket', Buffer.from('x')), constants.errno.ENOENT)
})

function fakeJournal() {
  const state = {errno: 0, received: [] as string[], fallback: [] as string[]}
  const log = openJournal({
    identifier: 'permafrostd',
    send: (_socketPath, bytes) => {
      if (state.errno === 0) state.received.push(bytes.toString())
      return state.errno
    },
    fallback: (line) => state.fallback.push(line),
  })
  return Object.assign(state, {log})
}

function messages(entries: readonly string[]): readonly (string | undefined)[] {
  return entries.map((entry) => /^MESSAGE=(.*)$/m.exec(entry)?.[1])
}

/** Node cannot listen on a Unix datagram socket, so Python does; one line of repr() a datagram. */
async function listen(t: ExecutionContext, abstractPrefix?: string) {
  const directory = mkdtempSync(path.join(tmpdir(), 'permafrost-datagram-'))
  const socketPath = abstractPrefix === undefined ? path.join(directory, 'socket') : `${abstractPrefix}${process.pid}`
  const program = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', '\\0', 1))
print('ready', flush=True)
while True: print(repr(s.recv(65536)), flush=True)
`
  const child = spawn('python3', ['-c', program, socketPath], {stdio: ['ignore', 'pipe', 'inherit']})
  t.teardown(() => {
    child.kill('SIGKILL')
    rmSync(directory, {recursive: true})
  })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  const received = (): string => text.slice('ready\n'.length)
  const lines = async (count: number): Promise<string> => {
    while (received().split('\n').length - 1 < count) await once(child.stdout, 'data')
    return received()
  }
  while (!text.startsWith('ready\n')) await once(child.stdout, 'data')
  return {socketPath, lines, child}
}
