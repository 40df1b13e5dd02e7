import {getSystemErrorName} from 'node:util'
import {PAGE_BYTES} from './page.js'

/**
 * Every error that may reach a person, one class a cause, told apart by class and
 * fields, never by text.
 *
 * - `RefusedError`: nothing was changed and nothing was frozen.
 * - `FailedError`: something had begun; whoever catches it has rolled it back.
 *
 * `busName` is the name under which the error travels on D-Bus.
 */
export class PermafrostError extends Error {
  readonly busName: string = 'org.permafrost1.Error.Failed'

  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
  }
}

export class RefusedError extends PermafrostError {
  override readonly busName: string = 'org.permafrost1.Error.Refused'
}

export class FailedError extends PermafrostError {}

/** What a file system or device-mapper may answer and libuv has no name for: include/uapi/asm-generic/errno.h. */
const OTHER_NAMES: Readonly<Record<number, string>> = {117: 'EUCLEAN', 126: 'ENOKEY', 127: 'EKEYEXPIRED', 128: 'EKEYREVOKED', 129: 'EKEYREJECTED'}

/** The name of an errno as the kernel's manual pages print it, such as EBUSY. */
export function errnoName(errno: number): string {
  const number = Math.abs(errno)
  try {
    const name = getSystemErrorName(-number)
    if (name.startsWith('E')) return name
  } catch {
    // No number that errno can be.
  }
  return OTHER_NAMES[number] ?? `errno ${number}`
}

/** The text of anything thrown, for use behind the colon of another error's text. */
export function causeText(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause)
  const code: unknown = Reflect.get(cause, 'code')
  const isSystemError = typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) && 'syscall' in cause
  return isSystemError ? code : cause.message
}

// Refusals

export class NotRootError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.NotRoot'

  constructor(readonly attempt: string) {
    super(`Cannot ${attempt}: this needs root`)
  }
}

export class NotAuthorizedError extends RefusedError {
  override readonly busName = 'org.freedesktop.DBus.Error.AccessDenied'

  constructor(readonly method: string, cause: string, options?: ErrorOptions) {
    super(`Cannot allow '${method}': ${cause}`, options)
  }
}

/** Asking the person would allow it, but the caller did not say that it may ask. */
export class InteractionRequiredError extends RefusedError {
  override readonly busName = 'org.freedesktop.DBus.Error.InteractiveAuthorizationRequired'

  constructor(readonly method: string) {
    super(`Cannot allow '${method}': it needs authentication, and the caller does not let us ask for it`)
  }
}

export class InvalidArgumentsError extends RefusedError {
  override readonly busName = 'org.freedesktop.DBus.Error.InvalidArgs'

  constructor(readonly method: string, cause: string) {
    super(`Cannot call '${method}': ${cause}`)
  }
}

export class KernelTooOldError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.KernelTooOld'

  constructor(readonly release: string) {
    super(`Cannot hibernate on kernel '${release}': it lacks freeze_processes() and snapshot_kernel(); boot a Permafrost kernel`)
  }
}

export class NoSpareDeviceError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.NoSpareDevice'

  constructor(readonly device: string | null, options?: ErrorOptions) {
    super(
      device === null
        ? "Cannot hibernate: no spare device is configured; run 'permafrost setup DEVICE'"
        : `Cannot use spare device '${device}': ${options === undefined ? 'there is no such block device' : causeText(options.cause)}`,
      options,
    )
  }
}

/** The device is there, but `permafrost setup` never claimed it. */
export class SpareNotSetUpError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.SpareNotSetUp'

  constructor(readonly device: string) {
    super(`Cannot use spare device '${device}': it has no Permafrost superblock; run 'permafrost setup ${device}'`)
  }
}

export class SpareTooSmallError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.SpareTooSmall'

  constructor(readonly device: string, readonly neededBytes: number, readonly availableBytes: number) {
    super(
      `Cannot use spare device '${device}': ${mebibytes(neededBytes)} MiB are needed, it has ${Math.floor(availableBytes / 2 ** 20)} MiB; set up a larger one`,
    )
  }
}

/** `use` says who holds the device: "it has an ext4 signature", "it is mounted on '/mnt'". */
export class SpareInUseError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.SpareInUse'

  constructor(readonly device: string, readonly use: string) {
    super(`Cannot use spare device '${device}': ${use}`)
  }
}

