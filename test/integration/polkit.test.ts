import {type ChildProcess, execFile, spawn} from 'node:child_process'
import {once} from 'node:events'
import {existsSync} from 'node:fs'
import {promisify} from 'node:util'
import anyTest, {type ExecutionContext, type TestFn} from 'ava'
import {BusConnection} from '../../service/bus/connection.js'
import {BUS_NAME, MANAGER_INTERFACE, OBJECT_PATH, PROPERTIES_INTERFACE} from '../../service/bus/names.js'
import {polkitAuthority} from '../../service/bus/polkit.js'
import {type PrivateBus} from './private-bus.js'
import {startPrivatePolkit} from './private-polkit.js'
import {serve} from './served-story.js'

const run = promisify(execFile)
const POLKITD = '/usr/lib/polkit-1/polkitd'
const hasNeeds = process.getuid?.() === 0 && existsSync(POLKITD)
const test: TestFn | typeof anyTest.skip = hasNeeds ? anyTest : anyTest.skip
const title = (text: string): string => (hasNeeds ? text : `${text} (skipped: root or '${POLKITD}' is missing)`)

/** Debian's: one for each answer. */
const RULE = `
  if (subject.user == "daemon" && action.id == "org.permafrost1.hibernate") return polkit.Result.YES;
  if (subject.user == "nobody" || subject.user == "root") return polkit.Result.NO;
`
/** busctl shows this error in its own words. */
const DENIED = {message: /Access denied/}
const HIBERNATE = ['Hibernate', 'a{sv}', '0']

test(title('a caller whom a rule of polkit allows may hibernate, and not abort'), async (t) => {
  const {bus, story} = await serveWithPolkit(t)
  const call = callAs(bus, 'daemon', HIBERNATE)
  const request = await story.started()
  await t.throwsAsync(callAs(bus, 'daemon', ['Abort']), {message: /needs authentication/})
  t.false(request.signal.aborted)
  story.finish({kind: 'resumed', figures: {}})
  await call
  t.is(await callAs(bus, 'daemon', ['CanHibernate']), 'ss "yes" ""\n')
})

