import {readFileSync} from 'node:fs'
import test from 'ava'
import {PermafrostClient} from '../../../service/bus/client.js'
import {exitStatus, runCommandLine} from '../../../service/cli/command-line.js'
import {progressBar, statusLines} from '../../../service/cli/status.js'
import {type Surroundings} from '../../../service/cli/verb.js'
import {VERBS} from '../../../service/cli/verbs.js'
import {AbortedError, BusyError, DaemonMissingError, FailedError, NoSpareDeviceError, SnapshotError, UsageError} from '../../../service/errors.js'

for (const {line, complaint} of [
  {line: 'hibernat', complaint: /no such verb; did you mean 'hibernate'/},
  {line: 'explode', complaint: /no such verb; see 'permafrost --help'/},
  {line: 'check now', complaint: /the form is 'permafrost check'/},
  {line: 'setup', complaint: /the form is 'permafrost setup DEVICE/},
  {line: 'setup relative', complaint: /expected a device/},
  {line: 'setup /etc/passwd --yes', complaint: /expected a device/},
  {line: 'image', complaint: /the form is 'permafrost image show/},
  {line: 'image burn', complaint: /expected show, verify, discard or copy/},
  {line: 'image copy', complaint: /the form is 'permafrost image copy SOURCE TARGET'/},
  {line: 'image verify - /dev/null', complaint: /the form is 'permafrost image verify \[DEVICE\]'/},
  {line: 'check --jason', complaint: /Unknown option '--jason'/},
  {line: 'needed 7', complaint: /a process is named behind '--explain'/},
  {line: 'needed --explain', complaint: /without the number of a process/},
  {line: 'needed --explain init', complaint: /'init': expected the number of a process/},
  {line: 'check --watch', complaint: /Unknown option '--watch'/},
]) {
  test(`ends with 2 and one sentence for <${line}>`, async (t) => {
    const {status, complaints, printed} = await run(line)
    t.is(status, 2)
    t.is(complaints.length, 1)
    t.regex(complaints[0] ?? '', complaint)
    t.deepEqual(printed, [])
  })
}

for (const line of ['hibernate', 'setup /dev/null --yes', 'image show', 'image discard /dev/null']) {
  test(`refuses <${line}> to who is not root, in one sentence`, async (t) => {
    const {status, complaints} = await run(line, {isRoot: false})
    t.is(status, 3)
    t.regex(complaints.join('\n'), /^Cannot .*: this needs root$/)
  })
}

for (const line of ['check', 'status', 'needed', 'abort', 'hibernate']) {
  test(`names permafrostd.service when <${line}> finds no daemon`, async (t) => {
    const {status, complaints} = await run(line)
    t.is(status, 3)
    t.regex(complaints.join('\n'), /^Cannot reach .*permafrostd\.service'$/)
  })
}

test('says in JSON why it did nothing, and in a sentence as well', async (t) => {
  const {status, printed, complaints} = await run('check --json')
  t.is(status, 3)
  t.like(JSON.parse(printed[0] ?? ''), {ok: false, error: 'org.permafrost1.Error.DaemonMissing'})
  t.is(complaints.length, 1)
})

test('refuses a device that is not there', async (t) => {
  const {status, complaints} = await run('setup /dev/permafrost_delme --yes')
  t.is(status, 3)
  t.regex(complaints.join('\n'), /'\/dev\/permafrost_delme': there is no such block device/)
})

test('the version is that of the package', async (t) => {
  const {printed, status} = await run('--version')
  t.is(status, 0)
  t.deepEqual(printed, [`permafrost ${(JSON.parse(readFileSync('package.json', 'utf8')) as {version: string}).version}`])
})

test('shows the verbs and an example, with 0 when asked for and 2 when not', async (t) => {
  const asked = await run('--help')
  const lost = await run('')
  t.is(asked.status, 0)
  t.is(lost.status, 2)
  t.deepEqual(lost.printed, asked.printed)
  for (const {name} of VERBS) t.true(asked.printed.some((line) => line.includes(`  ${name}`)))
  t.true(asked.printed.some((line) => line.startsWith('Example: ')))
})

for (const verb of VERBS) {
  test(`shows form, flags and an example of ${verb.name}`, async (t) => {
    const {status, printed} = await run(`${verb.name} --help`)
    t.is(status, 0)
    t.deepEqual((await run(`help ${verb.name}`)).printed, printed)
    t.regex(printed[0] ?? '', new RegExp(`^Usage: permafrost ${verb.name}`))
    t.true(printed.some((line) => line.includes('--json')))
    t.true(printed.some((line) => line.startsWith('Example: permafrost ')))
  })
}

test('has one exit status for each family of errors', (t) => {
  t.deepEqual([new UsageError('x'), new BusyError('x'), new NoSpareDeviceError(null), new DaemonMissingError()].map(exitStatus), [2, 3, 3, 3])
  t.deepEqual([new SnapshotError(12), new AbortedError(), new FailedError('x'), new TypeError('x')].map(exitStatus), [1, 1, 1, 1])
})

test('draws the progress that there is, and states without one in words', (t) => {
  const properties = {State: 'saving', Progress: 0.25, TimeLeftUSec: 3_200_000n, ImageBytes: 0, LastResult: '', LastOutcome: '', LastFigures: {}}
  t.is(progressBar(properties), `saving [${'#'.repeat(10)}${'.'.repeat(30)}] 25 %, 4 s left`)
  t.is(progressBar({...properties, State: 'freezing'}), 'freezing')
  t.is(progressBar({...properties, State: 'idle', LastResult: 'Resumed'}), 'idle (Resumed)')
  t.deepEqual(statusLines({...properties, LastFigures: {pause_ns: 812_400_000n, pages_copied: 7}}), [
    'State        saving', 'Progress     25 %, 4 s left', 'Last result  none yet',
    '  pause                812.4 ms', '  pages copied         7',
  ])
})

async function run(line: string, changes: Partial<Surroundings> = {}) {
  const printed: string[] = []
  const complaints: string[] = []
  const status = await runCommandLine(line.split(' ').filter((word) => word !== ''), {
    print: (text) => printed.push(text),
    complain: (sentence) => complaints.push(sentence),
    redraw: null,
    ask: null,
    connect: () => PermafrostClient.connect('unix:path=/nonexistent/bus'),
    sideDoor: '/nonexistent/abort',
    isRoot: true,
    ...changes,
  })
  return {status, printed, complaints}
}
