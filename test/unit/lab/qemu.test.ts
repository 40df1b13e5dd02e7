import {mkdtempSync, rmSync} from 'node:fs'
import {createServer} from 'node:net'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {setTimeout as delay} from 'node:timers/promises'
import test, {type ExecutionContext} from 'ava'
import {identify, lastKiller, pressKeys, startQemu, waitForEnd} from '../../lab/qemu.js'

/** A monitor that says so much to whoever connects, and no more. */
async function monitorThatSays(t: ExecutionContext, ...lines: readonly object[]): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-monitor-'))
  const path = join(directory, 'monitor')
  const server = createServer(socket => {
    socket.on('error', () => undefined)
    socket.write(lines.map(line => `${JSON.stringify(line)}\n`).join(''))
  })
  t.teardown(() => { server.close(); rmSync(directory, {recursive: true}) })
  await new Promise<void>(resolve => { server.listen(path, resolve) })
  return path
}

const GREETING = {QMP: {}}

test('the wait for the end of a machine that stays on can be given up', async t => {
  const monitor = await monitorThatSays(t, GREETING)
  const error = await t.throwsAsync(waitForEnd(identify(process.pid), monitor, AbortSignal.timeout(100)), {any: true})
  t.is((error as DOMException).name, 'TimeoutError')
})

test('a machine that has ended before anybody waits is gone', async t => {
  t.is(await waitForEnd({pid: process.pid, startTicks: '1'}, '/nonexistent/monitor', new AbortController().signal), 'gone')
})

test('an answer of the monitor other than yes is an error with what it was', async t => {
  const monitor = await monitorThatSays(t, GREETING, {return: {}}, {error: {desc: 'no such thing'}})
  await t.throwsAsync(pressKeys(monitor, 'alt', 'sysrq'), {message: /send-key.*no such thing/})
})

test('it is known which signal ended QEMU, since it says nothing when it crashes', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-qemu-'))
  t.teardown(() => { rmSync(directory, {recursive: true}) })
  const qemuLog = join(directory, 'qemu.log')
  const qemu = await startQemu({
    memoryMib: 16, cpus: 1, kernel: null, initrd: null, isDebug: false, commandLine: '', disks: [], network: null, agentPorts: [], diesWithStarter: true,
    consoleLog: join(directory, 'console.log'), consoleInput: join(directory, 'console'), monitor: join(directory, 'monitor'), qemuLog
  })
  t.is(lastKiller(qemuLog), null)
  process.kill(qemu.pid, 'SIGSEGV')
  while (lastKiller(qemuLog) === null)
    await delay(10)
  t.is(lastKiller(qemuLog), 'SIGSEGV')
})
