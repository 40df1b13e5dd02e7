import {execFileSync} from 'node:child_process'
import {unlinkSync, writeFileSync} from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import {LoaderBuild} from './loader-build.js'
import {
  chunkField, digestOf, kernelPayload, makeImage, PLACES, RECORD, seal, SUPERBLOCK, u64, writeState,
  type Kernel, type TestImage, type TestRecord,
} from './loader-image.js'

const missing = LoaderBuild.findMissing()
const loader = new LoaderBuild()
const kernel = runningKernel()
const fileSystemBlocks = Buffer.alloc(16384, 'superblock and journal superblock ')
const fileSystemPath = loader.write(fileSystemBlocks)

test.before(() => {
  if (missing === null) loader.build()
})
test.after.always(() => loader.remove())

const withLoader = missing === null ? test : test.skip
if (missing !== null)
  test('the loader is not tested', t => {
    t.log(`skipped: package '${missing}' is not installed`)
    t.pass()
  })

withLoader('finds nothing wrong with a good image', async t => {
  const {bytes} = await makeGoodImage()
  const answer = loader.inspect(loader.write(bytes))
  t.is(answer.refused, null)
  t.is(answer.status, 0)
  t.true(answer.isGood)
  t.regex(answer.stdout, /^state: valid$/m)
  t.regex(answer.stdout, new RegExp(`^filesystem: ${fileSystemPath}$`, 'm'))
  t.regex(answer.stdout, /^figure: pause_ns=148000000$/m)
  t.regex(answer.stdout, /^text: hostname=test$/m)
})

withLoader('skips a record that is unknown and optional', async t => {
  const {bytes} = await makeGoodImage(records => [...records, {type: 0x80001234, payload: Buffer.from('later')}])
  t.true(loader.inspect(loader.write(bytes)).isGood)
})

for (const state of ['empty', 'writing', 'resumed', 'aborted'])
  withLoader(`does not look for an image in state '${state}'`, async t => {
    const {bytes} = await makeGoodImage()
    writeState(bytes, state)
    bytes.fill(0xff, PLACES.headerOffset, PLACES.headerOffset + 64)
    setSuperblock(bytes, SUPERBLOCK.headerOffset, 0n)
    t.true(loader.inspect(loader.write(bytes)).isGood)
  })

interface Damage {
  readonly what: string
  readonly damage: (image: TestImage) => Uint8Array
  readonly refused: RegExp
}

