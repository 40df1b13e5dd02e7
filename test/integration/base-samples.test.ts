// What the loader makes of a base, and of what a slice still has for it, when it finds a merge that a power cut interrupted.
import {execFileSync} from 'node:child_process'
import {dirname, join} from 'node:path'
import {fileURLToPath} from 'node:url'
import fc from 'fast-check'
import {loadDigest} from '../../service/image/digest.js'
import type {BaseSample} from '../../service/image/merge-list.js'
import {makeAborted} from './aborted-spare.js'
import {LoaderBuild} from './loader-build.js'
import {withLoaderOr} from './with-loader.js'

const CHUNK = 4096
const SECTOR = 512
const SLICE = 2 ** 20
const SLICE_CHUNKS = 14
const BASE_CHUNKS = 16

const loader = new LoaderBuild()
const program = join(loader.directory, 'base-samples')
const digest = loadDigest()

const withProgram = withLoaderOr('what the loader makes of a base is not tested', loader, () => {
  const here = dirname(fileURLToPath(import.meta.url))
  const source = join(here, '../../kernel/loader')
  const sources = ['base-samples', 'exception-store', 'merge-list', 'superblock', 'disk', 'say'].map(name => join(source, `${name}.c`))
  const options = ['-std=gnu11', '-D_GNU_SOURCE', '-D_FILE_OFFSET_BITS=64', '-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all']
  execFileSync('gcc', [...options, `-I${source}`, '-o', program, join(here, 'base-samples.c'), ...sources, '-lxxhash', '-lpthread'], {stdio: 'pipe'})
})

withProgram('a base that nobody wrote to is merged', t => {
  t.is(check(makeBase(), makeStore([0, 9, 3])), '0')
  t.is(check(makeBase(), makeStore([])), '0')
})

withProgram('a base that somebody wrote to under what is not merged is left alone, and nowhere else', t => {
  for (const chunk of [0, 9, 3]) {
    const base = makeBase()
    base.fill('used', chunk * CHUNK + 3 * SECTOR, chunk * CHUNK + 4 * SECTOR)
    t.is(check(base, makeStore([0, 9, 3, 12])), '1', String(chunk))
    t.is(check(base, makeStore([0, 9, 3, 12].filter(each => each !== chunk))), '0', String(chunk))
  }
})

withProgram('what a power cut left half merged is no sign of use', t => {
  const base = makeBase()
  const store = makeStore([9, 3])
  merged(3).copy(base, 3 * CHUNK, 0, 5 * SECTOR)
  t.is(check(base, store), '0')
})

withProgram('of the last run the base may have what the slice has not, while something else is as it was', t => {
  const base = makeBase()
  base.fill('newer', 4 * CHUNK, 5 * CHUNK)
  t.is(check(base, makeStore([9, 3, 4, 5])), '0')
  t.is(check(base, makeStore([3, 4, 5])), '1')
  t.is(check(base, makeStore([9, 3, 4, 5, 12])), '1')
})

withProgram('a list without samples is merged as it is', t => {
  t.is(check(Buffer.alloc(BASE_CHUNKS * CHUNK), makeStore([0]), []), '0')
})

withProgram('a new store has nothing, and what is no store is refused', t => {
  const store = makeStore([0])
  store.writeUInt32LE(0, 0)
  t.is(check(Buffer.alloc(BASE_CHUNKS * CHUNK), store), '0')
  store.writeUInt32LE(1, 0)
  t.regex(check(makeBase(), store), /^-1 there is no snapshot store on '.*' at byte 1048576$/)
})

withProgram('chunks that are not on base or slice are refused', t => {
  const far = makeStore([0])
  far.writeBigUInt64LE(2n ** 62n, CHUNK + 8)
  t.regex(check(makeBase(), far), /^-1 the snapshot store on '.*' is malformed$/)
  const samples = [{...sampleOf(makeBase(), 0), chunk: BASE_CHUNKS}]
  const outside = makeStore([0])
  outside.writeBigUInt64LE(BigInt(BASE_CHUNKS), CHUNK)
  t.regex(check(makeBase(), outside, samples), /^-1 the snapshot store on '.*' is malformed$/)
})

withProgram('whatever a store has in it, nothing is read outside of base and slice', t => {
  const base = makeBase()
  const number = fc.oneof(fc.bigInt(0n, 20n), fc.bigInt(0n, 2n ** 64n - 1n))
  fc.assert(fc.property(fc.array(fc.tuple(number, number), {maxLength: 300}), entries => {
    const store = makeStore([])
    entries.slice(0, 256).forEach(([chunk, place], index) => {
      store.writeBigUInt64LE(chunk, CHUNK + index * 16)
      store.writeBigUInt64LE(place, CHUNK + index * 16 + 8)
    })
    return /^(0|1|-1 the snapshot store on '.*' is malformed)$/.test(check(base, store))
  }), {numRuns: 40})
  t.pass()
})

/** The answer, with the reason where it cannot be told. */
function check(base: Buffer, store: Buffer, samples = sampleAll(makeBase())): string {
  const merge = {
    path: '/dev/vda', uuid: '', baseBytes: base.length, sliceOffset: SLICE, sliceBytes: (2 + SLICE_CHUNKS) * CHUNK, chunkSectors: 8, hasLostKey: false, samples
  }
  const spare = makeAborted({bootId: '', merges: [merge]})
  store.copy(spare, SLICE)
  return execFileSync(program, [loader.write(base), loader.write(spare)], {encoding: 'utf8'}).trim()
}

function makeBase(): Buffer {
  return Buffer.concat(Array.from({length: BASE_CHUNKS}, (_, chunk) => Buffer.alloc(CHUNK, `base ${chunk} `)))
}

function merged(chunk: number): Buffer {
  return Buffer.alloc(CHUNK, `slice ${chunk} `)
}

/** As the kernel leaves one of these chunks of the base, in the order of writing. */
function makeStore(chunks: readonly number[]): Buffer {
  const store = Buffer.alloc((2 + SLICE_CHUNKS) * CHUNK)
  store.writeUInt32LE(0x70416e53, 0)
  chunks.forEach((chunk, index) => {
    store.writeBigUInt64LE(BigInt(chunk), CHUNK + index * 16)
    store.writeBigUInt64LE(BigInt(2 + index), CHUNK + index * 16 + 8)
    merged(chunk).copy(store, (2 + index) * CHUNK)
  })
  return store
}

function sampleAll(base: Buffer): readonly BaseSample[] {
  return [0, 9, 3, 4, 5].map(chunk => sampleOf(base, chunk))
}

function sampleOf(base: Buffer, chunk: number): BaseSample {
  const digests = Array.from({length: CHUNK / SECTOR}, (_, index) => {
    const start = chunk * CHUNK + index * SECTOR
    return Number(digest.ofBytes(base.subarray(start, start + SECTOR)) & 0xffffffffn)
  })
  return {chunk, digests}
}
