import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {AbortedError, NoSpareDeviceError, SinkError, SnapshotError} from '../../service/errors.js'
import {startPrivateBus} from './private-bus.js'
import {serve} from './served-story.js'

test('runs hooks before and after, all at once, with what systemd-sleep gives them, and ends with 0', async (t) => {
  const {bus, story} = await serve(t)
  const hooks = newHooks(t, ['one', 'two'])
  const sleep = startSleep(t, bus.address, hooks.directory)
  await story.started()
  t.deepEqual(hooks.calls(), ['one pre hibernate hibernate', 'two pre hibernate hibernate'])
  story.finish({kind: 'resumed', figures: {}})
  t.deepEqual(await sleep.ended, {status: 0, stderr: ''})
  t.deepEqual(hooks.calls().slice(2), ['one post hibernate hibernate', 'two post hibernate hibernate'])
})

test('refuses with 3 and the sentence, without having run a hook', async (t) => {
  const {bus, story} = await serve(t)
  story.checks = [{id: 'spare', title: 'There is a spare device', passed: false, remedy: "Cannot hibernate: run 'permafrost setup DEVICE'"}]
  const hooks = newHooks(t, ['one'])
  t.deepEqual(await startSleep(t, bus.address, hooks.directory).ended, {
    status: 3, stderr: "Cannot hibernate: run 'permafrost setup DEVICE'\n",
  })
  t.deepEqual(hooks.calls(), [])
  t.is(story.calls, 0)
})

test('refuses with 3 when there are no hooks either, judged once by the daemon', async (t) => {
  const {bus, story} = await serve(t)
  story.checks = [{id: 'spare', title: 'There is a spare device', passed: false, remedy: 'Run permafrost setup'}]
  const sleep = startSleep(t, bus.address, newHooks(t, []).directory)
  await story.started()
  story.fail(new NoSpareDeviceError(null))
  const {status, stderr} = await sleep.ended
  t.is(status, 3)
  t.regex(stderr, /no spare device is configured/)
})

test('fails with 1 and the sentence, and the hooks hear of the way back', async (t) => {
  const {bus, story} = await serve(t)
  const hooks = newHooks(t, ['one'])
  const sleep = startSleep(t, bus.address, hooks.directory)
  await story.started()
  story.finish({kind: 'rolled-back', cause: new SnapshotError(12, 7n), figures: {}})
  const {status, stderr} = await sleep.ended
  t.is(status, 1)
  t.regex(stderr, /more memory needed/)
  t.deepEqual(hooks.calls(), ['one pre hibernate hibernate', 'one post hibernate hibernate'])
})

test('fails with 1 when what made it fail would make the next one be refused', async (t) => {
  const {bus, story} = await serve(t)
  const sleep = startSleep(t, bus.address, newHooks(t, []).directory)
  await story.started()
  story.checks = [{id: 'target', title: 'Whoever takes the image is there', passed: false, remedy: 'gone'}]
  story.finish({kind: 'rolled-back', cause: new SinkError('write the image to', 'tcp://store:1/ice', {cause: new Error('gone')}), figures: {}})
  t.is((await sleep.ended).status, 1)
})

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`makes an abort of ${signal}, waits for the way back and lets hooks hear of it`, async (t) => {
    const {bus, story} = await serve(t)
    const hooks = newHooks(t, ['one'])
    const sleep = startSleep(t, bus.address, hooks.directory)
    const request = await story.started()
    const aborted = once(request.signal, 'abort')
    sleep.child.kill(signal)
    await aborted
    t.is(sleep.child.exitCode, null)
    story.finish({kind: 'rolled-back', cause: new AbortedError(), figures: {}})
    const {status, stderr} = await sleep.ended
    t.is(status, 1)
    t.regex(stderr, /it was aborted/)
    t.deepEqual(hooks.calls(), ['one pre hibernate hibernate', 'one post hibernate hibernate'])
  })
}

