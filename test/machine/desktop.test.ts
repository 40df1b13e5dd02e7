import test from 'ava'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {holdMemory, kernelLogOf, waitFor} from '../lab/workload.js'

const MANAGER = 'org.permafrost1 /org/permafrost1 org.permafrost1.Manager'
const LOGIND = 'org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager'
/** SD_MESSAGE_SLEEP_START and SD_MESSAGE_SLEEP_STOP of systemd/sd-messages.h. */
const SLEEP_START = '6bbd95ee977941e497c48be27c254128'
const SLEEP_STOP = '8811e6df2a8e40f58a94cea26f8ebf14'
/** More than a small machine would show of a service whose memory grows with the image. */
const MEMORY_MIB = 1536
/** What the service may take with two processors, whatever is saved: 32 of it are buffers. */
const SERVICE_MIB = 104

/** For system-sleep: what systemd-sleep(8) says it is called with. */
const HOOK = '#!/bin/sh\necho "$1 $2 $SYSTEMD_SLEEP_ACTION" >> /run/hooks\n'

let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('service-desktop', {memoryMib: MEMORY_MIB})
  await inside(machine, [
    'systemd-run', '--quiet', '--unit=listener', '--property=StandardOutput=file:/run/prepare.log',
    'dbus-monitor', '--system', "type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForSleep'"
  ])
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

test.serial('logind can hibernate, and offers nothing that would take the stock path', async t => {
  t.is(await insideShell(machine, `busctl call ${LOGIND} CanHibernate`), 's "yes"\n')
  for (const verb of ['CanHybridSleep', 'CanSuspendThenHibernate'])
    t.not(await insideShell(machine, `busctl call ${LOGIND} ${verb}`), 's "yes"\n', verb)
})

for (const verb of ['hybrid-sleep', 'suspend-then-hibernate']) {
  test.serial(`${verb} does not reach the kernel, asked for through logind or as a unit`, async t => {
    t.not((await attemptInside(machine, ['systemctl', verb])).status, 0)
    t.not((await attemptInside(machine, ['systemctl', 'start', `systemd-${verb}.service`])).status, 0)
    t.notRegex(await kernelLogOf(machine), /PM: hibernation: hibernation entry|PM: suspend entry/)
  })
}

test.serial('a block inhibitor refuses whoever heeds inhibitors', async t => {
  await inside(machine, [
    'systemd-run', '--quiet', '--unit=blocker', 'systemd-inhibit', '--what=sleep', '--mode=block', '--who=burner', '--why=burning', 'sleep', '3600'
  ])
  await waitFor(machine, 'systemd-inhibit --list --no-legend | grep -q burner')
  const refused = await attemptInside(machine, ['systemctl', '--check-inhibitors=yes', 'hibernate'])
  t.not(refused.status, 0)
  t.regex(refused.stderr, /burn/)
  t.notRegex(await kernelLogOf(machine), /snapshot_kernel:/)
})

test.serial('goes on with --ignore-inhibitors, after who delays, and all hear of it before and after', async t => {
  // Listens as a desktop's screen locker does, and lets go a second after it was told.
  await insideShell(machine, 'printf %s "$1" > /root/delay', `
until grep -q "boolean true" /run/prepare.log; do sleep 0.05; done
sleep 1
date +%s%N > /run/let-go
`)
  await inside(machine, ['systemd-run', '--quiet', '--unit=delayer', 'systemd-inhibit', '--what=sleep', '--mode=delay', '--who=locker', 'sh', '/root/delay'])
  await waitFor(machine, 'systemd-inhibit --list --no-legend | grep -q locker')
  await insideShell(machine, 'printf "%s" "$1" > "$2"; chmod +x "$2"', HOOK, '/usr/lib/systemd/system-sleep/lab')
  await holdMemory(machine, 'hold', 900)
  await insideShell(machine, 'printf "#!/bin/sh\\nexec systemctl --check-inhibitors=yes --ignore-inhibitors hibernate\\n" > /root/ask; chmod +x /root/ask')
  const saved = await hibernate(machine, ['/root/ask'])
  t.true(saved.ok, saved.reason ?? '')
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  await waitFor(machine, 'grep -q "boolean false" /run/prepare.log')
  const heard = (await inside(machine, ['cat', '/run/prepare.log'])).match(/boolean (true|false)/g)
  t.deepEqual(heard, ['boolean true', 'boolean false'])
  t.is(await inside(machine, ['cat', '/run/hooks']), 'pre hibernate hibernate\npost hibernate hibernate\n')
  const letGo = Number(await inside(machine, ['cat', '/run/let-go'])) / 1e6
  const asleep = await timeOfMessage(machine, SLEEP_START)
  t.true(asleep > letGo, `slept at ${asleep}, let go at ${letGo}`)
  const awake = await timeOfMessage(machine, SLEEP_STOP)
  t.true(awake > asleep, `slept at ${asleep}, awake at ${awake}`)
})

