// An image small enough to be sent many times, and what tests of servers and targets have in common.
import {mkdtempSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import type {ExecutionContext} from 'ava'
import {loadDigest} from '../../service/image/digest.js'
import {encodeHeader} from '../../service/image/header.js'
import type {ImageSession} from '../../service/sinks/sink.js'
import type {StreamTarget} from '../../service/sinks/stream-target.js'
import {StreamSession} from '../../service/sinks/stream-session.js'
import type {ByteOutput} from '../../service/edge/pipe.js'

export const digest = loadDigest()
const PIECE_BYTES = 4096
const KERNEL = {sysname: 'Linux', release: '6.12-ice', version: '#1', machine: 'x86_64', physicalPages: 1}

/** `pieces` of 4 KiB each. */
export async function imageStream(imageId: string, pieces = 3): Promise<Buffer> {
  const parts: Buffer[] = []
  await writeImage({append: async (bytes) => void parts.push(Buffer.from(bytes))}, imageId, pieces)
  return Buffer.concat(parts)
}

/** As the service does, without the spare device. */
export async function sendImage(target: StreamTarget, imageId: string, {pieces = 3, signal = new AbortController().signal} = {}): Promise<void> {
  await using connection = await target.open(signal, imageId)
  await writeImage(connection, imageId, pieces)
  await connection.finish()
}

async function writeImage(output: ByteOutput, imageId: string, pieces: number): Promise<void> {
  await using session = new StreamSession({output, digest, opening: {imageId, streamBytes: 0}, name: 'test'})
  await fillImage(session, pieces)
}

/** All that the service would write, to its end. */
export async function fillImage(session: ImageSession, pieces: number): Promise<void> {
  const chunks = []
  for (let index = 0; index < pieces; index += 1) {
    const bytes = Buffer.alloc(PIECE_BYTES, index + 1)
    const offset = session.reserve(bytes.length)
    await session.write(bytes, offset)
    chunks.push({offset, storedBytes: bytes.length, rawBytes: bytes.length, digest: digest.ofBytes(bytes), codec: 'stored' as const})
  }
  const bytes = pieces * PIECE_BYTES
  const header = encodeHeader({kernel: KERNEL, chunks, fileSystems: [], figures: {}, text: {hostname: 'ice'}, ...(session.wayBack ? {wayBack: session.wayBack} : {})})
  await session.complete({header, storedBytes: bytes, streamBytes: bytes, createdUnixSeconds: 1_700_000_000})
}

export function temporaryDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'permafrost-receive-'))
  t.teardown(() => rmSync(directory, {recursive: true, force: true}))
  return directory
}