const DAMAGES: readonly Damage[] = [
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

for (const {what, damage, refused} of DAMAGES)
  withLoader(`refuses an image that ${what}`, async t => {
    const answer = loader.inspect(loader.write(damage(await makeGoodImage())))
    t.regex(answer.refused ?? '', refused)
    t.is(answer.status, 1)
    t.false(answer.isGood)
  })

interface Edit {
  readonly what: string
  readonly edit: (records: TestRecord[]) => readonly TestRecord[]
  readonly refused: RegExp
}

const EDITS: readonly Edit[] = [
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

for (const {what, edit, refused} of EDITS)
  withLoader(`refuses an image whose header has ${what}`, async t => {
    const {bytes} = await makeGoodImage(edit)
    const answer = loader.inspect(loader.write(bytes))
    t.regex(answer.refused ?? '', refused)
    t.is(answer.status, 1)
  })

withLoader('refuses a chunk that is whole but no LZ4 block', async t => {
  const {bytes, chunks} = await makeGoodImage()
  const {offset, storedBytes} = chunks[0] ?? {offset: 0, storedBytes: 0}
  bytes.fill(0xff, offset, offset + storedBytes)
  const right = digestOf(bytes.subarray(offset, offset + storedBytes))
  // The entries follow the kernel record and the heads of record and list.
  bytes.writeBigUInt64LE(right, PLACES.headerOffset + 280 + 8 + chunkField(0, 'offset') + 16)
  seal(bytes)
  t.is(loader.inspect(loader.write(bytes)).refused, 'chunk 0 cannot be decompressed')
})

withLoader('refuses an image whose file system changed', async t => {
  const path = loader.write(fileSystemBlocks)
  const {bytes} = await makeImage({kernel, fileSystems: [fileSystemAt(path)]})
  const image = loader.write(bytes)
  t.true(loader.inspect(image).isGood)
  writeFileSync(path, Buffer.alloc(16384, 'mounted by somebody else '))
  t.is(loader.inspect(image).refused, `the file system on '${path}' changed since the image was made`)
  unlinkSync(path)
  t.is(loader.inspect(image).refused, `cannot open '${path}': No such file or directory`)
})

withLoader('does not compare an image with this machine when it is foreign', async t => {
  const foreign = {...kernel, release: '6.12.0-other'}
  const {bytes} = await makeImage({kernel: foreign, fileSystems: [fileSystemAt('/nowhere')]})
  const path = loader.write(bytes)
  t.false(loader.inspect(path, ['--verify']).isGood)
  t.true(loader.inspect(path, ['--verify', '--foreign']).isGood)
})

withLoader('never takes an image with one bit wrong for a good one', async t => {
  const image = await makeGoodImage()
  const covered = [
    {start: 0, length: 512}, {start: PLACES.headerOffset, length: image.headerBytes},
    ...image.chunks.map(({offset, storedBytes}) => ({start: offset, length: storedBytes})),
  ]
  const place = fc.constantFrom(...covered).chain(({start, length}) => fc.integer({min: start, max: start + length - 1}))
  fc.assert(fc.property(place, fc.integer({min: 0, max: 7}), (offset, bit) => {
    const bytes = Buffer.from(image.bytes)
    flip(bytes, offset, 1 << bit)
    const path = loader.write(bytes)
    const answer = loader.inspect(path)
    unlinkSync(path)
    return answer.status === 1 && answer.refused !== null && !answer.isGood
  }), {numRuns: 200})
  t.pass()
})

withLoader('stays inside its memory whatever an image claims', async t => {
  const image = await makeGoodImage()
  const value = fc.oneof(
    fc.constantFrom(0n, 1n, 7n, 8n, 0x7fffffffn, 0xffffffffn, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n - 4096n),
    fc.bigInt({min: 0n, max: 2n ** 64n - 1n}), fc.bigInt({min: 0n, max: 4096n}))
  const offset = fc.oneof(
    fc.integer({min: 72, max: 152}), fc.integer({min: PLACES.headerOffset, max: PLACES.headerOffset + image.headerBytes - 8}))
  const mutations = fc.array(fc.record({offset, value, width: fc.constantFrom(1, 2, 4, 8)}), {minLength: 1, maxLength: 4})
  fc.assert(fc.property(mutations, fc.boolean(), (changes, isForeign) => {
    const bytes = Buffer.from(image.bytes)
    for (const change of changes) u64(change.value).copy(bytes, change.offset, 0, change.width)
    seal(bytes)
    const path = loader.write(bytes)
    const answer = loader.inspectSanitized(path, isForeign ? ['--verify', '--foreign'] : ['--verify'])
    unlinkSync(path)
    return answer.signal === null && (answer.status === 0 || answer.refused !== null) && answer.stderr === ''
  }), {numRuns: 250})
  t.pass()
})

withLoader('answers wrong usage with status 2', t => {
  for (const args of [[], ['sleep'], ['inspect'], ['inspect', '--verify'], ['wrap'], ['resume', '--device'], ['resume', 'x']])
    t.is(loader.run(args).status, 2, args.join(' '))
  t.is(loader.run(['--help']).status, 0)
})

async function makeGoodImage(edit?: (records: TestRecord[]) => readonly TestRecord[]): Promise<TestImage> {
  return await makeImage({kernel, fileSystems: [fileSystemAt(fileSystemPath)], ...(edit === undefined ? {} : {edit})})
}

function fileSystemAt(path: string): {path: string; regions: {offset: number; bytes: Buffer}[]} {
  return {
    path,
    regions: [
      {offset: 1024, bytes: fileSystemBlocks.subarray(1024, 2048)}, {offset: 4096, bytes: fileSystemBlocks.subarray(4096, 12288)},
    ],
  }
}

function runningKernel(): Kernel {
  const ask = (option: string) => execFileSync('uname', [option], {encoding: 'utf8'}).trim()
  return {sysname: ask('-s'), release: ask('-r'), version: ask('-v'), machine: ask('-m')}
}

function withKernel(changes: Partial<Kernel>): (records: TestRecord[]) => readonly TestRecord[] {
  return editPayload(RECORD.kernel, () => kernelPayload({...kernel, ...changes}))
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

function setSuperblock(bytes: Buffer, offset: number, value: bigint): Buffer {
  writeU64(bytes, offset, value)
  return writeU64(bytes, 504, digestOf(bytes.subarray(0, 504)))
}

function flip(bytes: Buffer, offset: number, mask = 1): Buffer {
  bytes.writeUInt8(bytes.readUInt8(offset) ^ mask, offset)
  return bytes
}