test.serial('the journal has one entry of the attempt, and status --last shows it', async t => {
  const {last} = JSON.parse(await inside(machine, ['permafrost', 'status', '--last', '--json'])) as {
    readonly last: {readonly result: string, readonly figures: Readonly<Record<string, number>>}
  }
  t.is(last.result, 'resumed')
  for (const name of ['pause_ns', 'freeze_ns', 'copy_ns', 'save_ms', 'pages_in_place', 'pages_copied', 'image_bytes', 'stored_bytes', 'frozen_tasks'])
    t.true((last.figures[name] ?? 0) > 0, name)
  const text = await inside(machine, ['permafrost', 'status', '--last'])
  t.regex(text, /^Result {2}resumed$/m)
  t.log(text)
})

test.serial('the service took less memory than it may', async t => {
  const {last} = JSON.parse(await inside(machine, ['permafrost', 'status', '--last', '--json'])) as {
    readonly last: {readonly figures: Readonly<Record<string, number>>}
  }
  const mib = (last.figures['service_peak_bytes'] ?? 0) / 2 ** 20
  t.log(`${mib.toFixed(1)} MiB at most, image ${((last.figures['image_bytes'] ?? 0) / 2 ** 20).toFixed(0)} MiB`)
  t.true(mib > 10 && mib < SERVICE_MIB, `${mib} MiB`)
})

test.serial('why a process would keep running is explained', async t => {
  t.regex(await inside(machine, ['permafrost', 'needed', '--explain', '1']), /^'systemd' \(pid 1, init\.scope\) is frozen: no line of the policy picks it\n$/)
  await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d; printf "[Needed]\\nUnit=init.scope\\nReason=A test\\n" > /etc/permafrost/policy.d/test.conf')
  t.regex(await inside(machine, ['permafrost', 'needed', '--explain', '1']), /keeps running by \/etc\/permafrost\/policy\.d\/test\.conf:2: A test\n$/)
  await inside(machine, ['rm', '/etc/permafrost/policy.d/test.conf'])
  const absent = await attemptInside(machine, ['permafrost', 'needed', '--explain', '4000000'])
  t.is(absent.status, 3)
})

test.serial('the service comes back after the bus was restarted, and is confined', async t => {
  await inside(machine, ['systemctl', 'restart', 'dbus.service'])
  await waitFor(machine, `busctl call ${MANAGER} CanHibernate 2> /dev/null | grep -q '"yes"'`)
  const security = await inside(machine, ['systemd-analyze', '--no-pager', 'security', 'permafrostd.service'])
  t.log(security.trim().split('\n').at(-1))
  t.regex(security, /Overall exposure level for permafrostd\.service: [0-4]\.\d/)
})

/** Milliseconds since 1970, by the machine's clock, at which the journal got its last message with that id. */
async function timeOfMessage(where: ScratchMachine, id: string): Promise<number> {
  const entry: unknown = JSON.parse(await inside(where, ['journalctl', '-o', 'json', '-n', '1', `MESSAGE_ID=${id}`]))
  return Number((entry as {readonly __REALTIME_TIMESTAMP: string}).__REALTIME_TIMESTAMP) / 1e3
}
