import {fstatSync, openSync} from 'node:fs'
import test from 'ava'
import {SystemCallError} from '../../../service/errors.js'
import {FrozenProcesses, SnapshotImage} from '../../../service/kernel-api/freezer.js'
import {openSyscalls, type Syscalls} from '../../../service/kernel-api/syscalls.js'

test('sending signal 0 to oneself succeeds', (t) => {
  t.notThrows(() => openSyscalls().kill(process.pid, 0))
})

test('a signal to a process that does not exist is an error with its errno', (t) => {
  const error = t.throws(() => openSyscalls().kill(2 ** 30, 0), {instanceOf: SystemCallError})
  t.is(error?.message, "Cannot send signal 0 to process '1073741824': ESRCH")
  t.is(error?.errno, 3)
})

test('close gives the file descriptor back', (t) => {
  const fd = openSync('/dev/null', 'r')
  openSyscalls().close(fd)
  t.throws(() => fstatSync(fd), {code: 'EBADF'})
})

test('disposing frozen processes closes the freezer once, however often it is thawed', async (t) => {
  const {syscalls, closed} = recordingSyscalls()
  {
    await using frozen = FrozenProcesses.freeze(syscalls, {timeoutMs: 1000})
    t.is(frozen.fd, 40)
    t.is(frozen.taskCount, 12)
    t.deepEqual(closed, [])
    frozen.thaw()
  }
  t.deepEqual(closed, [40])
})

test('disposing a snapshot image closes it once, however often it is released', async (t) => {
  const {syscalls, closed} = recordingSyscalls()
  {
    await using image = new SnapshotImage(syscalls, 41)
    image.release()
  }
  t.deepEqual(closed, [41])
})

function recordingSyscalls(): {syscalls: Syscalls; closed: number[]} {
  const closed: number[] = []
  const unexpected = (): never => {
    throw new Error('not expected here')
  }
  const syscalls: Syscalls = {
    freezeProcesses: () => ({fd: 40, taskCount: 12, durationNs: 1n}),
    queryVersion: () => 1,
    kill: unexpected,
    snapshotKernel: unexpected,
    resumeSnapshot: unexpected,
    dropPageCache: unexpected,
    reseedRandom: unexpected,
    close: (fd) => closed.push(fd),
    powerOff: unexpected,
    restart: unexpected,
  }
  return {syscalls, closed}
}
