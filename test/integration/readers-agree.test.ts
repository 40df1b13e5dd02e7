import {readFileSync, unlinkSync} from 'node:fs'
import {gunzipSync} from 'node:zlib'
import test from 'ava'
import fc from 'fast-check'
import {DirectDevice} from '../../service/edge/direct-device.js'
import {ImageError} from '../../service/errors.js'
import {loadDigest} from '../../service/image/digest.js'
import {loadLz4} from '../../service/image/lz4.js'
import {decodeSuperblock, SUPERBLOCK_BYTES} from '../../service/image/superblock.js'
import {verifyImage} from '../../service/image/verify.js'
import {LoaderBuild} from './loader-build.js'
import {makeImage, PLACES, RECORD, seal, u64} from './loader-image.js'
import {withLoaderOr} from './with-loader.js'

/** Two readers written apart from the same page: each shows where the other is wrong. */
const loader = new LoaderBuild()
const digest = loadDigest()
const lz4 = loadLz4()
const KERNEL = {sysname: 'Linux', release: '6.12', version: '#1', machine: 'x86_64'}

const withLoader = withLoaderOr('the readers are not compared', loader)

withLoader('service and loader read the image of version 1 as it was when it was fixed', async t => {
  const path = loader.write(gunzipSync(readFileSync(new URL('../fixtures/image-v1.bin.gz', import.meta.url))))
  t.is(await serviceRefuses(path), null)
  const answer = loader.inspect(path, ['--verify', '--foreign'])
  t.is(answer.refused, null)
  for (const line of ['state: valid', `image_id: ${'1d'.repeat(16)}`, 'kernel_release: 6.12.0-golden', 'chunks: 3', 'filesystem: /dev/vda', 'stream_bytes: 139264'])
    t.regex(answer.stdout, new RegExp(`^${line}$`, 'm'))
})

withLoader('service and loader take and refuse the same images', async t => {
  const image = await makeImage({kernel: KERNEL, fileSystems: [{path: '/nowhere', regions: [{offset: 1024, bytes: Buffer.alloc(16)}]}]})
  // What FIGURES and TEXT say is for people, and only the service reads it as lines.
  const judgedBytes = image.bytes.indexOf(u64(RECORD.figures).subarray(0, 4), PLACES.headerOffset) - PLACES.headerOffset
  const value = fc.oneof(
    fc.constantFrom(0n, 1n, 2n, 7n, 8n, 16n, 4096n, 8192n, 65536n, 65537n, 0xffffffffn, 2n ** 53n, 2n ** 63n, 2n ** 64n - 4096n),
    fc.bigInt({min: 0n, max: 2n ** 64n - 1n}), fc.bigInt({min: 0n, max: 300n}))
  const offset = fc.oneof(
    fc.integer({min: 16, max: 39}), fc.integer({min: 72, max: 152}).map(place => place - place % 8),
    fc.integer({min: PLACES.headerOffset, max: PLACES.headerOffset + judgedBytes - 8}).map(place => place - place % 4))
  const changes = fc.array(fc.record({offset, value, width: fc.constantFrom(1, 4, 8)}), {maxLength: 2})
  let taken = 0
  let refused = 0
  await fc.assert(fc.asyncProperty(changes, async mutations => {
    const bytes = Buffer.from(image.bytes)
    for (const change of mutations) u64(change.value).copy(bytes, change.offset, 0, change.width)
    seal(bytes)
    const path = loader.write(bytes)
    const byLoader = loader.inspect(path, ['--verify', '--foreign'])
    // Without an image in it there is nothing for the two to disagree about.
    const hasImage = /^state: (valid|resuming)$/m.test(byLoader.stdout) || !byLoader.isGood
    const byService = await serviceRefuses(path)
    unlinkSync(path)
    if (byLoader.isGood) taken++
    else refused++
    t.true(!hasImage || byLoader.isGood === (byService === null), `loader: ${byLoader.refused}, service: ${byService}`)
  }), {numRuns: 400})
  t.true(taken > 20 && refused > 100, `${taken} taken, ${refused} refused`)
})

/** Why the service does not take the image; null when it does. */
async function serviceRefuses(path: string): Promise<string | null> {
  try {
    await using source = await DirectDevice.openForReading(path)
    const superblock = decodeSuperblock(await source.read(0, SUPERBLOCK_BYTES), digest, path)
    if (await source.sizeBytes() < superblock.deviceBytes) return 'the device is too small'
    await verifyImage({source, superblock, digest, lz4, where: path}, new AbortController().signal)
    return null
  } catch (error) {
    if (error instanceof ImageError) return error.fault
    throw error
  }
}
