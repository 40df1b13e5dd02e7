import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {mkdirSync, mkdtempSync, openSync, rmSync, symlinkSync, writeFileSync, closeSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import test from 'ava'
import {readOpenFiles, readProcessTable} from '../../../service/policy/process-table.js'

test('finds a running child with its command, program, parent and user', async (t) => {
  const child = spawn('sleep', ['60'])
  t.teardown(() => child.kill('SIGKILL'))
  await once(child, 'spawn')
  t.like(readProcessTable().find(({pid}) => pid === child.pid), {
    ppid: process.pid, comm: 'sleep', uid: process.getuid?.(),
  })
})

test('reads odd command names, units and deleted programs, and leaves the threads of the kernel out', (t) => {
  const proc = mkdtempSync(path.join(tmpdir(), 'permafrost-proc-'))
  t.teardown(() => rmSync(proc, {recursive: true}))
  writeProcess(proc, 9, {comm: 'a) (b 3', flags: 0x40_0000, cgroup: '0::/system.slice/x.service/child\n', exe: '/usr/bin/x (deleted)'})
  writeProcess(proc, 2, {comm: 'kthreadd', flags: 0x20_8040, cgroup: '0::/\n', exe: null})
  writeProcess(proc, 11, {comm: 'v1', flags: 0, cgroup: '5:memory:/m\n1:name=systemd:/user.slice/session-3.scope\n', exe: '/bin/v1'})
  mkdirSync(path.join(proc, '12')) // ended while we read
  mkdirSync(path.join(proc, 'sys'))
  t.like(readProcessTable(proc), [
    {pid: 9, ppid: 1, comm: 'a) (b 3', exe: '/usr/bin/x', cgroup: '/system.slice/x.service/child', unit: 'x.service'},
    {pid: 11, cgroup: '/user.slice/session-3.scope', unit: 'session-3.scope'},
  ])
  t.is(readProcessTable(proc).length, 2)
})

test('lists what a process has open, and nothing of one that is gone', (t) => {
  const fd = openSync('/dev/zero', 'r')
  t.teardown(() => closeSync(fd))
  t.true(readOpenFiles(process.pid).includes('/dev/zero'))
  t.deepEqual(readOpenFiles(2 ** 22 + 1), [])
})

function writeProcess(
  proc: string,
  pid: number,
  values: {readonly comm: string, readonly flags: number, readonly cgroup: string, readonly exe: string | null},
): void {
  const directory = path.join(proc, String(pid))
  mkdirSync(directory)
  writeFileSync(path.join(directory, 'stat'), `${pid} (${values.comm}) S 1 ${pid} ${pid} 0 -1 ${values.flags} 0 0 0`)
  writeFileSync(path.join(directory, 'cgroup'), values.cgroup)
  if (values.exe !== null) symlinkSync(values.exe, path.join(directory, 'exe'))
}
