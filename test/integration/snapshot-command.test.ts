import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test, {type ExecutionContext} from 'ava'
import type {SnapshotOrder} from '../../service/bus/interface.js'
import {AbortedError, FailedError} from '../../service/errors.js'
import {socketTarget} from '../../service/sinks/socket-target.js'
import type {SnapshotOutcome, SnapshotRequest} from '../../service/stories/snapshot.js'
import {serve} from './served-story.js'

const BYTES = Buffer.alloc(3 * 2 ** 20, 'page')
const IMAGE_ID = '5a'.repeat(16)
const MERGED: SnapshotOutcome = {kind: 'merged', figures: {}}

/** The command and its pipeline are real processes; what stands for the daemon is on a bus of its own. */
test('what the daemon sends comes out of the pipeline, whole', async (t) => {
  const run = await start(t, async (request, order) => await send(request, order))
  const {status, stdout} = await run('permafrost snapshot --to - --then merge | cat')
  t.is(status, 0)
  t.true(stdout.equals(BYTES))
  t.deepEqual(run.orders().map(({then}) => then), ['merge'])
})

test('the daemon hears of the end only when the last of the pipeline has ended', async (t) => {
  const run = await start(t, async (request, order) => {
    const outcome = await send(request, order)
    heard = readFileSync(join(run.directory, 'kept')).length
    return outcome
  })
  let heard = 0
  const {status} = await run('permafrost snapshot --to - --then merge | cat | (sleep 1; cat > "$PLACE/held"; sleep 1; mv "$PLACE/held" "$PLACE/kept")')
  t.is(status, 0)
  t.is(heard, BYTES.length)
})

test('a log around the whole pipeline is not waited for', async (t) => {
  const run = await start(t, async (request, order) => await send(request, order))
  const {status} = await run('(permafrost snapshot --to - --then merge | cat > "$PLACE/kept") 2>&1 | cat')
  t.is(status, 0)
  t.true(readFileSync(join(run.directory, 'kept')).equals(BYTES))
})

test('in the resumed system the pipeline finds the end at once, and the command is content', async (t) => {
  const run = await start(t, async ({signal}, {socket}) => {
    await using _connection = await socketTarget(socket, 'test').open(signal, IMAGE_ID)
    return {kind: 'resumed', figures: {}}
  })
  const {status, stdout} = await run('permafrost snapshot --to - | cat')
  t.is(status, 0)
  t.is(stdout.length, 0)
})

test('a reader that goes in the middle is the reason of the failure', async (t) => {
  const run = await start(t, async (request, order) => await send(request, order))
  const {status, stderr} = await run('permafrost snapshot --to - --then merge | head -c 1000 > /dev/null')
  t.is(status, 1)
  t.regex(stderr, /whoever read it has gone/)
})

test('a file system that is full is the reason of the failure', async (t) => {
  const run = await start(t, async (request, order) => await send(request, order))
  const {status, stderr} = await run('ulimit -f 100; trap "" XFSZ; permafrost snapshot --to - --then merge > "$PLACE/small"')
  t.is(status, 1)
  t.regex(stderr, /EFBIG/)
})

test('Ctrl-C aborts, and a reader that does not read is not waited for', async (t) => {
  const run = await start(t, async (request, order) => {
    try {
      return await send(request, order, () => process.kill(-run.group(), 'SIGINT'))
    } catch (error) {
      writeFileSync(join(run.directory, 'aborted'), '')
      return {kind: 'rolled-back', cause: request.signal.aborted ? request.signal.reason as Error : error as Error, figures: {}}
    }
  })
  const {status, stderr} = await run('permafrost snapshot --to - --then merge | (trap "" INT; until [ -e "$PLACE/aborted" ]; do sleep 0.1; done)', {isGrouped: true})
  t.is(status, 1)
  t.regex(stderr, new RegExp(new AbortedError().message))
})

test('why the daemon gave up is what the command says', async (t) => {
  const run = await start(t, async () => ({kind: 'rolled-back', cause: new FailedError('Cannot freeze: a test'), figures: {}}))
  const {status, stderr} = await run('permafrost snapshot --to - | cat')
  t.is(status, 1)
  t.regex(stderr, /Cannot freeze: a test/)
  t.deepEqual(readdirSync(run.directory).filter((name) => name.startsWith('snapshot-')), [])
})

test('a reader that leaves the last of it in the pipe is the reason of the failure', async (t) => {
  const run = await start(t, async (request, order) => await send(request, order))
  const {status, stderr} = await run(`permafrost snapshot --to - --then merge | (head -c ${BYTES.length - 40_000} > /dev/null; sleep 3)`)
  t.is(status, 1)
  t.regex(stderr, /whoever read it has left some of it/)
})

