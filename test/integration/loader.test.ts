import {unlinkSync, writeFileSync} from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import {loadDigest} from '../../service/image/digest.js'
import {encodeHeader} from '../../service/image/header.js'
import {encodeMergeList, MERGE_SLOT_BYTES, MERGE_SLOTS_OFFSET, SAMPLE_SECTORS, SAMPLES_MAXIMUM, type PendingMerge} from '../../service/image/merge-list.js'
import {encodeSuperblock, NO_ID} from '../../service/image/superblock.js'
import {makeAborted} from './aborted-spare.js'
import {LoaderBuild} from './loader-build.js'
import {DAMAGES, EDITS, flip, runningKernel, setSuperblock} from './loader-cases.js'
import {
  chunkField, digestOf, makeImage, PLACES, seal, SUPERBLOCK, u64, writeState, type TestImage, type TestRecord,
} from './loader-image.js'
import {withLoaderOr} from './with-loader.js'

const loader = new LoaderBuild()
const kernel = runningKernel()
const fileSystemBlocks = Buffer.alloc(16384, 'superblock and journal superblock ')
const fileSystemPath = loader.write(fileSystemBlocks)

const withLoader = withLoaderOr('the loader is not tested', loader)

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

withLoader('reads what the service writes', t => {
  const chunk = Buffer.alloc(8192, 'page')
  const header = encodeHeader({
    kernel: {...kernel, physicalPages: 1}, figures: {pause_ns: '1'}, text: {},
    chunks: [{offset: 0, storedBytes: 8192, rawBytes: 8192, digest: digestOf(chunk), codec: 'stored'}],
    fileSystems: [{
      path: fileSystemPath, uuid: '', type: 'ext4',
      regions: [{offset: 0, bytes: fileSystemBlocks.length, digest: digestOf(fileSystemBlocks)}],
    }],
  })
  const bytes = Buffer.alloc(PLACES.deviceBytes)
  chunk.copy(bytes, PLACES.imageAreaOffset)
  header.copy(bytes, PLACES.headerOffset)
  encodeSuperblock({
    ...PLACES, state: 'valid', deviceId: NO_ID, imageId: 'ab'.repeat(16), parentId: NO_ID, headerBytes: header.length,
    headerDigest: digestOf(header), createdUnixSeconds: 1, storedBytes: 8192, streamBytes: 8192,
  }, loadDigest()).copy(bytes)
  const answer = loader.inspect(loader.write(bytes))
  t.is(answer.refused, null)
  t.regex(answer.stdout, /^image_id: (ab){16}$/m)
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

for (const {what, damage, refused} of DAMAGES)
  withLoader(`refuses an image that ${what}`, async t => {
    const answer = loader.inspect(loader.write(damage(await makeGoodImage())))
    t.regex(answer.refused ?? '', refused)
    t.is(answer.status, 1)
    t.false(answer.isGood)
  })

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

withLoader('names the merges that are not finished, and refuses a list whose entries cannot be', async t => {
  const good = {path: '/dev/vda', uuid: '1111', baseBytes: 2 ** 30, sliceOffset: 2 ** 20, sliceBytes: 65536, chunkSectors: 8, hasLostKey: false, samples: []}
  const inspect = (merges: readonly PendingMerge[]) => loader.inspectSanitized(loader.write(makeAborted({bootId: 'ab'.repeat(16), merges})), [])
  const samples = Array.from({length: SAMPLES_MAXIMUM}, (_, chunk) => ({chunk, digests: Array.from({length: SAMPLE_SECTORS}, () => 1)}))
  const both = inspect([{...good, samples}, {...good, path: '/dev/mapper/vg-home', samples: samples.slice(1)}])
  t.true(both.isGood, both.stdout)
  t.deepEqual(both.stdout.match(/^unfinished_merge: .*$/gm), ['unfinished_merge: /dev/vda', 'unfinished_merge: /dev/mapper/vg-home'])
  t.notRegex(inspect([]).stdout, /unfinished_merge/)
  for (const wrong of [{sliceOffset: 2 ** 21}, {sliceBytes: 0}, {sliceOffset: 2 ** 20 + 512}, {baseBytes: 0}, {path: ''}, {uuid: '../vdb'}, {chunkSectors: 4}, {chunkSectors: 24}, {chunkSectors: 2048}])
    t.regex(inspect([{...good, ...wrong}]).refused ?? '', /^the merge list of '.*' is malformed$/, JSON.stringify(wrong))
})

withLoader('takes of two lists of merges the last one that is whole', t => {
  const merges = [{path: '/dev/vda', uuid: '', baseBytes: 512, sliceOffset: 0, sliceBytes: 4096, chunkSectors: 8, hasLostKey: false, samples: []}]
  const bytes = makeAborted({bootId: '', merges})
  const second = encodeMergeList({bootId: '', merges: merges.map(each => ({...each, path: '/dev/vdb'}))}, 2, loadDigest())
  second.copy(bytes, MERGE_SLOTS_OFFSET + MERGE_SLOT_BYTES)
  t.regex(loader.inspectSanitized(loader.write(bytes), []).stdout, /^unfinished_merge: \/dev\/vdb$/m)
  flip(bytes, MERGE_SLOTS_OFFSET + MERGE_SLOT_BYTES + 70, 1)
  t.regex(loader.inspectSanitized(loader.write(bytes), []).stdout, /^unfinished_merge: \/dev\/vda$/m)
})

withLoader('has no merges where an area of the device is in the place of the list', t => {
  const merges = [{path: '/dev/vda', uuid: '', baseBytes: 512, sliceOffset: 0, sliceBytes: 4096, chunkSectors: 8, hasLostKey: false, samples: []}]
  const bytes = makeAborted({bootId: '', merges})
  setSuperblock(bytes, 80, 401408n)
  t.notRegex(loader.inspect(loader.write(bytes), []).stdout, /unfinished_merge/)
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
  for (const args of [[], ['sleep'], ['inspect'], ['inspect', '--verify'], ['wrap'], ['merge', 'x'], ['merge', '--wait', 'x'], ['resume', '--device'], ['resume', 'x']])
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