test('asks for nothing when it is told to end while hooks run, and they hear that it is over', async (t) => {
  const {bus, story} = await serve(t)
  const hooks = newHooks(t, ['one'])
  const begun = path.join(hooks.directory, 'begun')
  writeFileSync(path.join(hooks.directory, 'slow'), `#!/bin/sh\n[ "$1" = post ] || { : > '${begun}'; sleep 1; }\n`, {mode: 0o755})
  const sleep = startSleep(t, bus.address, hooks.directory)
  while (!existsSync(begun)) await new Promise((resolve) => setTimeout(resolve, 10))
  sleep.child.kill('SIGTERM')
  t.is((await sleep.ended).status, 1)
  t.is(story.calls, 0)
  t.deepEqual(hooks.calls(), ['one pre hibernate hibernate', 'one post hibernate hibernate'])
})

test('goes on when a hook fails, and names it; does not run what cannot be run', async (t) => {
  const {bus, story} = await serve(t)
  const hooks = newHooks(t, ['one', 'bad'])
  writeFileSync(path.join(hooks.directory, 'bad'), '#!/bin/sh\nexit 9\n')
  writeFileSync(path.join(hooks.directory, 'README'), 'no program')
  const sleep = startSleep(t, bus.address, hooks.directory)
  await story.started()
  story.finish({kind: 'resumed', figures: {}})
  const {status, stderr} = await sleep.ended
  t.is(status, 0)
  t.regex(stderr, /Cannot run hook '.*\/bad' to its end: it ended with 9, ignoring/)
  t.notRegex(stderr, /README/)
  t.deepEqual(hooks.calls(), ['one pre hibernate hibernate', 'one post hibernate hibernate'])
})

test('goes on when caches cannot be written out, as on a server that is gone, and says so', async (t) => {
  const {bus, story} = await serve(t)
  const programs = newHooks(t, ['one'])
  writeFileSync(path.join(programs.directory, 'sync'), '#!/bin/sh\nexec sleep 30 2> /dev/null\n', {mode: 0o755})
  const sleep = startSleep(t, bus.address, newHooks(t, []).directory, {
    PATH: `${programs.directory}:${process.env['PATH'] ?? ''}`, PERMAFROST_SYNC_PATIENCE: '1',
  })
  await story.started()
  story.finish({kind: 'resumed', figures: {}})
  t.deepEqual(await sleep.ended, {
    status: 0, stderr: 'Cannot write out all caches within 1 s: a device or server does not answer, ignoring\n',
  })
})

test('refuses with 3 when there is no daemon', async (t) => {
  const bus = await startPrivateBus()
  t.teardown(() => bus.stop())
  const hooks = newHooks(t, ['one'])
  const {status, stderr} = await startSleep(t, bus.address, hooks.directory).ended
  t.is(status, 3)
  t.regex(stderr, /^Cannot ask permafrostd\.service: [^\n]+\n$/)
  t.deepEqual(hooks.calls(), [])
})

test('fails with 1 when the daemon ends in the middle', async (t) => {
  const {bus, story, server} = await serve(t)
  const sleep = startSleep(t, bus.address, newHooks(t, []).directory)
  await story.started()
  await server.close()
  t.not((await sleep.ended).status, 0)
})

/** Hooks that write down how they were called. */
function newHooks(t: ExecutionContext, names: readonly string[]) {
  const place = mkdtempSync(path.join(tmpdir(), 'permafrost-hooks-'))
  t.teardown(() => rmSync(place, {recursive: true}))
  const directory = path.join(place, 'hooks')
  const log = path.join(place, 'log')
  mkdirSync(directory)
  for (const name of names) {
    writeFileSync(path.join(directory, name), `#!/bin/sh\necho "${name} $* $SYSTEMD_SLEEP_ACTION" >> '${log}'\n`)
    chmodSync(path.join(directory, name), 0o755)
  }
  /** Of one phase in the order of names: hooks run side by side. */
  const calls = (): readonly string[] => {
    const lines = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []
    return ['pre', 'post'].flatMap((phase) => lines.filter((line) => line.split(' ')[1] === phase).sort())
  }
  return {directory, calls}
}

function startSleep(t: ExecutionContext, address: string, hooks: string, more: NodeJS.ProcessEnv = {}) {
  const child = spawn('units/sleep', [], {
    env: {...process.env, DBUS_SYSTEM_BUS_ADDRESS: address, PERMAFROST_SLEEP_HOOKS: hooks, ...more},
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (piece) => {
    stderr += String(piece)
  })
  const ended = once(child, 'close').then(([status]) => ({status: status as unknown, stderr}))
  return {child, ended}
}
