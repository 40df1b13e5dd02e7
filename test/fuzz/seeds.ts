// Good images of some hundred bytes, in the form that loader.c takes: superblock, then what lies behind byte 4096. And
// streams of some thousand, as stream.c does: superblock and header section of the spare device, then the stream. And
// lists of merges with the store of a slice, as merges.c does.
import {randomBytes} from 'node:crypto'
import {type Chunk} from '../../service/image/chunk.js'
import {loadDigest} from '../../service/image/digest.js'
import {encodeHeader, type ImageHeader} from '../../service/image/header.js'
import {loadLz4} from '../../service/image/lz4.js'
import {encodeMergeList, MERGE_SLOTS_BYTES, MERGE_SLOTS_OFFSET, SAMPLE_SECTORS, type PendingMerge} from '../../service/image/merge-list.js'
import {encodeFrame, encodeOpening, STREAM_AREA_OFFSET, type FrameKind} from '../../service/image/stream-form.js'
import {encodeSuperblock, IMAGE_STATES, NO_ID, type ImageState} from '../../service/image/superblock.js'

export interface Seed {
  readonly name: string
  readonly bytes: Buffer
}

/** One for each state, and valid ones that differ in what they hold. */
export async function makeSeeds(): Promise<readonly Seed[]> {
  const variants: readonly (readonly [string, ImageState, Partial<ImageHeader>, readonly Buffer[]])[] = [
    ...IMAGE_STATES.map(state => [state, state, {}, [Buffer.alloc(4096, 'ice ')]] as const),
    ['stored', 'valid', {}, [Buffer.from('no two bytes')]],
    ['several', 'valid', TEXTS, [Buffer.alloc(4096, 'page'), Buffer.from('short'), Buffer.alloc(300, 7)]],
    ['file-systems', 'valid', {...TEXTS, fileSystems: FILE_SYSTEMS}, [Buffer.alloc(64, 'page')]]
  ]
  return await Promise.all(variants.map(async ([name, state, parts, pieces]) => ({name, bytes: await makeImage(state, parts, pieces)})))
}

/** One piece or several, chunks that lie in one or across two. */
export async function makeStreamSeeds(): Promise<readonly Seed[]> {
  const variants: readonly (readonly [string, Partial<ImageHeader>, readonly Buffer[], number])[] = [
    ['one-chunk', {}, [Buffer.alloc(4096, 'ice ')], BLOCK],
    ['stored', {}, [Buffer.from('no two bytes')], BLOCK],
    ['several', TEXTS, [Buffer.alloc(4096, 'page'), Buffer.from('short'), Buffer.alloc(300, 7)], BLOCK],
    ['across-pieces', {}, [randomBytes(3000), randomBytes(3000)], BLOCK],
    ['one-piece', {...TEXTS, fileSystems: FILE_SYSTEMS}, [randomBytes(3000), randomBytes(3000)], 2 * BLOCK]
  ]
  return await Promise.all(variants.map(async ([name, parts, pieces, pieceBytes]) => ({name, bytes: await makeStream(parts, pieces, pieceBytes)})))
}

/** A list in either slot, and a slice with what it names, or with something else. */
export function makeMergeSeeds(): Promise<readonly Seed[]> {
  const samples = [0, 3].map(chunk => ({chunk, digests: Array.from({length: SAMPLE_SECTORS}, () => Number(digest.ofBytes(Buffer.alloc(512)) & 0xffffffffn))}))
  const merge = {path: '/dev/vda', uuid: '2f6d8a3e', baseBytes: 2 ** 16, sliceOffset: SLICE, sliceBytes: 2 ** 16, chunkSectors: 8, hasLostKey: false, samples}
  const one = makeList([merge], 1)
  const two = makeList([merge, {...merge, path: '/dev/mapper/vg-home', samples: [], hasLostKey: true}], 2)
  const variants: readonly (readonly [string, Buffer, Buffer, Buffer])[] = [
    ['one', one, Buffer.alloc(0), makeStore([0, 3, 4])],
    ['two', one, two, makeStore([5, 0, 3])],
    ['older', two, one, makeStore([0])],
    ['empty', one, Buffer.alloc(0), Buffer.alloc(8192)],
    ['no-samples', makeList([{...merge, samples: []}], 7), Buffer.alloc(0), makeStore([0])]
  ]
  return Promise.resolve(variants.map(([name, first, second, store]) => ({name, bytes: Buffer.concat([pad(first), pad(second), store, Buffer.alloc(1)])})))
}

/** Behind both slots: the only place where merges.c has one. */
const SLICE = MERGE_SLOTS_OFFSET + MERGE_SLOTS_BYTES
const MERGE_INPUT_BYTES = 8192

function makeList(merges: readonly PendingMerge[], sequence: number): Buffer {
  return encodeMergeList({bootId: 'ab'.repeat(16), merges}, sequence, digest)
}

function pad(list: Buffer): Buffer {
  return Buffer.concat([list, Buffer.alloc(MERGE_INPUT_BYTES)]).subarray(0, MERGE_INPUT_BYTES)
}

/** Header and first area of a snapshot's store, as the kernel keeps it. */
function makeStore(chunks: readonly number[]): Buffer {
  const store = Buffer.alloc(2 * BLOCK)
  store.writeUInt32LE(0x70416e53, 0)
  chunks.forEach((chunk, index) => {
    store.writeBigUInt64LE(BigInt(chunk), BLOCK + index * 16)
    store.writeBigUInt64LE(BigInt(2 + index), BLOCK + index * 16 + 8)
  })
  return store
}

