import test from 'ava'
import {
  decodeFreezeArguments,
  decodePagesShort,
  decodeSnapshotFigures,
  encodeFreezeArguments,
  encodeSnapshotArguments,
  FREEZE_ARGUMENTS_BYTES,
  SNAPSHOT_ARGUMENTS_BYTES,
  writeDevicesAddress,
} from '../../../service/kernel-api/abi.js'

test('freeze arguments are 48 bytes with the time-out at 4 and zeros elsewhere', (t) => {
  const bytes = encodeFreezeArguments({timeoutMs: 0x01020304})
  t.is(bytes.length, FREEZE_ARGUMENTS_BYTES)
  t.is(bytes.length, 48)
  t.is(bytes.toString('hex'), '00000000' + '04030201' + '00'.repeat(40))
})

test('freeze results are read from where the kernel writes them', (t) => {
  const bytes = Buffer.alloc(48)
  bytes.writeUInt32LE(123, 8)
  bytes.writeUInt32LE(77, 12)
  bytes.write('fuse\0garbage', 16)
  bytes.writeBigUInt64LE(5_000_000_000n, 32)
  t.deepEqual(decodeFreezeArguments(bytes), {
    taskCount: 123,
    offenderPid: 77,
    offenderCommand: 'fuse',
    durationNs: 5_000_000_000n,
  })
})

test('an offender whose name fills all 16 bytes is read whole', (t) => {
  const bytes = Buffer.alloc(48)
  bytes.write('0123456789abcdef', 16)
  t.is(decodeFreezeArguments(bytes).offenderCommand, '0123456789abcdef')
})

test('snapshot arguments are 104 bytes followed by eight for each device', (t) => {
  const bytes = encodeSnapshotArguments({
    freezerFd: 21,
    devices: [
      {major: 254, minor: 0},
      {major: 254, minor: 3},
    ],
  })
  writeDevicesAddress(bytes, 0x7000_0000_0000n)
  t.is(SNAPSHOT_ARGUMENTS_BYTES, 104)
  t.is(bytes.length, 104 + 16)
  t.is(bytes.readBigUInt64LE(0), 0n)
  t.is(bytes.readBigUInt64LE(8), 0x7000_0000_0068n)
  t.is(bytes.readUInt32LE(16), 2)
  t.is(bytes.readInt32LE(20), 21)
  t.true(bytes.subarray(24, 104).every((byte) => byte === 0))
  t.deepEqual([104, 108, 112, 116].map((offset) => bytes.readUInt32LE(offset)), [254, 0, 254, 3])
})

test('snapshot figures are read from where the kernel writes them', (t) => {
  const bytes = Buffer.alloc(104)
  for (let field = 0; field < 9; field++) bytes.writeBigUInt64LE(BigInt(field + 1), 24 + field * 8)
  t.deepEqual(decodeSnapshotFigures(bytes), {
    imageBytes: 1n,
    pagesCopied: 2n,
    pagesInPlace: 3n,
    pagesZero: 4n,
    pauseNs: 6n,
    suspendDmNs: 7n,
    protectNs: 8n,
    copyNs: 9n,
  })
  t.is(decodePagesShort(bytes), 5n)
})