test(title('a caller whom polkit refuses starts nothing and is told so'), async (t) => {
  const {bus, story} = await serveWithPolkit(t)
  await t.throwsAsync(callAs(bus, 'nobody', HIBERNATE), DENIED)
  await t.throwsAsync(callAs(bus, 'nobody', ['Abort']), DENIED)
  t.regex(await callAs(bus, 'nobody', ['CanHibernate']), /^ss "no" "polkit does not grant/)
  t.is(story.calls, 0)
})

test(title('a caller who would have to authenticate is asked only where he says that he may be'), async (t) => {
  const {bus, story} = await serveWithPolkit(t)
  await t.throwsAsync(callAs(bus, 'bin', HIBERNATE), {message: /the caller does not let us ask/})
  // He may be asked, but there is nobody to ask him.
  await t.throwsAsync(callAs(bus, 'bin', HIBERNATE, 'yes'), DENIED)
  t.regex(await callAs(bus, 'bin', ['CanHibernate']), /^ss "challenge" "The caller has to authenticate/)
  t.is(story.calls, 0)
})

test(title('root is not asked about, and whoever is no root is refused when polkit has gone'), async (t) => {
  const {bus, story, polkit} = await serveWithPolkit(t)
  await polkit.stop()
  await t.throwsAsync(callAs(bus, 'daemon', HIBERNATE), DENIED)
  t.is(story.calls, 0)
  const call = callAs(bus, 'root', HIBERNATE)
  await story.started()
  story.finish({kind: 'resumed', figures: {}})
  await call
})

test(title('a caller that vanishes while polkit thinks starts nothing, and others are served'), async (t) => {
  const {bus, client, story, polkit} = await serveWithPolkit(t)
  polkit.daemon.kill('SIGSTOP')
  const caller = spawnAs(bus, 'daemon', HIBERNATE)
  t.teardown(() => caller.kill('SIGKILL'))
  // Its call has been taken when another of the same connection's daemon is answered.
  await new Promise((resolve) => setTimeout(resolve, 500))
  t.is((await client.properties()).State, 'idle')
  const end = once(caller, 'exit')
  caller.kill('SIGKILL')
  await end
  polkit.daemon.kill('SIGCONT')
  t.regex(await callAs(bus, 'nobody', ['CanHibernate']), /^ss "no"/)
  t.is(story.calls, 0)
})

test(title('a flood of calls, good and bad, from root and from others, is answered to the last one'), async (t) => {
  const {bus, client, story} = await serveWithPolkit(t)
  const floods = await Promise.all(Array.from({length: 8}, () => BusConnection.connect(bus.address)))
  t.teardown(() => Promise.all(floods.map((each) => each.close())))
  // The bus itself refuses more than 128 calls of one connection at once: dbus-daemon(1), max_replies_per_connection.
  const answers = floods.flatMap((each) => Array.from({length: 120}, (_, index) => flood(each, index)))
  const others = Array.from({length: 10}, () => callAs(bus, 'nobody', HIBERNATE))
  const ended = await Promise.allSettled(answers)
  const refused = await Promise.allSettled(others)
  t.is(ended.filter(({status}) => status === 'fulfilled').length, 480)
  const reasons = ended.flatMap((each) => (each.status === 'rejected' ? [String(each.reason)] : []))
  t.is(reasons.filter((reason) => /no answer within/.test(reason)).length, 0)
  t.is(reasons.filter((reason) => /its signature is|no method|no object/.test(reason)).length, 480)
  t.is(refused.filter(({status}) => status === 'rejected').length, 10)
  t.is(story.calls, 0)
  t.is((await client.properties()).State, 'idle')
})

/** Half of them have an answer. */
function flood(connection: BusConnection, index: number): Promise<readonly unknown[]> {
  const manager = {destination: BUS_NAME, path: OBJECT_PATH, interface: MANAGER_INTERFACE, timeoutMs: 60_000}
  const calls = [
    {...manager, member: 'CanHibernate'},
    {...manager, interface: PROPERTIES_INTERFACE, member: 'GetAll', signature: 's', body: [MANAGER_INTERFACE]},
    {...manager, member: 'Hibernate', signature: 's', body: ['x'.repeat(10_000)]},
    {...manager, member: index % 8 < 4 ? 'Explode' : 'Check', path: index % 8 < 4 ? OBJECT_PATH : '/elsewhere'},
  ]
  return connection.call(calls[index % calls.length] ?? {...manager, member: 'Check'})
}

async function serveWithPolkit(t: ExecutionContext) {
  const served = await serve(t, {findAuthority: polkitAuthority})
  const polkit = await startPrivatePolkit(served.bus, RULE)
  t.teardown(() => polkit.stop())
  return {...served, polkit}
}

async function callAs(bus: PrivateBus, user: string, call: readonly string[], interactive: 'yes' | 'no' = 'no'): Promise<string> {
  const [program = '', ...words] = commandAs(bus, user, call, interactive)
  return (await run(program, words)).stdout
}

function spawnAs(bus: PrivateBus, user: string, call: readonly string[]): ChildProcess {
  const [program = '', ...words] = commandAs(bus, user, call, 'no')
  return spawn(program, words, {stdio: 'ignore'})
}

function commandAs(bus: PrivateBus, user: string, call: readonly string[], interactive: 'yes' | 'no'): readonly string[] {
  return [
    'setpriv', `--reuid=${user}`, `--regid=${user === 'nobody' ? 'nogroup' : user}`, '--clear-groups',
    'busctl', `--address=${bus.address}`, `--allow-interactive-authorization=${interactive}`, '--timeout=60',
    'call', BUS_NAME, OBJECT_PATH, MANAGER_INTERFACE, ...call,
  ]
}
