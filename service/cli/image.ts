import {loadConfiguration} from '../configuration/load.js'
import {DirectDevice} from '../edge/direct-device.js'
import {openFiles} from '../edge/files.js'
import {ImageError, NoSpareDeviceError, UsageError} from '../errors.js'
import {type Digest, loadDigest} from '../image/digest.js'
import {type ImageHeader} from '../image/header.js'
import {loadLz4} from '../image/lz4.js'
import {readChunks, readHeader} from '../image/read.js'
import {type ImageState, type Superblock} from '../image/superblock.js'
import {SpareDevice} from '../sinks/spare-device.js'
import {type Arguments, demandRoot, EXIT_DONE, type Surroundings, toJson, wordAt} from './verb.js'

/** What the next boot does on seeing each state: image/FORMAT.md. */
const NEXT_BOOT: Readonly<Record<ImageState, string>> = {
  empty: 'There is no image; the next boot is an ordinary one.',
  writing: 'Saving was interrupted; the next boot is an ordinary one.',
  valid: 'The next boot resumes this image.',
  resuming: 'A resume was tried and did not finish; the next boot is an ordinary one.',
  resumed: 'This image was resumed and will not be again; the next boot is an ordinary one.',
  aborted: 'Saving or resuming was given up; the next boot is an ordinary one.',
}

interface Subject {
  readonly device: string
  readonly spare: SpareDevice
  readonly superblock: Superblock
  readonly digest: Digest
}

const ACTIONS: Readonly<Record<string, (subject: Subject) => Promise<Readonly<Record<string, unknown>>>>> = {
  show: async (subject) => describe(subject),
  verify: async (subject) => ({...describe(subject), ...(await verify(subject))}),
  discard: async (subject) => {
    await subject.spare.invalidate()
    return describe({...subject, superblock: await subject.spare.readSuperblock()})
  },
}

export async function runImage(given: Arguments, surroundings: Surroundings): Promise<number> {
  const name = wordAt(given, 0, 'show, verify or discard')
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
  if (action === undefined) throw new UsageError(`Cannot '${name}' an image: expected show, verify or discard`)
  demandRoot(surroundings, `${name} the image`)
  const device = given.words[1] ?? loadConfiguration().spareDevice
  if (device === null) throw new NoSpareDeviceError(null)
  const digest = loadDigest()
  const spare = new SpareDevice(device, {files: openFiles(), digest})
  const answer = await action({device, spare, superblock: await spare.readSuperblock(), digest})
  if (given.flags.has('json')) surroundings.print(toJson({ok: true, ...answer}))
  else for (const [key, value] of Object.entries(answer)) surroundings.print(`${key.padEnd(14)} ${String(value)}`)
  return EXIT_DONE
}

function describe({device, superblock}: Subject): Readonly<Record<string, unknown>> {
  const {state, imageId, createdUnixSeconds, storedBytes, streamBytes, imageAreaBytes, cowAreaBytes} = superblock
  const image = {
    imageId, created: new Date(createdUnixSeconds * 1000).toISOString(), storedBytes, streamBytes,
  }
  return {device, state, nextBoot: NEXT_BOOT[state], imageAreaBytes, cowAreaBytes, ...(superblock.headerBytes === 0 ? {} : image)}
}

/** Reads all of it, as the loader will: a wrong bit anywhere throws ImageError. */
async function verify({device, superblock, digest}: Subject): Promise<Readonly<Record<string, unknown>>> {
  await using source = await DirectDevice.openForReading(device)
  const job = {source, superblock, digest, lz4: loadLz4(), where: device}
  const header = await readHeader(job)
  let bytes = 0
  for await (const chunk of readChunks(job, header, new AbortController().signal)) bytes += chunk.length
  if (bytes !== superblock.streamBytes) {
    throw new ImageError(device, `the stream has ${bytes} bytes and should have ${superblock.streamBytes}`)
  }
  return {verified: true, ...describeHeader(header)}
}

function describeHeader({kernel, chunks, fileSystems}: ImageHeader): Readonly<Record<string, unknown>> {
  return {kernel: kernel.release, chunks: chunks.length, fileSystems: fileSystems.map(({path}) => path).join(' ')}
}
