import test from 'ava'
import * as abi from '../../../service/kernel-api/abi.js'
import {readUapiHeader, type Struct} from './uapi-header.js'

const header = readUapiHeader()

/** Every number that the service knows, and what the kernel calls it. */
const NAMES: Readonly<Record<string, string>> = {
  SYSCALL_FREEZE_PROCESSES: '__NR_freeze_processes',
  SYSCALL_SNAPSHOT_KERNEL: '__NR_snapshot_kernel',
  SYSCALL_RESUME_SNAPSHOT: '__NR_resume_snapshot',
  SIGFREEZE: 'SIGFREEZE',
  SIGUNFREEZE: 'SIGUNFREEZE',
  FREEZE_PROCESSES_VERSION: 'FREEZE_PROCESSES_VERSION',
  ABI_VERSION: 'FREEZE_PROCESSES_ABI',
  FREEZE_ARGUMENTS_BYTES: 'struct freeze_processes_args',
  SNAPSHOT_ARGUMENTS_BYTES: 'struct snapshot_kernel_args',
  SNAPSHOT_DEVICE_BYTES: 'struct snapshot_kernel_device',
  SNAPSHOT_DEVICES_MAXIMUM: 'SNAPSHOT_KERNEL_MAX_DEVICES',
  LINUX_REBOOT_CMD_POWER_OFF: 'LINUX_REBOOT_CMD_POWER_OFF',
  LINUX_REBOOT_CMD_RESTART: 'LINUX_REBOOT_CMD_RESTART'
}

const numbers = Object.entries<unknown>(abi).filter((entry): entry is [string, number] => typeof entry[1] === 'number')

for (const [name, value] of numbers) {
  test(`${name} is what the kernel series says`, t => {
    const kernelName = NAMES[name] ?? 'unnamed in this test'
    const [, struct] = /^struct (.*)/.exec(kernelName) ?? []
    const expected = struct === undefined ? header.constants.get(kernelName) : header.structs.get(struct)?.bytes
    t.is(value, expected ?? Number.NaN)
  })
}

test('no number of the list has left the service', t => {
  t.deepEqual(numbers.map(([name]) => name).sort(), Object.keys(NAMES).sort())
})

function structOf(name: string): Struct {
  const struct = header.structs.get(name)
  if (struct === undefined)
    throw new Error(`Cannot find 'struct ${name}' in the header`)
  return struct
}

/** The members that are not zero, by name. */
function membersOf(name: string, bytes: Buffer): Record<string, bigint> {
  const {members} = structOf(name)
  const value = (offset: number, length: number) =>
    bytes.subarray(offset, offset + length).reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n)
  return Object.fromEntries(members.map(({name, offset, bytes: length}) => [name, value(offset, length)] as const)
    .filter(([, number]) => number !== 0n))
}

/** A struct with these members, the others full of ones: whoever reads beside a member notices. */
function structWith(name: string, values: Readonly<Record<string, bigint | string>>): Buffer {
  const {bytes, members} = structOf(name)
  const buffer = Buffer.alloc(bytes, 0xff)
  for (const [member, value] of Object.entries(values)) {
    const {offset, bytes: length} = members.find(one => one.name === member) ?? {offset: bytes, bytes: 0}
    if (typeof value === 'string')
      buffer.write(value, offset, length)
    else if (length === 4)
      buffer.writeUInt32LE(Number(value), offset)
    else
      buffer.writeBigUInt64LE(value, offset)
  }
  return buffer
}

test('freeze arguments carry the time-out and nothing else', t => {
  const bytes = abi.encodeFreezeArguments({timeoutMs: 0x01020304})
  t.is(bytes.length, structOf('freeze_processes_args').bytes)
  t.deepEqual(membersOf('freeze_processes_args', bytes), {timeout_ms: 0x01020304n})
})

test('freeze results are read from where the kernel writes them', t => {
  const bytes = structWith('freeze_processes_args', {
    nr_tasks: 123n, offender_pid: 77n, offender_comm: 'fuse\0garbage', duration_ns: 5_000_000_000n
  })
  t.deepEqual(abi.decodeFreezeArguments(bytes), {
    taskCount: 123, offenderPid: 77, offenderCommand: 'fuse', durationNs: 5_000_000_000n
  })
})

test('an offender whose name fills all its bytes is read whole', t => {
  const {bytes: length} = structOf('freeze_processes_args').members.find(member => member.name === 'offender_comm') ?? {bytes: 0}
  const name = 'n'.repeat(length)
  t.is(abi.decodeFreezeArguments(structWith('freeze_processes_args', {offender_comm: name})).offenderCommand, name)
})

test('snapshot arguments name freezer and devices, and the array lies behind the struct', t => {
  const devices = [{major: 254, minor: 0}, {major: 254, minor: 3}]
  const bytes = abi.encodeSnapshotArguments({freezerFd: 21, devices})
  const address = 0x7000_0000_0000n
  abi.writeDevicesAddress(bytes, address)
  const size = structOf('snapshot_kernel_args').bytes
  t.deepEqual(membersOf('snapshot_kernel_args', bytes), {
    devices: address + BigInt(size), nr_devices: BigInt(devices.length), freezer_fd: 21n
  })
  const deviceBytes = structOf('snapshot_kernel_device').bytes
  t.is(bytes.length, size + devices.length * deviceBytes)
  const second = membersOf('snapshot_kernel_device', bytes.subarray(size + deviceBytes))
  t.deepEqual(second, {major: 254n, minor: 3n})
})

test('snapshot figures are read from where the kernel writes them', t => {
  const bytes = structWith('snapshot_kernel_args', {
    image_bytes: 1n, pages_copied: 2n, pages_in_place: 3n, pages_zero: 4n, pages_short: 5n, pause_ns: 6n,
    suspend_dm_ns: 7n, protect_ns: 8n, copy_ns: 9n
  })
  t.deepEqual(abi.decodeSnapshotFigures(bytes), {
    imageBytes: 1n, pagesCopied: 2n, pagesInPlace: 3n, pagesZero: 4n, pauseNs: 6n, suspendDmNs: 7n, protectNs: 8n, copyNs: 9n
  })
  t.is(abi.decodePagesShort(bytes), 5n)
})
