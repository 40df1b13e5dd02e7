import {closeSync, openSync, writeFileSync} from 'node:fs'
import {constants, release} from 'node:os'
import koffi from 'koffi'
import type {DeviceNumber} from '../edge/device-number.js'
import {FreezeError, KernelTooOldError, SnapshotError, SystemCallError} from '../errors.js'
import {
  decodeFreezeArguments,
  decodePagesShort,
  decodeSnapshotFigures,
  encodeFreezeArguments,
  encodeSnapshotArguments,
  FREEZE_PROCESSES_VERSION,
  LINUX_REBOOT_CMD_POWER_OFF,
  LINUX_REBOOT_CMD_RESTART,
  SNAPSHOT_ARGUMENTS_BYTES,
  SYSCALL_FREEZE_PROCESSES,
  SYSCALL_RESUME_SNAPSHOT,
  SYSCALL_SNAPSHOT_KERNEL,
  type SnapshotFigures,
  writeDevicesAddress,
} from './abi.js'

export interface FreezeTicket {
  readonly fd: number
  readonly taskCount: number
  readonly durationNs: bigint
}

export interface SnapshotRequest {
  /** Memory kept free for user space while it saves. */
  readonly overheadPages: number
  readonly freezerFd: number
  readonly devices: readonly DeviceNumber[]
}

/** The call returns twice: once where it was made, and once in the machine that was resumed, where nothing has been measured. */
export type SnapshotResult =
  | {readonly side: 'created'; readonly imageFd: number; readonly figures: SnapshotFigures}
  | {readonly side: 'resumed'}

/**
 * The kernel, as far as the stories need more of it than files.
 * Every call is synchronous: while one runs, nothing else of the service does.
 */
export interface Syscalls {
  /** Freezes all but this process, its tracer and kernel threads; throws FreezeError. */
  freezeProcesses(request: {readonly timeoutMs: number}): FreezeTicket
  /** The version of the interface; throws KernelTooOldError where there is none. */
  queryVersion(): number
  kill(pid: number, signal: number): void
  /** Throws SnapshotError, and then everything is as before. */
  snapshotKernel(request: SnapshotRequest): SnapshotResult
  /** Goes back to the instant of a snapshot, out of memory: there snapshotKernel() returns. Throws SystemCallError when it did not. */
  resumeSnapshot(imageFd: number): never
  /** Drops page cache that nobody maps and that is on disk: proc(5), /proc/sys/vm/drop_caches. */
  dropPageCache(): void
  /** Has the random generator make new keys of all that the kernel has gathered: random(4), RNDRESEEDCRNG. */
  reseedRandom(): void
  close(fd: number): void
  /** Through the kernel, not through PID 1, which may be frozen. */
  powerOff(): never
  /** At once, and without writing anything to any disk; the kernel's log gets the reason. */
  restart(reason: string): never
}

/** libc's `long syscall(long number, …)`, `kill`, `reboot` and `ioctl`, each with the errno of the call. */
interface Libc {
  freeze(bytes: Buffer | null, size: number, flags: number): Answer
  snapshot(overheadPages: number, bytes: Buffer, size: number): Answer
  resume(fd: number, flags: number): Answer
  kill(pid: number, signal: number): Answer
  reboot(command: number): Answer
  ioctl(fd: number, request: number): Answer
}

interface Answer {
  readonly value: number
  readonly errno: number
}

