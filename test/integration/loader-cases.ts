import {execFileSync} from 'node:child_process'
import {
  chunkField, digestOf, kernelPayload, PLACES, RECORD, seal, SUPERBLOCK, writeState, type Kernel, type TestImage, type TestRecord,
} from './loader-image.js'

/** What can be wrong with an image, and what the loader says about it. */
export interface Damage {
  readonly what: string
  readonly damage: (image: TestImage) => Uint8Array
  readonly refused: RegExp
}

export const DAMAGES: readonly Damage[] = [
  {what: 'has no magic', damage: ({bytes}) => flip(bytes, 0), refused: /has no Permafrost superblock$/},
  {what: 'is empty', damage: () => Buffer.alloc(0), refused: /has no Permafrost superblock$/},
  {
    what: 'has a changed superblock',
    damage: ({bytes}) => flip(bytes, 41),
    refused: /^the superblock of '.*' has a wrong digest$/,
  },
  {
    what: 'has another version of the format',
    damage: ({bytes}) => {
      bytes.writeUInt32LE(2, SUPERBLOCK.version)
      return seal(bytes)
    },
    refused: /has image format version 2, this loader knows version 1$/,
  },
  {
    what: 'has an unknown state',
    damage: ({bytes}) => {
      writeState(bytes, 'thawing')
      return seal(bytes)
    },
    refused: /is in the unknown state 'thawing'$/,
  },
  {
    what: 'is on a smaller device',
    damage: ({bytes}) => bytes.subarray(0, PLACES.deviceBytes - 4096),
    refused: /has 528384 bytes, fewer than the 532480 it was set up with$/,
  },
  {
    what: 'has an image area beyond the device',
    damage: ({bytes}) => setSuperblock(bytes, SUPERBLOCK.imageAreaBytes, 2n ** 64n - 4096n),
    refused: /^the image area of '.*' is out of bounds$/,
  },
  {
    what: 'has a copy-on-write area beyond the device',
    damage: ({bytes}) => setSuperblock(bytes, SUPERBLOCK.cowAreaBytes, 8192n),
    refused: /^the copy-on-write area of '.*' is out of bounds$/,
  },
  {
    what: 'has areas that overlap',
    damage: ({bytes}) => setSuperblock(bytes, SUPERBLOCK.cowAreaOffset, BigInt(PLACES.cowAreaOffset - 4096)),
    refused: /^the areas of '.*' overlap$/,
  },
  {
    what: 'has a time no number can hold',
    damage: ({bytes}) => setSuperblock(bytes, SUPERBLOCK.created, 2n ** 53n),
    refused: /^a number in the superblock of '.*' is out of bounds$/,
  },
  {
    what: 'has something behind its state',
    damage: ({bytes}) => {
      bytes.writeUInt8(1, SUPERBLOCK.state + 15)
      return seal(bytes)
    },
    refused: /is in the unknown state ''$/,
  },
  {
    what: 'has its header outside the image area',
    damage: ({bytes}) => setSuperblock(bytes, SUPERBLOCK.headerOffset, BigInt(PLACES.cowAreaOffset)),
    refused: /^the header section of '.*' is out of bounds$/,
  },
  {
    what: 'has a header of impossible length',
    damage: ({bytes}) => setSuperblock(bytes, SUPERBLOCK.headerBytes, 2n ** 64n - 8n),
    refused: /^the header section of '.*' is out of bounds$/,
  },
  {
    what: 'has a changed header',
    damage: ({bytes}) => flip(bytes, PLACES.headerOffset + 300),
    refused: /^the header section has a wrong digest$/,
  },
  {
    what: 'has a changed compressed chunk',
    damage: ({bytes, chunks}) => flip(bytes, chunks[0]?.offset ?? 0),
    refused: /^chunk 0 has a wrong digest$/,
  },
  {
    what: 'has a changed chunk that is not compressed',
    damage: ({bytes, chunks}) => flip(bytes, (chunks[1]?.offset ?? 0) + 5000),
    refused: /^chunk 1 has a wrong digest$/,
  },
  {
    what: 'has a changed last byte of the last chunk',
    damage: ({bytes, chunks}) => flip(bytes, (chunks[2]?.offset ?? 0) + (chunks[2]?.storedBytes ?? 0) - 1),
    refused: /^chunk 2 has a wrong digest$/,
  },
]

/** What can be wrong in a header whose digest is right. */
export interface Edit {
  readonly what: string
  readonly edit: (records: TestRecord[]) => readonly TestRecord[]
  readonly refused: RegExp
}

