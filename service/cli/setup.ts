import {spawnSync} from 'node:child_process'
import {accessSync, constants, mkdirSync, renameSync, writeFileSync} from 'node:fs'
import path from 'node:path'
import {loadConfiguration} from '../configuration/load.js'
import {parseAbsolutePath} from '../configuration/values.js'
import {openFiles} from '../edge/files.js'
import {causeText, NoSpareDeviceError, PermafrostError, RefusedError, UsageError} from '../errors.js'
import {loadDigest} from '../image/digest.js'
import {type Superblock} from '../image/superblock.js'
import {SpareDevice} from '../sinks/spare-device.js'
import {findStaleInitramfs, updateInitramfs} from './initramfs.js'
import {type Arguments, demandRoot, EXIT_DONE, type Surroundings, toJson, wordAt} from './verb.js'

const DROP_IN = '/etc/permafrost/permafrost.conf.d/spare.conf'

/**
 * Claims a device, names it in the configuration, sees to the initramfs, and ends with what 'check' says.
 * What is still missing then, such as the kernel before the next boot, is no failure of this.
 */
export async function setUp(given: Arguments, surroundings: Surroundings): Promise<number> {
  demandRoot(surroundings, 'set up a spare device')
  const device = wordAt(given, 0, 'a DEVICE')
  if (!device.startsWith('/dev/') || parseAbsolutePath(device) === undefined) {
    throw new UsageError(`Cannot set up '${device}': expected a device such as '/dev/disk/by-id/…'`)
  }
  const files = openFiles()
  if (files.blockDevice(device) === null) throw new NoSpareDeviceError(device)
  // Where the configuration cannot be read, or nothing can be added to it, the device is left as it is.
  loadConfiguration()
  prepareDropIn()
  const isForced = given.flags.has('force')
  const spare = new SpareDevice(device, {files, digest: loadDigest()})
  // What would be refused in the end is not asked about.
  await spare.refuseUnlessFree({isForced})
  if (!given.flags.has('yes')) await confirm(device, surroundings)
  const superblock = await spare.setUp({isForced})
  writeDropIn(device)
  if (given.flags.has('json')) return await finishForPrograms(device, superblock, surroundings)
  const {print, complain} = surroundings
  print(`'${device}' has room for an image of ${mebibytes(superblock.imageAreaBytes)} and for ${mebibytes(superblock.cowAreaBytes)} written while saving.`)
  print(`It is named in '${DROP_IN}'.`)
  if (findStaleInitramfs().length > 0) print('Making the initramfs of every kernel anew, which takes a while.')
  for (const sentence of [...findOtherSpare(device), ...(await refreshInitramfs())]) complain(sentence)
  await showChecks(surroundings)
  return EXIT_DONE
}

async function finishForPrograms(device: string, superblock: Superblock, {connect, print}: Surroundings): Promise<number> {
  const {deviceId, imageAreaBytes, cowAreaBytes} = superblock
  const warnings = [...findOtherSpare(device), ...(await refreshInitramfs())]
  const checks = await askForChecks(connect)
  print(toJson({ok: true, device, deviceId, imageAreaBytes, cowAreaBytes, warnings, checks}))
  return EXIT_DONE
}

async function confirm(device: string, {ask, print}: Surroundings): Promise<void> {
  if (ask === null) throw new UsageError(`Cannot ask whether '${device}' may be overwritten: there is no terminal; add --yes`)
  for (const line of describeContent(device)) print(line)
  const answer = await ask(`Everything on '${device}' will be lost. Type 'yes' to go on: `)
  if (answer.trim() !== 'yes') throw new UsageError(`Cannot set up '${device}': you did not say 'yes'`)
}

/** As lsblk(8) shows it, with all partitions; nothing where it cannot tell. */
function describeContent(device: string): readonly string[] {
  const columns = 'NAME,SIZE,TYPE,FSTYPE,LABEL,MODEL,SERIAL'
  const {stdout} = spawnSync('lsblk', ['--output', columns, device], {encoding: 'utf8'})
  return (stdout ?? '').trimEnd().split('\n').filter((line) => line !== '')
}

/** Throws a refusal where the directory cannot be written to. */
function prepareDropIn(): void {
  const directory = path.dirname(DROP_IN)
  try {
    mkdirSync(directory, {recursive: true})
    accessSync(directory, constants.W_OK)
  } catch (error) {
    throw new RefusedError(`Cannot write to '${directory}', where the spare device is to be named: ${causeText(error)}`, {cause: error})
  }
}

function writeDropIn(device: string): void {
  const draft = `${DROP_IN}.new`
  writeFileSync(draft, `# Written by 'permafrost setup'.\n[Image]\nSpare=${device}\n`)
  renameSync(draft, DROP_IN)
}

function findOtherSpare(device: string): readonly string[] {
  const {spareDevice} = loadConfiguration()
  return spareDevice === device
    ? []
    : [`Another file names '${spareDevice ?? 'no device'}' as the spare device and wins over '${DROP_IN}'`]
}

/** The sentence that says what is left to do, if anything. */
async function refreshInitramfs(): Promise<readonly string[]> {
  const stale = findStaleInitramfs()
  if (stale.length === 0 || (await updateInitramfs())) return []
  return [`Cannot make '${stale.join("', '")}' anew, so no boot with them would resume: run 'update-initramfs -u -k all'`]
}

async function showChecks({connect, print, complain}: Surroundings): Promise<void> {
  const checks = await askForChecks(connect)
  if (typeof checks === 'string') {
    complain(`${checks}; 'permafrost check' says what is missing`)
    return
  }
  for (const each of checks) print(each.passed ? `ok       ${each.title}` : `missing  ${each.title}: ${each.remedy}`)
  const missing = checks.filter(({passed}) => !passed)
  if (missing.length === 0) print("Ready: 'systemctl hibernate'.")
  else if (missing.some(({id}) => id === 'kernel')) print("Boot a Permafrost kernel; then 'permafrost check' looks again.")
  else print("Not ready yet; 'permafrost check' looks again.")
}

/** The rows, or why there are none. */
async function askForChecks(connect: Surroundings['connect']) {
  try {
    await using client = await connect()
    return await client.check()
  } catch (error) {
    if (!(error instanceof PermafrostError)) throw error
    return causeText(error)
  }
}

function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / 2 ** 20)} MiB`
}
