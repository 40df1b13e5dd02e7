// npm run bench:pipeline -- IMAGE: the way from the kernel's stream to a file, alone, beside what others do with the same bytes.
import {closeSync, mkdtempSync, openSync, rmSync, statSync, truncateSync, writeFileSync} from 'node:fs'
import {cpus, tmpdir} from 'node:os'
import {join} from 'node:path'
import {parseArgs} from 'node:util'
import {DirectDevice} from '../../service/edge/direct-device.js'
import {loadDigest} from '../../service/image/digest.js'
import {loadLz4} from '../../service/image/lz4.js'
import {readChunks, readHeader} from '../../service/image/read.js'
import {decodeSuperblock, SUPERBLOCK_BYTES} from '../../service/image/superblock.js'
import {CHUNK_RAW_BYTES_MAXIMUM} from '../../service/image/chunk.js'
import {writeImage} from '../../service/image/write.js'
import {LaboratoryError, messageOf, UsageError} from '../lab/errors.js'
import {run} from '../lab/tool.js'

interface Stream {
  readonly path: string
  readonly bytes: number
}

interface Contender {
  readonly name: string
  /** Gives how many bytes it stored; all of them are on the medium when it returns. */
  readonly store: (stream: Stream, target: string) => Promise<number>
}

interface Result {
  readonly name: string
  readonly seconds: readonly number[]
  readonly medianSeconds: number
  readonly mebibytesPerSecond: number
  readonly storedBytes: number
}

const CORES = cpus().length
const OURS = 'permafrost'

const CONTENDERS: readonly Contender[] = [
  {name: OURS, store: storeAsTheServiceDoes},
  {name: `lz4 -1, ${CORES} at once`, store: storeByLz4},
  {name: 'zstd -T0 --fast=4', store: async (stream, target) => await storeByShell(`zstd -q -f -T0 --fast=4 '${stream.path}' -o '${target}'`, [target])},
  {name: 'plain copy (dd, direct)', store: async ({path}, target) => await storeByShell(`dd status=none bs=1M oflag=direct if='${path}' of='${target}'`, [target])},
]

async function main(words: readonly string[]): Promise<void> {
  const {image, rounds, isJson, directory} = readSettings(words)
  const scratch = mkdtempSync(join(directory, 'permafrost-pipeline-'))
  try {
    const stream = await recordStream(image, join(scratch, 'stream'))
    const seconds = new Map<string, number[]>(CONTENDERS.map(({name}) => [name, []]))
    const stored = new Map<string, number>()
    for (let round = 0; round < rounds; round++) {
      for (const {name, store} of CONTENDERS) {
        // Reading it costs nobody anything: what is measured begins with the bytes at hand, as the kernel's are.
        await run('bash', ['-c', `cat '${stream.path}' > /dev/null`])
        const started = performance.now()
        stored.set(name, await store(stream, join(scratch, 'target')))
        seconds.get(name)?.push((performance.now() - started) / 1000)
        await run('bash', ['-c', `rm -f '${join(scratch, 'target')}'*; sync -f '${scratch}'`])
      }
    }
    report(stream, CONTENDERS.map(({name}) => resultOf(name, stream, seconds.get(name) ?? [], stored.get(name) ?? 0)), isJson)
  } finally {
    rmSync(scratch, {recursive: true})
  }
}

function readSettings(words: readonly string[]) {
  const {values, positionals} = parseArgs({
    args: [...words],
    allowPositionals: true,
    options: {json: {type: 'boolean', default: false}, rounds: {type: 'string', default: '5'}, directory: {type: 'string', default: tmpdir()}}
  })
  const [image, ...more] = positionals
  const rounds = Number(values.rounds)
  if (image === undefined || more.length > 0 || !Number.isInteger(rounds) || rounds < 1) {
    throw new UsageError("Usage: npm run bench:pipeline -- IMAGE [--rounds N] [--directory DIRECTORY] [--json]; IMAGE is a device or file with an image, such as the spare disk that 'lab disks NAME' names after 'lab hibernate NAME'")
  }
  return {image, rounds, isJson: values.json, directory: values.directory}
}