const TEXTS = {figures: {pause_ns: '148000000'}, text: {hostname: 'ice'}}
const FILE_SYSTEMS = [
  {path: '/dev/vda', uuid: '2f6d8a3e', type: 'ext4', regions: [{offset: 0, bytes: 4096, digest: 1n}, {offset: 8192, bytes: 4096, digest: 2n}]},
  {path: '/dev/mapper/vg-home', uuid: '', type: 'xfs', regions: []}
]
const BLOCK = 4096
const AREA = 4096
const DEVICE_BYTES = 64 * 1024
const COW = 60 * 1024
const KERNEL = {sysname: 'Linux', release: '6.12', version: '#1', machine: 'x86_64', physicalPages: 1024}
const digest = loadDigest()
const lz4 = loadLz4()

/** The header lies first, so that nothing has to be filled in between; chunks follow back to back. */
async function makeImage(state: ImageState, parts: Partial<ImageHeader>, pieces: readonly Buffer[]): Promise<Buffer> {
  const stored = await Promise.all(pieces.map(pack))
  const header = describe(stored, parts, describe(stored, parts, 0).length)
  const superblock = encodeSuperblock({
    state, deviceId: 'd1'.repeat(16), imageId: '1d'.repeat(16), parentId: NO_ID, deviceBytes: DEVICE_BYTES,
    imageAreaOffset: AREA, imageAreaBytes: COW - AREA, cowAreaOffset: COW, cowAreaBytes: AREA,
    headerOffset: AREA, headerBytes: header.length, headerDigest: digest.ofBytes(header), createdUnixSeconds: 1_700_000_000,
    storedBytes: sum(stored.map(({bytes}) => bytes.length)), streamBytes: sum(pieces.map(({length}) => length))
  }, digest)
  // The last byte tells loader.c to make digests right after each mutation.
  return Buffer.concat([superblock, header, ...stored.map(({bytes}) => bytes), Buffer.alloc(1)])
}

/** The device has the header section and gives leave; the chunks lie back to back at the start of the stream's area. */
async function makeStream(parts: Partial<ImageHeader>, pieces: readonly Buffer[], pieceBytes: number): Promise<Buffer> {
  const stored = await Promise.all(pieces.map(pack))
  const header = describe(stored, parts, 0)
  const chunks = Buffer.concat(stored.map(({bytes}) => bytes))
  const area = Buffer.concat([chunks, Buffer.alloc(-chunks.length & (BLOCK - 1))])
  const imageId = '1d'.repeat(16)
  const common = {
    deviceId: 'd1'.repeat(16), imageId, parentId: NO_ID, imageAreaOffset: STREAM_AREA_OFFSET, headerBytes: header.length,
    headerDigest: digest.ofBytes(header), createdUnixSeconds: 1_700_000_000, storedBytes: chunks.length,
    streamBytes: sum(pieces.map(({length}) => length))
  }
  const device = encodeSuperblock({
    ...common, state: 'away', deviceBytes: 5 * BLOCK, imageAreaBytes: 3 * BLOCK, cowAreaOffset: 4 * BLOCK, cowAreaBytes: BLOCK, headerOffset: BLOCK
  }, digest)
  const closing = encodeSuperblock({
    ...common, state: 'valid', deviceBytes: 5 * BLOCK, imageAreaBytes: 4 * BLOCK, cowAreaOffset: 5 * BLOCK, cowAreaBytes: 0,
    headerOffset: STREAM_AREA_OFFSET + area.length
  }, digest)
  const frames: Buffer[] = []
  for (let offset = 0; offset < area.length; offset += pieceBytes)
    frames.push(frame('piece', offset, area.subarray(offset, offset + pieceBytes)))
  frames.push(frame('header', area.length, header), frame('closing', 0, closing))
  // The last byte tells stream.c to make everything right after each mutation.
  return Buffer.concat([device, header, encodeOpening({imageId, streamBytes: common.streamBytes}, digest), ...frames, Buffer.alloc(1)])
}

function frame(kind: FrameKind, offset: number, payload: Buffer): Buffer {
  return Buffer.concat([encodeFrame({kind, payloadBytes: payload.length, offset, payloadDigest: digest.ofBytes(payload)}, digest), payload])
}

interface Packed {
  readonly bytes: Buffer
  readonly chunk: Omit<Chunk, 'offset'>
}

/** The header section of chunks that lie back to back from there. */
function describe(stored: readonly Packed[], parts: Partial<ImageHeader>, start: number): Buffer {
  let offset = start
  const chunks = stored.map(({bytes, chunk}) => {
    const placed = {...chunk, offset}
    offset += bytes.length
    return placed
  })
  return encodeHeader({kernel: KERNEL, fileSystems: [], figures: {}, text: {}, ...parts, chunks})
}

async function pack(raw: Buffer): Promise<Packed> {
  const target = Buffer.alloc(raw.length)
  const length = await lz4.compress(raw, target)
  const isSmaller = length > 0 && length < raw.length
  const bytes = isSmaller ? target.subarray(0, length) : raw
  return {
    bytes,
    chunk: {storedBytes: bytes.length, rawBytes: raw.length, digest: digest.ofBytes(bytes), codec: isSmaller ? 'lz4' : 'stored'}
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
