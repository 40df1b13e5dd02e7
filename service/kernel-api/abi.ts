import type {DeviceNumber} from '../edge/device-number.js'

/**
 * Mirror of include/uapi/linux/snapshot_kernel.h, x86-64.
 *
 * - All integers are little-endian; offsets are those of the C structs, which have no implicit padding.
 * - The numbers 500 to 502 lie in a gap the series documents: free of upstream's and of x32's.
 */
export const SYSCALL_FREEZE_PROCESSES = 500
export const SYSCALL_SNAPSHOT_KERNEL = 501
/** Nobody calls it yet: the loader goes through /dev/snapshot. */
export const SYSCALL_RESUME_SNAPSHOT = 502

/** Pseudo-signals, past _NSIG: they reach whole thread groups and are never queued. */
export const SIGFREEZE = 65
export const SIGUNFREEZE = 66

export const FREEZE_PROCESSES_VERSION = 1
export const ABI_VERSION = 1

export const FREEZE_ARGUMENTS_BYTES = 48
export const SNAPSHOT_ARGUMENTS_BYTES = 104
export const SNAPSHOT_DEVICE_BYTES = 8
export const SNAPSHOT_DEVICES_MAXIMUM = 64

/** include/uapi/linux/reboot.h */
export const LINUX_REBOOT_CMD_POWER_OFF = 0x4321fedc
export const LINUX_REBOOT_CMD_RESTART = 0x01234567

export interface FreezeResult {
  readonly taskCount: number
  readonly offenderPid: number
  readonly offenderCommand: string
  readonly durationNs: bigint
}

export function encodeFreezeArguments(request: {readonly timeoutMs: number}): Buffer {
  const bytes = Buffer.alloc(FREEZE_ARGUMENTS_BYTES)
  bytes.writeUInt32LE(request.timeoutMs, 4)
  return bytes
}

export function decodeFreezeArguments(bytes: Buffer): FreezeResult {
  const command = bytes.subarray(16, 32)
  const end = command.indexOf(0)
  return {
    taskCount: bytes.readUInt32LE(8),
    offenderPid: bytes.readUInt32LE(12),
    offenderCommand: command.toString('utf8', 0, end < 0 ? command.length : end),
    durationNs: bytes.readBigUInt64LE(32),
  }
}

/** What the kernel tells about a snapshot; `protectNs`, `copyNs` and `suspendDmNs` are parts of `pauseNs`. */
export interface SnapshotFigures {
  readonly imageBytes: bigint
  readonly pagesCopied: bigint
  readonly pagesInPlace: bigint
  readonly pagesZero: bigint
  readonly pauseNs: bigint
  readonly suspendDmNs: bigint
  readonly protectNs: bigint
  readonly copyNs: bigint
}

export interface SnapshotArguments {
  readonly freezerFd: number
  readonly devices: readonly DeviceNumber[]
}

/**
 * The argument struct with its array of devices right behind it, in one piece of memory
 * so that both live equally long. The caller writes the address of the array, which it
 * alone knows, with `writeDevicesAddress`.
 */
export function encodeSnapshotArguments({freezerFd, devices}: SnapshotArguments): Buffer {
  const bytes = Buffer.alloc(SNAPSHOT_ARGUMENTS_BYTES + devices.length * SNAPSHOT_DEVICE_BYTES)
  bytes.writeUInt32LE(devices.length, 16)
  bytes.writeInt32LE(freezerFd, 20)
  devices.forEach((device, index) => {
    const offset = SNAPSHOT_ARGUMENTS_BYTES + index * SNAPSHOT_DEVICE_BYTES
    bytes.writeUInt32LE(device.major, offset)
    bytes.writeUInt32LE(device.minor, offset + 4)
  })
  return bytes
}

export function writeDevicesAddress(bytes: Buffer, addressOfBytes: bigint): void {
  bytes.writeBigUInt64LE(addressOfBytes + BigInt(SNAPSHOT_ARGUMENTS_BYTES), 8)
}

export function decodeSnapshotFigures(bytes: Buffer): SnapshotFigures {
  return {
    imageBytes: bytes.readBigUInt64LE(24),
    pagesCopied: bytes.readBigUInt64LE(32),
    pagesInPlace: bytes.readBigUInt64LE(40),
    pagesZero: bytes.readBigUInt64LE(48),
    pauseNs: bytes.readBigUInt64LE(64),
    suspendDmNs: bytes.readBigUInt64LE(72),
    protectNs: bytes.readBigUInt64LE(80),
    copyNs: bytes.readBigUInt64LE(88),
  }
}

/** How many pages were missing, when snapshot_kernel() answered ENOMEM. */
export function decodePagesShort(bytes: Buffer): bigint {
  return bytes.readBigUInt64LE(56)
}
