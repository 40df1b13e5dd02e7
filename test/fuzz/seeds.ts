// Good images of some hundred bytes, in the form that loader.c takes: superblock, then what lies behind byte 4096.
import {type Chunk} from '../../service/image/chunk.js'
import {loadDigest} from '../../service/image/digest.js'
import {encodeHeader, type ImageHeader} from '../../service/image/header.js'
import {loadLz4} from '../../service/image/lz4.js'
import {encodeSuperblock, IMAGE_STATES, NO_ID, type ImageState} from '../../service/image/superblock.js'

export interface Seed {
  readonly name: string
  readonly bytes: Buffer
}

/** One for each state, and valid ones that differ in what they hold. */
export async function makeSeeds(): Promise<readonly Seed[]> {
  const texts = {figures: {pause_ns: '148000000'}, text: {hostname: 'ice'}}
  const fileSystems = [
    {path: '/dev/vda', uuid: '2f6d8a3e', type: 'ext4', regions: [{offset: 0, bytes: 4096, digest: 1n}, {offset: 8192, bytes: 4096, digest: 2n}]},
    {path: '/dev/mapper/vg-home', uuid: '', type: 'xfs', regions: []}
  ]
  const variants: readonly (readonly [string, ImageState, Partial<ImageHeader>, readonly Buffer[]])[] = [
    ...IMAGE_STATES.map(state => [state, state, {}, [Buffer.alloc(4096, 'ice ')]] as const),
    ['stored', 'valid', {}, [Buffer.from('no two bytes')]],
    ['several', 'valid', texts, [Buffer.alloc(4096, 'page'), Buffer.from('short'), Buffer.alloc(300, 7)]],
    ['file-systems', 'valid', {...texts, fileSystems}, [Buffer.alloc(64, 'page')]]
  ]
  return await Promise.all(variants.map(async ([name, state, parts, pieces]) => ({name, bytes: await makeImage(state, parts, pieces)})))
}

const AREA = 4096
const DEVICE_BYTES = 64 * 1024
const COW = 60 * 1024
const KERNEL = {sysname: 'Linux', release: '6.12', version: '#1', machine: 'x86_64', physicalPages: 1024}
const digest = loadDigest()
const lz4 = loadLz4()

/** The header lies first, so that nothing has to be filled in between; chunks follow back to back. */
async function makeImage(state: ImageState, parts: Partial<ImageHeader>, pieces: readonly Buffer[]): Promise<Buffer> {
  const stored = await Promise.all(pieces.map(pack))
  const describe = (start: number): Buffer => {
    let offset = start
    const chunks = stored.map(({bytes, chunk}) => {
      const placed = {...chunk, offset}
      offset += bytes.length
      return placed
    })
    return encodeHeader({kernel: KERNEL, fileSystems: [], figures: {}, text: {}, ...parts, chunks})
  }
  const header = describe(describe(0).length)
  const superblock = encodeSuperblock({
    state, deviceId: 'd1'.repeat(16), imageId: '1d'.repeat(16), parentId: NO_ID, deviceBytes: DEVICE_BYTES,
    imageAreaOffset: AREA, imageAreaBytes: COW - AREA, cowAreaOffset: COW, cowAreaBytes: AREA,
    headerOffset: AREA, headerBytes: header.length, headerDigest: digest.ofBytes(header), createdUnixSeconds: 1_700_000_000,
    storedBytes: sum(stored.map(({bytes}) => bytes.length)), streamBytes: sum(pieces.map(({length}) => length))
  }, digest)
  // The last byte tells loader.c to make digests right after each mutation.
  return Buffer.concat([superblock, header, ...stored.map(({bytes}) => bytes), Buffer.alloc(1)])
}

async function pack(raw: Buffer): Promise<{readonly bytes: Buffer, readonly chunk: Omit<Chunk, 'offset'>}> {
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
