import {mkdirSync, renameSync, writeFileSync} from 'node:fs'
import path from 'node:path'
import {loadConfiguration} from '../configuration/load.js'
import {parseAbsolutePath} from '../configuration/values.js'
import {openFiles} from '../edge/files.js'
import {NoSpareDeviceError, UsageError} from '../errors.js'
import {loadDigest} from '../image/digest.js'
import {SpareDevice} from '../sinks/spare-device.js'
import {type Arguments, demandRoot, EXIT_DONE, type Surroundings, toJson, wordAt} from './verb.js'

const DROP_IN = '/etc/permafrost/permafrost.conf.d/spare.conf'

export async function setUp(given: Arguments, surroundings: Surroundings): Promise<number> {
  demandRoot(surroundings, 'set up a spare device')
  const device = wordAt(given, 0, 'a DEVICE')
  if (!device.startsWith('/dev/') || parseAbsolutePath(device) === undefined) {
    throw new UsageError(`Cannot set up '${device}': expected a device such as '/dev/disk/by-id/…'`)
  }
  const files = openFiles()
  if (files.blockDevice(device) === null) throw new NoSpareDeviceError(device)
  if (!given.flags.has('yes')) await confirm(device, surroundings)
  const spare = new SpareDevice(device, {files, digest: loadDigest()})
  const superblock = await spare.setUp({isForced: given.flags.has('force')})
  writeDropIn(device)
  const {spareDevice} = loadConfiguration()
  if (spareDevice !== device) surroundings.complain(`Another file names '${spareDevice ?? 'no device'}' as the spare device and wins over '${DROP_IN}'`)
  const imageMebibytes = Math.floor(superblock.imageAreaBytes / 2 ** 20)
  surroundings.print(
    given.flags.has('json')
      ? toJson({ok: true, device, deviceId: superblock.deviceId, imageAreaBytes: superblock.imageAreaBytes, cowAreaBytes: superblock.cowAreaBytes})
      : `'${device}' has room for an image of ${imageMebibytes} MiB and is named in '${DROP_IN}'.`,
  )
  return EXIT_DONE
}

async function confirm(device: string, {ask}: Surroundings): Promise<void> {
  if (ask === null) throw new UsageError(`Cannot ask whether '${device}' may be overwritten: there is no terminal; add --yes`)
  const answer = await ask(`Everything on '${device}' will be lost. Type 'yes' to go on: `)
  if (answer.trim() !== 'yes') throw new UsageError(`Cannot set up '${device}': you did not say 'yes'`)
}

function writeDropIn(device: string): void {
  mkdirSync(path.dirname(DROP_IN), {recursive: true})
  const draft = `${DROP_IN}.new`
  writeFileSync(draft, `# Written by 'permafrost setup'.\n[Image]\nSpare=${device}\n`)
  renameSync(draft, DROP_IN)
}
