import {spawnSync} from 'node:child_process'
import {closeSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {fileURLToPath} from 'node:url'
import {gunzipSync} from 'node:zlib'
import test from 'ava'
import {openFiles} from '../../service/edge/files.js'
import {loadDigest} from '../../service/image/digest.js'
import {SpareDevice} from '../../service/sinks/spare-device.js'
import {PLACES} from './loader-image.js'

/** `permafrost image verify` and `copy` as processes, with files in the place of devices. */
const directory = mkdtempSync(join(tmpdir(), 'permafrost-image-command-'))
const repository = fileURLToPath(new URL('../../', import.meta.url))
const golden = gunzipSync(readFileSync(new URL('../fixtures/image-v1.bin.gz', import.meta.url)))
const IMAGE_ID = '1d'.repeat(16)
const STREAM_BYTES = 139_264
let count = 0

test.after.always(() => rmSync(directory, {recursive: true}))

test('verifies an image in a file, on its way, and after its way', async t => {
  const file = write(golden)
  t.like(answer(run(['verify', file, '--json'])), {
    ok: true, state: 'valid', verified: true, chunks: 3, kernel: '6.12.0-golden', fileSystems: '/dev/vda', imageId: IMAGE_ID, streamBytes: STREAM_BYTES,
  })

  const sent = run(['copy', file, '-'])
  t.is(sent.status, 0, sent.stderr)
  t.like(answer(run(['verify', '-', '--json'], sent.stdout)), {ok: true, device: 'standard input', verified: true, imageId: IMAGE_ID, streamBytes: STREAM_BYTES})
  const stream = write(sent.stdout)
  t.like(answer(run(['verify', stream, '--json'])), {ok: true, device: stream, verified: true})

  const spare = await newSpare()
  t.like(answer(run(['copy', '-', spare, '--json'], sent.stdout)), {ok: true, verified: true, imageId: IMAGE_ID})
  t.like(answer(run(['verify', spare, '--json'])), {ok: true, state: 'valid', chunks: 3, imageId: IMAGE_ID, created: '2023-11-14T22:13:20.000Z'})
  t.true(run(['copy', spare, '-']).stdout.equals(sent.stdout), 'there and back again is the same stream')
})

test('refuses to overwrite an image that the next boot resumes', async t => {
  const stream = run(['copy', write(golden), '-']).stdout
  const spare = await newSpare()
  t.is(run(['copy', '-', spare], stream).status, 0)
  const again = run(['copy', '-', spare], stream)
  t.is(again.status, 3)
  t.regex(again.stderr, /has an image that the next boot resumes; 'permafrost image discard .*' forgets it$/m)
  t.like(answer(run(['verify', spare, '--json'])), {state: 'valid'})
})

test('leaves no valid image behind a stream that was cut short or damaged', async t => {
  const stream = run(['copy', write(golden), '-']).stdout
  const damaged = Buffer.from(stream)
  damaged.writeUInt8(damaged.readUInt8(70_000) ^ 1, 70_000)
  for (const [bytes, reason] of [[stream.subarray(0, -1), /ends before the image is complete/], [damaged, /digest of a payload is wrong/]] as const) {
    const spare = await newSpare()
    const outcome = run(['copy', '-', spare], bytes)
    t.is(outcome.status, 1)
    t.regex(outcome.stderr, reason)
    t.is(await new SpareDevice(spare, tools()).readState(), 'aborted')
    t.like(answer(run(['verify', '-', '--json'], bytes)), {ok: false, error: 'org.permafrost1.Error.Image'})
  }
})

test('leaves a device alone when what comes is no stream, or when it was never set up', async t => {
  const spare = await newSpare()
  t.regex(run(['copy', '-', spare], golden).stderr, /it is no image stream$/m)
  t.is(await new SpareDevice(spare, tools()).readState(), 'empty')
  const foreign = write(Buffer.alloc(2 ** 20, 'data'))
  const stream = run(['copy', write(golden), '-']).stdout
  const outcome = run(['copy', '-', foreign], stream)
  t.is(outcome.status, 3)
  t.regex(outcome.stderr, /run 'permafrost setup/)
  t.true(readFileSync(foreign).equals(Buffer.alloc(2 ** 20, 'data')))
})

test('makes no stream of an image with a bit wrong', t => {
  const damaged = Buffer.from(golden)
  damaged.writeUInt8(damaged.readUInt8(PLACES.imageAreaOffset) ^ 1, PLACES.imageAreaOffset)
  const file = write(damaged)
  for (const words of [['copy', file, '-'], ['verify', file]]) {
    const outcome = run(words)
    t.is(outcome.status, 1)
    t.is(outcome.stderr, `permafrost: Cannot use the image on '${file}': the digest of chunk 0 is wrong\n`)
    t.is(outcome.stdout.length, 0)
  }
})

test('says so when whoever reads the stream has enough of it, and does not end well', t => {
  const file = write(golden)
  const words = [process.execPath, '--import=./test/lib/register.mjs', 'service/cli.ts', 'image', 'copy', file, '-'].join(' ')
  const {stdout, stderr} = spawnSync('bash', ['-c', `${words} | true; echo "\${PIPESTATUS[0]}"`], {cwd: repository, encoding: 'utf8'})
  t.is(stdout.trim(), '1')
  t.regex(stderr, /Cannot write the image to 'standard output': whoever read it has gone/)
})

test('says what to do when a device is copied to a device, or a file is not there', async t => {
  const spare = await newSpare()
  const outcome = run(['copy', write(golden), spare])
  t.is(outcome.status, 2)
  t.regex(outcome.stderr, /it is no image stream; 'permafrost image copy .* -' makes one of it/)
  t.regex(run(['verify', join(directory, 'nothing')]).stderr, /^permafrost: Cannot read '.*nothing': ENOENT\n$/)
  t.regex(run(['verify', directory]).stderr, /^permafrost: Cannot read '.*': EISDIR\n$/)
})

function run(words: readonly string[], input: Buffer = Buffer.alloc(0)) {
  const path = write(input)
  const fd = openSync(path, 'r')
  try {
    const args = ['--import=./test/lib/register.mjs', 'service/cli.ts', 'image', ...words]
    const {status, stdout, stderr} = spawnSync(process.execPath, args, {cwd: repository, stdio: [fd, 'pipe', 'pipe'], maxBuffer: 2 ** 26})
    return {status, stdout, stderr: stderr.toString()}
  } finally {
    closeSync(fd)
  }
}

function answer({stdout}: {readonly stdout: Buffer}): unknown {
  return JSON.parse(stdout.toString())
}

function write(bytes: Buffer): string {
  const path = join(directory, `file-${count++}`)
  writeFileSync(path, bytes)
  return path
}

async function newSpare(): Promise<string> {
  const path = write(Buffer.alloc(0))
  truncateSync(path, 64 * 2 ** 20)
  await new SpareDevice(path, tools()).setUp({isForced: false})
  return path
}

function tools() {
  return {files: openFiles(), digest: loadDigest()}
}