for (const [what, pipeline, complaint] of [
  ['a file in memory', '> "/dev/shm/permafrost-$$"', /what is below '\/dev\/shm' is in memory/],
  ['a socket', '', /it goes to a socket/],
] as const) {
  test(`${what} would not keep an image when the power has gone`, async (t) => {
    const run = await start(t, async () => MERGED)
    const {status, stderr} = await run(`trap 'rm -f "/dev/shm/permafrost-$$"' EXIT; (permafrost snapshot --to -) ${pipeline}`)
    t.is(status, 2)
    t.regex(stderr, complaint)
    t.regex(stderr, /or say '--then merge'/)
    t.is(run.orders().length, 0)
  })
}

test('an image that the last of the pipeline has put into memory is a failure, and what it says there is none', async (t) => {
  const run = await start(t, async (request, order) => await send(request, order))
  const remove = `trap 'rm -f "/dev/shm/permafrost-$$"' EXIT`
  const kept = await run(`${remove}; permafrost snapshot --to - | cat > "/dev/shm/permafrost-$$"`)
  t.is(kept.status, 1)
  t.regex(kept.stderr, /'cat' writes it to a file, but what is below '\/dev\/shm' is in memory/)
  const said = await run(`${remove}; permafrost snapshot --to - | (echo hello; cat > /dev/null) > "/dev/shm/permafrost-$$"`)
  t.is(said.status, 0)
})

test('who started the command may read an image that the machine goes on from', async (t) => {
  const run = await start(t, async (request, order) => await send(request, order))
  const {status, stdout} = await run('text=$(permafrost snapshot --to - --then merge); status=$?; echo ${#text}; exit $status')
  t.is(status, 0)
  t.is(stdout.toString().trim(), String(BYTES.length))
})

test('who started the command cannot tell when he has all of it', async (t) => {
  const run = await start(t, async () => MERGED)
  const {status, stderr} = await run('text=$(permafrost snapshot --to -)')
  t.is(status, 2)
  t.regex(stderr, /who started this command reads it/)
})

for (const [words, complaint] of [
  ['snapshot', /say where it goes/],
  ['snapshot --to /dev/vda', /say where it goes/],
  ['snapshot --to - --then sleep', /expected 'halt' or 'merge'/],
] as const) {
  test(`'permafrost ${words}' is wrong usage and starts nothing`, async (t) => {
    const run = await start(t, async () => MERGED)
    const {status, stderr} = await run(`permafrost ${words} | cat`)
    t.is(status, 2)
    t.regex(stderr, complaint)
    t.is(run.orders().length, 0)
  })
}

async function send({signal}: SnapshotRequest, {socket}: SnapshotOrder, onFirst: () => void = () => {}): Promise<SnapshotOutcome> {
  await using connection = await socketTarget(socket, 'standard output').open(signal, IMAGE_ID)
  await connection.append(BYTES.subarray(0, 100))
  onFirst()
  await connection.append(BYTES.subarray(100))
  await connection.finish()
  return MERGED
}

/** Gives a shell in which `permafrost` is the command of this repository. */
async function start(t: ExecutionContext, tell: (request: SnapshotRequest, order: SnapshotOrder) => Promise<SnapshotOutcome>) {
  const {bus, story} = await serve(t)
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-snapshot-'))
  t.teardown(() => rmSync(directory, {recursive: true}))
  const orders: SnapshotOrder[] = []
  story.takeSnapshot = async (request, order) => {
    orders.push(order)
    return await tell(request, order)
  }
  let group = 0
  const run = async (script: string, {isGrouped = false} = {}) => {
    const command = `permafrost() { exec ${process.execPath} --import=./test/lib/register.mjs service/cli.ts "$@"; }`
    const child = spawn('bash', ['-c', `set -o pipefail; ${command}; ${script}`], {
      env: {...process.env, DBUS_SYSTEM_BUS_ADDRESS: bus.address, PERMAFROST_RUNTIME_DIRECTORY: directory, PLACE: directory},
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: isGrouped,
    })
    group = child.pid ?? 0
    t.teardown(() => child.kill('SIGKILL'))
    const [stdout, stderr] = [collect(child.stdout), collect(child.stderr)]
    const [status]: readonly unknown[] = await once(child, 'exit')
    if (isGrouped) killGroup(group)
    return {status, stdout: await stdout, stderr: (await stderr).toString('utf8')}
  }
  return Object.assign(run, {directory, orders: () => orders, group: () => group})
}

/** Whoever of the pipeline is still there holds our ends of its pipes. */
function killGroup(group: number): void {
  try {
    process.kill(-group, 'SIGKILL')
  } catch {
    // Nobody is left of it.
  }
}

async function collect(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of stream) pieces.push(piece)
  return Buffer.concat(pieces)
}