export class UnmappedFileSystemError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.UnmappedFileSystem'

  constructor(readonly mountPoint: string, readonly device: string) {
    super(
      `Cannot hibernate with '${mountPoint}' mounted: its device '${device}' is not a device-mapper device that can be snapshotted; unmount it, or put it into /etc/fstab and boot again`,
    )
  }
}

/** One of our files cannot be taken for what it says; nothing of it is. */
export abstract class FileError extends RefusedError {
  abstract readonly file: string
}

/** Somebody but root may have written the file or directory: `who` `may` do that, "'alice' (1000)" "owns" it. */
export class UntrustedFileError extends FileError {
  override readonly busName = 'org.permafrost1.Error.UntrustedFile'

  constructor(override readonly file: string, readonly who: string, may: 'owns' | 'may write to') {
    const remedy = may === 'owns' ? 'chown root' : 'chmod go-w'
    super(`Cannot trust '${file}': ${who} ${may} it; look at what it says, then run '${remedy} ${file}'`)
  }
}

/** One of our files cannot be read at all. */
export class UnreadableFileError extends FileError {
  override readonly busName = 'org.permafrost1.Error.UnreadableFile'

  constructor(override readonly file: string, fault: string) {
    super(`Cannot read '${file}': ${fault}; mend or remove it`)
  }
}

/** A wrong line in one of our files; `line` counts from 1. */
export abstract class LineError extends FileError {
  constructor(
    override readonly file: string,
    readonly line: number,
    readonly value: string,
    readonly expected: string,
  ) {
    super(`Cannot read '${file}:${line}': '${value}' is wrong, expected ${expected}`)
  }
}

export class ConfigurationError extends LineError {
  override readonly busName = 'org.permafrost1.Error.Configuration'
}

export class PolicyError extends LineError {
  override readonly busName = 'org.permafrost1.Error.Policy'
}

/** `missing` is how much memory the snapshot would lack, where that is known. */
export class TooLittleMemoryError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.TooLittleMemory'

  constructor(readonly missingBytes: number, purpose: string) {
    super(`Cannot hibernate: ${mebibytes(missingBytes)} MiB more of free memory are needed ${purpose}; end a program`)
  }
}

export class BusyError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.Busy'

  constructor(readonly activity: string) {
    super(`Cannot start: ${activity}`)
  }
}

/** Abort() was called while there was nothing to abort, or too late for it. */
export class NothingToAbortError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.NothingToAbort'

  constructor(cause: string) {
    super(`Cannot abort: ${cause}`)
  }
}

export class DaemonMissingError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.DaemonMissing'

  constructor(options?: ErrorOptions) {
    super("Cannot reach 'org.permafrost1': the daemon does not run; try 'systemctl start permafrostd.service'", options)
  }
}

/** Whoever is to take the image is not there, or would not take it. */
export class TargetError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.Target'

  constructor(readonly target: string, reason: string, options?: ErrorOptions) {
    super(`Cannot send the image to '${target}': ${reason}`, options)
  }
}

/** A check of the preflight that has no class of its own did not pass. */
export class CheckFailedError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.CheckFailed'

  constructor(readonly check: string, remedy: string, options?: ErrorOptions) {
    super(`Cannot hibernate: ${remedy}`, options)
  }
}

export class NoSuchProcessError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.NoSuchProcess'

  constructor(readonly pid: number) {
    super(`Cannot explain process '${pid}': there is none of that number outside the kernel`)
  }
}

export class UsageError extends RefusedError {
  override readonly busName = 'org.permafrost1.Error.Usage'
}

// Failures

export interface Offender {
  readonly pid: number
  readonly command: string
}

const FREEZE_CAUSES: Readonly<Record<string, string>> = {
  EPERM: 'CAP_SYS_BOOT is missing, or this is a container',
  EBUSY: 'another freezer or hibernation is at work',
  ETIMEDOUT: 'not all tasks could be stopped in time',
}

export class FreezeError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.Freeze'

  constructor(readonly errno: number, readonly offender: Offender | null = null) {
    const name = errnoName(errno)
    const who = offender === null ? '' : `; '${offender.command}' (pid ${offender.pid}) does not stop`
    super(`Cannot freeze processes: ${FREEZE_CAUSES[name] ?? name}${who}`)
  }
}

const SNAPSHOT_CAUSES: Readonly<Record<string, string>> = {
  EPERM: 'CAP_SYS_BOOT is missing, or the kernel is locked down',
  EBUSY:
    'another hibernation is at work, a swap device or file system is being added or removed, or a mounted block file system was not named; the kernel log says which',
  EXDEV: 'a file system keeps its journal or log on a device of its own, which is not covered; the kernel log names it',
  ETIMEDOUT: 'a process did not stop, or hangs in the middle of a write to a file system; the kernel log names it',
  ENXIO: 'a device has no inactive table',
  EOPNOTSUPP: 'a process uses secret memory (memfd_secret), or the kernel was started with nohibernate',
}