export const EDITS: readonly Edit[] = [
  {
    what: 'another release of the kernel',
    edit: withKernel({release: '6.12.0-other'}),
    refused: /^the image was made by kernel '6\.12\.0-other', this is '/,
  },
  {
    what: 'another build of the kernel',
    edit: withKernel({version: '#2 yesterday'}),
    refused: /^the image was made by kernel build '#2 yesterday', this is '/,
  },
  {what: 'another architecture', edit: withKernel({machine: 'riscv64'}), refused: /^the image was made on 'Linux riscv64'/},
  {what: 'a kernel without a name', edit: withKernel({release: ''}), refused: /kernel record is malformed$/},
  {
    what: 'a short kernel record',
    edit: editPayload(RECORD.kernel, payload => payload.subarray(0, 264)),
    refused: /kernel record has 264 bytes instead of 272$/,
  },
  {
    what: 'an unknown record that is not optional',
    edit: records => [...records, {type: 9, payload: Buffer.from('later')}],
    refused: /^the image has a record of type 9, which this loader does not know$/,
  },
  {what: 'no kernel', edit: records => records.slice(1), refused: /^the image does not name its kernel$/},
  {
    what: 'no chunks',
    edit: records => records.filter(({type}) => type !== RECORD.chunks),
    refused: /^the image has no list of chunks$/,
  },
  {what: 'two kernels', edit: records => [...records, ...records.slice(0, 1)], refused: /names its kernel twice$/},
  {
    what: 'a kernel with something behind its name',
    edit: editPayload(RECORD.kernel, payload => writeU32(payload, 60, 1)),
    refused: /kernel record is malformed$/,
  },
  {
    what: 'figures twice',
    edit: records => [...records, ...records.filter(({type}) => type === RECORD.figures)],
    refused: /^the image has two records of type 0x80000004$/,
  },
  {
    what: 'a chunk that became longer by compression',
    edit: editPayload(RECORD.chunks, payload => writeU32(payload, chunkField(0, 'storedBytes'), 64 * 1024 + 1)),
    refused: /^chunk 0 has impossible lengths$/,
  },
  {what: 'two lists of chunks', edit: records => [...records, ...records.slice(1, 2)], refused: /lists its chunks twice$/},
  {
    what: 'more chunks than entries',
    edit: editPayload(RECORD.chunks, payload => writeU32(payload, 4, 4)),
    refused: /list of chunks is malformed$/,
  },
  {
    what: 'a count of chunks that overflows',
    edit: editPayload(RECORD.chunks, payload => writeU32(payload, 4, 0x08000003)),
    refused: /list of chunks is malformed$/,
  },
  {
    what: 'a chunk outside the image area',
    edit: editPayload(RECORD.chunks, payload => writeU64(payload, chunkField(1, 'offset'), BigInt(PLACES.imageAreaBytes))),
    refused: /^chunk 1 is outside the image area$/,
  },
  {
    what: 'a chunk whose end overflows',
    edit: editPayload(RECORD.chunks, payload => writeU64(payload, chunkField(0, 'offset'), 2n ** 64n - 1n)),
    refused: /^chunk 0 is outside the image area$/,
  },
  {
    what: 'an unknown codec',
    edit: editPayload(RECORD.chunks, payload => writeU32(payload, chunkField(2, 'codec'), 7)),
    refused: /^chunk 2 has codec 7, which this loader does not know$/,
  },
  {
    what: 'an unknown section',
    edit: editPayload(RECORD.chunks, payload => writeU32(payload, chunkField(2, 'section'), 1)),
    refused: /^chunk 2 is of section 1, which this loader does not know$/,
  },
  {
    what: 'a chunk larger than the largest',
    edit: editPayload(RECORD.chunks, payload => writeU32(payload, chunkField(0, 'rawBytes'), 64 * 1024 + 1)),
    refused: /^chunk 0 has impossible lengths$/,
  },
  {
    what: 'chunks that do not add up',
    edit: editPayload(RECORD.chunks, payload => writeU32(payload, chunkField(0, 'rawBytes'), 64 * 1024 - 4096)),
    refused: /^the image's chunks do not add up to its length$/,
  },
  {
    what: 'a path longer than its record',
    edit: editPayload(RECORD.fileSystem, payload => writeU32(payload, 4, 0xffffffff)),
    refused: /record of a file system is malformed$/,
  },
  {
    what: 'more regions than its record has',
    edit: editPayload(RECORD.fileSystem, payload => writeU32(payload, 0, 1000)),
    refused: /record of a file system is malformed$/,
  },
  {
    what: 'a region of impossible length',
    edit: editPayload(RECORD.fileSystem, payload => writeU64(payload, 24, 2n ** 63n)),
    refused: /^region 0 of '.*' is out of bounds$/,
  },
]

export function runningKernel(): Kernel {
  const ask = (option: string) => execFileSync('uname', [option], {encoding: 'utf8'}).trim()
  return {sysname: ask('-s'), release: ask('-r'), version: ask('-v'), machine: ask('-m')}
}

function withKernel(changes: Partial<Kernel>): (records: TestRecord[]) => readonly TestRecord[] {
  return editPayload(RECORD.kernel, () => kernelPayload({...runningKernel(), ...changes}))
}

function editPayload(type: number, edit: (payload: Buffer) => Buffer): (records: TestRecord[]) => readonly TestRecord[] {
  return records => records.map(record => record.type === type ? {type, payload: edit(Buffer.from(record.payload))} : record)
}

function writeU32(bytes: Buffer, offset: number, value: number): Buffer {
  bytes.writeUInt32LE(value, offset)
  return bytes
}

function writeU64(bytes: Buffer, offset: number, value: bigint): Buffer {
  bytes.writeBigUInt64LE(value, offset)
  return bytes
}

export function setSuperblock(bytes: Buffer, offset: number, value: bigint): Buffer {
  writeU64(bytes, offset, value)
  return writeU64(bytes, 504, digestOf(bytes.subarray(0, 504)))
}

export function flip(bytes: Buffer, offset: number, mask = 1): Buffer {
  bytes.writeUInt8(bytes.readUInt8(offset) ^ mask, offset)
  return bytes
}
