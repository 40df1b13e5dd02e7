import {loadConfiguration} from '../configuration/load.js'
import {openFiles} from '../edge/files.js'
import {NoSpareDeviceError, UsageError} from '../errors.js'
import {loadDigest} from '../image/digest.js'
import {type ImageState, type Superblock} from '../image/superblock.js'
import {SpareDevice} from '../sinks/spare-device.js'
import {copyImage} from './image-copy.js'
import {verify} from './image-verify.js'
import {type Arguments, demandRoot, EXIT_DONE, type Surroundings, toJson, wordAt} from './verb.js'

/** What the next boot does on seeing each state: image/FORMAT.md. */
const NEXT_BOOT: Readonly<Record<ImageState, string>> = {
  empty: 'There is no image; the next boot is an ordinary one.',
  writing: 'Saving was interrupted; the next boot is an ordinary one.',
  valid: 'The next boot resumes this image.',
  away: 'The image went elsewhere as a stream; the next boot resumes it if the loader can fetch it or it is brought to the loader.',
  resuming: 'A resume was tried and did not finish; the next boot is an ordinary one.',
  resumed: 'This image was resumed and will not be again; the next boot is an ordinary one.',
  aborted: 'Saving or resuming was given up; the next boot is an ordinary one.',
}

type Action = (given: Arguments, surroundings: Surroundings) => Promise<Answer | null>
type Answer = Readonly<Record<string, unknown>>

const ACTIONS: Readonly<Record<string, Action>> = {
  show: async (given, surroundings) => {
    demandRoot(surroundings, 'show the image')
    return await show(openSpare(deviceOf(given)))
  },
  verify: async (given) => {
    const answer = await verify(deviceOf(given), new AbortController().signal)
    return {device: answer.source, state: answer.superblock.state, nextBoot: nextBootOf(answer), ...describeImage(answer.superblock), verified: true, ...answer.contents}
  },
  discard: async (given, surroundings) => {
    demandRoot(surroundings, 'discard the image')
    const spare = openSpare(deviceOf(given))
    await spare.invalidate()
    return await show(spare)
  },
  copy: async (given) => {
    const source = wordAt(given, 1, 'a SOURCE')
    const target = wordAt(given, 2, 'a TARGET')
    const superblock = await copyImage({source, target, openSpare}, new AbortController().signal)
    return target === '-' ? null : {source, target, ...describeImage(superblock), verified: true}
  },
}
const NAMES = 'show, verify, discard or copy'

export async function runImage(given: Arguments, surroundings: Surroundings): Promise<number> {
  const name = wordAt(given, 0, NAMES)
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
  if (action === undefined) throw new UsageError(`Cannot '${name}' an image: expected ${NAMES}`)
  if ((given.words.length > 2) !== (name === 'copy')) {
    throw new UsageError(`Cannot ${name} an image: the form is 'permafrost image ${name === 'copy' ? 'copy SOURCE TARGET' : `${name} [DEVICE]`}'`)
  }
  const answer = await action(given, surroundings)
  // Where the image itself went to standard output, nothing else may.
  if (answer === null) return EXIT_DONE
  if (given.flags.has('json')) surroundings.print(toJson({ok: true, ...answer}))
  else for (const [key, value] of Object.entries(answer)) surroundings.print(`${key.padEnd(14)} ${String(value)}`)
  return EXIT_DONE
}

function deviceOf(given: Arguments): string {
  const device = given.words[1] ?? loadConfiguration().spareDevice
  if (device === null) throw new NoSpareDeviceError(null)
  return device
}

function openSpare(device: string): SpareDevice {
  return new SpareDevice(device, {files: openFiles(), digest: loadDigest()})
}

async function show(spare: SpareDevice): Promise<Answer> {
  const superblock = await spare.readSuperblock()
  const {state, imageAreaBytes, cowAreaBytes} = superblock
  const target = state === 'away' ? (await spare.readHeader()).wayBack?.['target'] : undefined
  return {
    device: spare.name, state, nextBoot: NEXT_BOOT[state], imageAreaBytes, cowAreaBytes, ...describeImage(superblock),
    ...(target === undefined ? {} : {target}),
  }
}

/** A stream lies on no device that a boot would look at. */
function nextBootOf({isStream, superblock}: {readonly isStream: boolean; readonly superblock: Superblock}): string {
  return isStream ? "It can be resumed after 'permafrost image copy' has put it on a spare device." : NEXT_BOOT[superblock.state]
}

function describeImage({imageId, createdUnixSeconds, storedBytes, streamBytes, headerBytes}: Superblock): Answer {
  if (headerBytes === 0) return {}
  return {imageId, created: new Date(createdUnixSeconds * 1000).toISOString(), storedBytes, streamBytes}
}