/** `pagesShort`, with ENOMEM, is how many pages of memory the kernel would have needed more; 0 where it could not tell. */
export class SnapshotError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.Snapshot'

  constructor(readonly errno: number, readonly pagesShort: number | bigint = 0) {
    const name = errnoName(errno)
    const cause = name === 'ENOMEM' ? memoryShortage(pagesShort) : SNAPSHOT_CAUSES[name] ?? name
    super(`Cannot take the snapshot: ${cause}`)
  }
}

function memoryShortage(pagesShort: number | bigint): string {
  const amount = Number(pagesShort) === 0 ? '' : `${mebibytes(Number(pagesShort) * PAGE_BYTES)} MiB `
  return `${amount}more memory needed: close something, or add swap`
}

/** The image on `device` cannot be written, read or believed; `fault` says why. */
export class ImageError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.Image'

  constructor(readonly device: string, readonly fault: string, options?: ErrorOptions) {
    super(`Cannot use the image on '${device}': ${fault}`, options)
  }
}

export class SinkError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.Sink'

  constructor(readonly attempt: string, readonly device: string, options?: ErrorOptions) {
    super(`Cannot ${attempt} '${device}': ${causeText(options?.cause ?? 'unknown cause')}`, options)
  }
}

/** A server of images cannot do what it is there for; `object` is a name, a directory, an address. */
export class StoreError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.Store'

  constructor(readonly attempt: string, readonly object: string, options?: ErrorOptions) {
    super(`Cannot ${attempt} '${object}': ${causeText(options?.cause ?? 'unknown cause')}`, options)
  }
}

/** While everybody runs on beside a snapshot: every page that is changed takes another one. */
export class MemoryRunsOutError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.MemoryRunsOut'

  constructor(readonly availableBytes: number) {
    super(`Cannot keep the snapshot: only ${mebibytes(availableBytes)} MiB of memory are left for what runs on; close something, or add memory`)
  }
}

export class DeviceMapperError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.DeviceMapper'

  constructor(readonly attempt: string, readonly device: string, readonly reason: string, options?: ErrorOptions) {
    super(`Cannot ${attempt} '${device}': ${reason}`, options)
  }
}

/** What is written while saving has nearly no more room, or, with nothing left, none: writes have failed then. */
export class CowFullError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.CowFull'

  constructor(readonly mountPoint: string, readonly leftBytes: number, readonly totalBytes: number) {
    super(
      `Cannot finish saving the image: too much is written to '${mountPoint}' meanwhile, ` +
        `${leftBytes === 0 ? 'nothing' : `${mebibytes(leftBytes)} MiB`} of ${mebibytes(totalBytes)} MiB for it ${leftBytes === 0 ? 'is' : 'are'} left; ` +
        'let fewer daemons go on, or set up a larger spare device',
    )
  }
}

export class AbortedError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.Aborted'

  constructor(options?: ErrorOptions) {
    super('Cannot finish hibernating: it was aborted', options)
  }
}

/** Any other call of the kernel that failed. */
export class SystemCallError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.SystemCall'

  constructor(readonly attempt: string, readonly errno: number) {
    super(`Cannot ${attempt}: ${errnoName(errno)}`)
  }
}

/** Thrown where PERMAFROST_FAULT says so, by tests alone. */
export class FaultInjectedError extends FailedError {
  constructor(readonly point: string) {
    super(`Cannot pass fault point '${point}': PERMAFROST_FAULT names it`)
  }
}

export class BusLostError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.BusLost'

  constructor(options?: ErrorOptions) {
    super('Cannot go on with D-Bus: the connection to the bus was lost', options)
  }
}

export class DaemonGoneError extends FailedError {
  override readonly busName = 'org.permafrost1.Error.DaemonGone'

  constructor(options?: ErrorOptions) {
    super("Cannot finish: 'permafrostd.service' ended in the middle; the machine goes on, and its next start puts everything back", options)
  }
}

export class TimedOutError extends FailedError {
  override readonly busName = 'org.freedesktop.DBus.Error.NoReply'

  constructor(readonly attempt: string, readonly timeoutMs: number) {
    super(`Cannot ${attempt}: no answer within ${timeoutMs / 1000} s`)
  }
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20)
}
