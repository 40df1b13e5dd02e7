import {ImageError} from '../errors.js'
import type {ImageHeader} from './header.js'
import {readChunks, readHeader, type ReadJob} from './read.js'

/** Reads all of an image, as the loader will: a wrong bit anywhere throws ImageError. */
export async function verifyImage(job: ReadJob, signal: AbortSignal): Promise<ImageHeader> {
  const header = await readHeader(job)
  let bytes = 0
  for await (const chunk of readChunks(job, header, signal)) bytes += chunk.length
  const {streamBytes} = job.superblock
  if (bytes !== streamBytes) throw new ImageError(job.where, `the stream has ${bytes} bytes and should have ${streamBytes}`)
  return header
}
