import {chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {runSleepHooks} from '../../../service/cli/sleep-hooks.js'

test('gives every hook its two arguments and the variable systemd sets', async (t) => {
  const {directory, record} = hooks(t)
  writeHook(directory, '10-a', `echo "a $1 $2 $SYSTEMD_SLEEP_ACTION" >> ${record}`)
  await runSleepHooks({phase: 'pre', directories: [directory], onComplaint: t.fail})
  await runSleepHooks({phase: 'post', directories: [directory], onComplaint: t.fail})
  t.is(readFileSync(record, 'utf8'), 'a pre hibernate hibernate\na post hibernate hibernate\n')
})

test('runs hooks side by side: each may wait for another', async (t) => {
  const {directory, record} = hooks(t)
  writeHook(directory, '10-first', `while [ ! -e ${record} ]; do sleep 0.01; done`)
  writeHook(directory, '20-second', `touch ${record}`)
  await runSleepHooks({phase: 'pre', directories: [directory], onComplaint: t.fail, timeoutMs: 10_000})
  t.pass()
})

test('goes on and says so when a hook fails, cannot run or takes too long', async (t) => {
  const {directory} = hooks(t)
  const complaints: string[] = []
  writeHook(directory, '10-fails', 'exit 3')
  writeHook(directory, '20-hangs', 'exec sleep 60')
  writeFileSync(path.join(directory, '30-nonsense'), '#!/nonexistent/interpreter\n', {mode: 0o755})
  await runSleepHooks({phase: 'pre', directories: [directory], timeoutMs: 300, onComplaint: (sentence) => complaints.push(sentence)})
  complaints.sort()
  t.is(complaints.length, 3)
  t.regex(complaints[0] ?? '', /10-fails' to its end: it ended with 3, ignoring$/)
  t.regex(complaints[1] ?? '', /20-hangs' to its end: it ended with SIGKILL, ignoring$/)
  t.regex(complaints[2] ?? '', /30-nonsense' to its end: .*ENOENT.*, ignoring$/)
})

test('leaves out what is hidden, not executable, masked or replaced by a later directory', async (t) => {
  const {directory, record} = hooks(t)
  const later = path.join(path.dirname(directory), 'later')
  mkdirSync(later)
  writeHook(directory, '10-replaced', `echo old >> ${record}`)
  writeHook(later, '10-replaced', `echo new >> ${record}`)
  writeHook(directory, '20-masked', `echo masked >> ${record}`)
  symlinkSync('/dev/null', path.join(later, '20-masked'))
  writeHook(directory, '.hidden', `echo hidden >> ${record}`)
  writeFileSync(path.join(directory, '30-plain'), 'no program', {mode: 0o644})
  chmodSync(path.join(directory, '30-plain'), 0o644)
  await runSleepHooks({phase: 'pre', directories: [directory, later, '/nonexistent'], onComplaint: t.fail})
  t.is(readFileSync(record, 'utf8'), 'new\n')
})

function hooks(t: ExecutionContext) {
  const root = mkdtempSync(path.join(tmpdir(), 'permafrost-hooks-'))
  t.teardown(() => rmSync(root, {recursive: true}))
  const directory = path.join(root, 'system-sleep')
  mkdirSync(directory)
  return {directory, record: path.join(root, 'record')}
}

function writeHook(directory: string, name: string, script: string): void {
  writeFileSync(path.join(directory, name), `#!/bin/sh\n${script}\n`, {mode: 0o755})
}