/** The kernel's stream out of an image, as it was read from the kernel. */
async function recordStream(image: string, path: string): Promise<Stream> {
  const digest = loadDigest()
  await using source = await DirectDevice.openForReading(image)
  const superblock = decodeSuperblock(await source.read(0, SUPERBLOCK_BYTES), digest, image)
  const job = {source, superblock, digest, lz4: loadLz4(), where: image}
  writeFileSync(path, '')
  for await (const chunk of readChunks(job, await readHeader(job), new AbortController().signal)) writeFileSync(path, chunk, {flag: 'a'})
  return {path, bytes: statSync(path).size}
}

async function storeAsTheServiceDoes({path, bytes}: Stream, target: string): Promise<number> {
  writeFileSync(target, '')
  truncateSync(target, bytes)
  await using device = await DirectDevice.openForWriting(target, {isExclusive: false})
  const fd = openSync(path, 'r')
  let next = 0
  try {
    const {storedBytes} = await writeImage({
      fd,
      streamBytes: bytes,
      target: {
        get freeBytes() { return Number.MAX_SAFE_INTEGER },
        reserve: length => (next += length) - length,
        write: async (piece, offset) => { await device.write(piece, offset) }
      },
      lz4: loadLz4(),
      digest: loadDigest(),
      threads: CORES,
      chunkBytes: CHUNK_RAW_BYTES_MAXIMUM,
      isAdaptive: false,
      signal: new AbortController().signal,
      onProgress: () => undefined,
      where: target
    })
    await device.flush()
    return storedBytes
  } finally {
    closeSync(fd)
  }
}

/**
 * What lz4 -T0 does in versions that have it: as many at once as there are cores, each on a part of the stream. Its level 1 is
 * LZ4_compress_default(), as in service/image/lz4.ts; --fast=1 skips more already (LZ4F_compressBlock() in lz4frame.c).
 */
async function storeByLz4({path, bytes}: Stream, target: string): Promise<number> {
  const part = Math.ceil(bytes / CORES / 2 ** 20)
  const parts = Array.from({length: CORES}, (_, index) => `${target}.${index}`)
  const commands = parts.map((name, index) => `dd status=none bs=1M skip=${index * part} count=${part} if='${path}' | lz4 -q -1 -c > '${name}' &`)
  return await storeByShell(`${commands.join(' ')} wait`, parts)
}

async function storeByShell(command: string, files: readonly string[]): Promise<number> {
  await run('bash', ['-c', `set -o pipefail; ${command}; sync ${files.map(file => `'${file}'`).join(' ')}`])
  return files.reduce((sum, file) => sum + statSync(file).size, 0)
}

function resultOf(name: string, stream: Stream, seconds: readonly number[], storedBytes: number): Result {
  const sorted = [...seconds].sort((a, b) => a - b)
  const medianSeconds = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
  return {name, seconds, medianSeconds, mebibytesPerSecond: stream.bytes / 2 ** 20 / medianSeconds, storedBytes}
}

function report(stream: Stream, results: readonly Result[], isJson: boolean): void {
  const ours = results.find(({name}) => name === OURS)?.medianSeconds ?? Number.NaN
  const best = Math.min(...results.filter(({name}) => name !== OURS).map(({medianSeconds}) => medianSeconds))
  const ratio = best / ours
  if (isJson) {
    process.stdout.write(`${JSON.stringify({streamBytes: stream.bytes, cores: CORES, ratio, results})}\n`)
    return
  }
  const lines = results.map(({name, seconds, medianSeconds, mebibytesPerSecond, storedBytes}) => [
    name.padEnd(26), medianSeconds.toFixed(2).padStart(7), `${Math.min(...seconds).toFixed(2)}-${Math.max(...seconds).toFixed(2)}`.padStart(13),
    mebibytesPerSecond.toFixed(0).padStart(7), String(storedBytes).padStart(12)
  ].join(' '))
  process.stdout.write([
    `${stream.bytes} bytes of stream, ${CORES} cores; medians of ${results[0]?.seconds.length ?? 0} rounds, taking turns`,
    `${''.padEnd(26)} ${'seconds'.padStart(7)} ${'spread'.padStart(13)} ${'MiB/s'.padStart(7)} ${'stored'.padStart(12)}`,
    ...lines,
    `speed beside the best of the others: ${ratio.toFixed(2)}`, ''
  ].join('\n'))
}

try {
  await main(process.argv.slice(2))
} catch (thrown) {
  process.stderr.write(`bench: ${messageOf(thrown)}\n`)
  process.exitCode = thrown instanceof UsageError ? 2 : thrown instanceof LaboratoryError ? 3 : 1
}
