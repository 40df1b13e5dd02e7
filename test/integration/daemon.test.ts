import {type ChildProcess, spawn} from 'node:child_process'
import {once} from 'node:events'
import {existsSync} from 'node:fs'
import test, {type ExecutionContext} from 'ava'
import {PermafrostClient} from '../../service/bus/client.js'
import {knockAtSideDoor} from '../../service/edge/side-door.js'
import {DaemonMissingError} from '../../service/errors.js'
import {type PrivateBus, startPrivateBus} from './private-bus.js'

test('refuses on a kernel without our system calls, in one sentence, with nothing changed', async (t) => {
  const {client} = await start(t)
  const {answer, reason} = await client.canHibernate()
  t.not(answer, 'yes')
  t.regex(reason, /^Cannot hibernate/)
  await t.throwsAsync(client.hibernate(), {name: 'RemoteRefusedError', message: reason})
  t.like(await client.properties(), {State: 'idle', LastResult: reason})
  const kernel = (await client.check()).find(({id}) => id === 'kernel')
  t.false(kernel?.passed)
})

test('listens beside the bus, where it refuses an abort of nothing by name', async (t) => {
  const {bus} = await start(t)
  const refusal = await knockAtSideDoor(doorOf(bus))
  t.is(refusal?.name, 'org.permafrost1.Error.NothingToAbort')
  t.regex(refusal?.text ?? '', /no hibernation is under way/)
})

test('ends with 0 when it is told to', async (t) => {
  const {daemon} = await start(t)
  daemon.kill('SIGTERM')
  t.deepEqual(await once(daemon, 'exit'), [0, null])
})

test('ends with 1 when the bus is lost, so that systemd starts it again', async (t) => {
  const {daemon, bus} = await start(t)
  const exit = once(daemon, 'exit')
  await bus.stop()
  t.deepEqual(await exit, [1, null])
})

test('ends with 1 when another process has its name', async (t) => {
  const {bus} = await start(t)
  const second = startDaemon(t, bus)
  t.deepEqual(await once(second, 'exit'), [1, null])
})

async function start(t: ExecutionContext) {
  const bus = await startPrivateBus()
  t.teardown(() => bus.stop())
  const daemon = startDaemon(t, bus)
  const client = await PermafrostClient.connect(bus.address)
  await untilServed(client, daemon, doorOf(bus))
  return {bus, daemon, client}
}

function startDaemon(t: ExecutionContext, bus: PrivateBus): ChildProcess {
  const daemon = spawn(process.execPath, ['--import=./test/lib/register.mjs', 'service/daemon.ts'], {
    env: {...process.env, DBUS_SYSTEM_BUS_ADDRESS: bus.address, PERMAFROST_SIDE_DOOR: doorOf(bus)},
    stdio: 'ignore',
  })
  t.teardown(() => daemon.kill('SIGKILL'))
  return daemon
}

/** Beside the bus's own socket, and gone with it. */
function doorOf(bus: PrivateBus): string {
  return bus.address.replace(/^unix:path=(.*)\/bus$/, '$1/abort')
}

/** Polls until the daemon has its name and its door, and has put back what there was; on busy cores that takes half a minute. */
async function untilServed(client: PermafrostClient, daemon: ChildProcess, door: string): Promise<void> {
  const deadline = AbortSignal.timeout(120_000)
  while (daemon.exitCode === null && !deadline.aborted) {
    try {
      if ((await client.properties()).State === 'idle' && existsSync(door)) return
    } catch (error) {
      if (!(error instanceof DaemonMissingError)) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`the daemon does not serve: it ended with ${String(daemon.exitCode)}`)
}