export function openSyscalls(): Syscalls {
  const libc = loadLibc()
  return {
    freezeProcesses: (request) => freezeProcesses(libc, request),
    queryVersion: () => queryVersion(libc),
    kill(pid, signal) {
      const {value, errno} = libc.kill(pid, signal)
      if (value < 0) throw new SystemCallError(`send signal ${signal} to process '${pid}'`, errno)
    },
    snapshotKernel: (request) => snapshotKernel(libc, request),
    resumeSnapshot(imageFd) {
      const {errno} = libc.resume(imageFd, 0)
      throw new SystemCallError('go back to the snapshot', errno)
    },
    dropPageCache: () => writeFileSync('/proc/sys/vm/drop_caches', '1'),
    reseedRandom: () => reseedRandom(libc),
    close: closeSync,
    powerOff() {
      const {errno} = libc.reboot(LINUX_REBOOT_CMD_POWER_OFF | 0)
      throw new SystemCallError('power off', errno)
    },
    restart(reason) {
      writeFileSync('/dev/kmsg', `<2>permafrost: ${reason}\n`)
      const {errno} = libc.reboot(LINUX_REBOOT_CMD_RESTART)
      throw new SystemCallError('restart', errno)
    },
  }
}

function freezeProcesses(libc: Libc, request: {readonly timeoutMs: number}): FreezeTicket {
  const bytes = encodeFreezeArguments(request)
  const {value, errno} = libc.freeze(bytes, bytes.length, 0)
  const result = decodeFreezeArguments(bytes)
  if (value >= 0) return {fd: value, taskCount: result.taskCount, durationNs: result.durationNs}
  const hasOffender = errno === constants.errno.ETIMEDOUT && result.offenderPid !== 0
  throw new FreezeError(errno, hasOffender ? {pid: result.offenderPid, command: result.offenderCommand} : null)
}

function queryVersion(libc: Libc): number {
  const {value, errno} = libc.freeze(null, 0, FREEZE_PROCESSES_VERSION)
  if (value >= 0) return value
  if (errno === constants.errno.ENOSYS) throw new KernelTooOldError(release())
  throw new SystemCallError('ask the kernel for the version of freeze_processes()', errno)
}

function snapshotKernel(libc: Libc, request: SnapshotRequest): SnapshotResult {
  const bytes = encodeSnapshotArguments(request)
  writeDevicesAddress(bytes, koffi.address(bytes))
  const {value, errno} = libc.snapshot(request.overheadPages, bytes, SNAPSHOT_ARGUMENTS_BYTES)
  if (value < 0) throw new SnapshotError(errno, decodePagesShort(bytes))
  return value === 0 ? {side: 'resumed'} : {side: 'created', imageFd: value, figures: decodeSnapshotFigures(bytes)}
}

/** linux/random.h: _IO('R', 0x07). */
const RNDRESEEDCRNG = 0x5207

function reseedRandom(libc: Libc): void {
  const fd = openSync('/dev/urandom', 'r')
  try {
    const {value, errno} = libc.ioctl(fd, RNDRESEEDCRNG)
    if (value < 0) throw new SystemCallError('reseed the random generator', errno)
  } finally {
    closeSync(fd)
  }
}

function loadLibc(): Libc {
  const library = koffi.load('libc.so.6')
  const freeze = library.func('long syscall(long number, void *arguments, size_t size, unsigned int flags)')
  const snapshot = library.func('long syscall(long number, unsigned long overhead, void *arguments, size_t size)')
  const resume = library.func('long syscall(long number, int fd, unsigned int flags)')
  const kill = library.func('int kill(int pid, int signal)')
  const reboot = library.func('int reboot(int command)')
  const ioctl = library.func('int ioctl(int fd, unsigned long request, ...)')
  const answer = (value: number): Answer => ({value, errno: value < 0 ? koffi.errno() : 0})
  return {
    freeze: (bytes, size, flags) => answer(freeze(SYSCALL_FREEZE_PROCESSES, bytes, size, flags)),
    snapshot: (pages, bytes, size) => answer(snapshot(SYSCALL_SNAPSHOT_KERNEL, pages, bytes, size)),
    resume: (fd, flags) => answer(resume(SYSCALL_RESUME_SNAPSHOT, fd, flags)),
    kill: (pid, signal) => answer(kill(pid, signal)),
    reboot: (command) => answer(reboot(command)),
    ioctl: (fd, request) => answer(ioctl(fd, request)),
  }
}
