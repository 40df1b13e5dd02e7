import {findPiecesBelow, type Piece} from '../dm/below.js'
import type {MappedDevice} from '../dm/device-mapper.js'
import {findFileSystems, findUuid, isEncrypted, pathOf} from '../dm/filesystems.js'
import {prepareSnapshots, type PreparedFileSystem} from '../dm/prepare.js'
import {printDeviceNumber, type DeviceNumber} from '../edge/device-number.js'
import {eitherOf} from '../edge/either-signal.js'
import {isDisk, type SwapDevice} from '../edge/swaps.js'
import {SystemCallError} from '../errors.js'
import {digestPlaces, findFingerprintPlaces, findSwapPlaces} from '../image/fingerprint.js'
import {encodeHeader} from '../image/header.js'
import type {FileSystemRecord} from '../image/records.js'
import {chooseChunkBytes, writeImage, type WriteProgress, type WrittenStream} from '../image/write.js'
import {SIGFREEZE, SIGUNFREEZE} from '../kernel-api/abi.js'
import {FrozenProcesses, type SnapshotImage} from '../kernel-api/freezer.js'
import type {SnapshotResult, Syscalls} from '../kernel-api/syscalls.js'
import type {Machine} from '../machine.js'
import {PAGE_BYTES} from '../page.js'
import type {Needed} from '../policy/match.js'
import type {ImageSession} from '../sinks/sink.js'
import {printFigures, type Figures} from './figures.js'
import {readMeminfo} from './meminfo.js'

/** The steps of the story, one function each. The order in which they may be taken is the story's affair. */

/** struct swsusp_info, kernel/power/power.h: num_physpages behind new_utsname and version_code. */
const PHYSICAL_PAGES_OFFSET = 400
const ESRCH = 3

export async function prepareFileSystems(machine: Machine): Promise<readonly PreparedFileSystem[]> {
  const [fileSystems, area] = await Promise.all([findFileSystems(machine.files, machine.dm), machine.cow.area()])
  return prepareSnapshots(fileSystems, {...area, isEncrypted: isEncrypted(area.device, machine.files)}, machine)
}

export function freezeEverybody({syscalls, configuration}: Machine): FrozenProcesses {
  return FrozenProcesses.freeze(syscalls, {timeoutMs: configuration.freezeTimeoutMs})
}

/**
 * Lets go on whom the policy names, judged by the processes there are now that nobody forks
 * any more. Gives whom it found.
 */
export function keepNeededRunning({syscalls, findNeeded}: Machine): readonly Needed[] {
  const needed = findNeeded()
  signalAll(needed, SIGUNFREEZE, syscalls)
  return needed
}

/**
 * Switches off with nobody running but the service: while the kernel shuts its devices down, whoever still runs gets errors from
 * them (virtio_dev_shutdown() in drivers/virtio/virtio.c is one), fills the console with them, and might act on them.
 */
export function powerOffAlone({syscalls}: Machine, needed: readonly Needed[]): never {
  signalAll(needed, SIGFREEZE, syscalls)
  try {
    return syscalls.powerOff()
  } finally {
    signalAll(needed, SIGUNFREEZE, syscalls)
  }
}

function signalAll(processes: readonly Needed[], signal: number, syscalls: Syscalls): void {
  for (const {pid} of processes) {
    try {
      syscalls.kill(pid, signal)
    } catch (error) {
      // It has ended, as SIGKILL may have it even in the freezer: nobody needs it any more.
      if (!(error instanceof SystemCallError) || error.errno !== ESRCH) throw error
    }
  }
}

export function takeSnapshot(
  {syscalls, configuration}: Machine,
  frozen: FrozenProcesses,
  fileSystems: readonly PreparedFileSystem[],
): SnapshotResult {
  if (configuration.dropsPageCache) syscalls.dropPageCache()
  return syscalls.snapshotKernel({
    overheadPages: Math.ceil(configuration.overheadBytes / PAGE_BYTES),
    freezerFd: frozen.fd,
    devices: fileSystems.map(({number}) => number),
  })
}

/**
 * What a mount would change, as it lies on the bases now that the snapshot keeps them as they are. It is digested on the devices
 * at the bottom: a volume that is encrypted, or not active, when the next boot looks is as good as any other.
 */
async function readFingerprints(
  machine: Machine,
  fileSystems: readonly PreparedFileSystem[],
  signal: AbortSignal,
): Promise<readonly FileSystemRecord[]> {
  const devices = await machine.dm.list()
  const records: FileSystemRecord[] = []
  for (const {mounted, base, deviceBytes} of fileSystems) {
    signal.throwIfAborted()
    const {type, uuid, isReadOnly} = mounted
    await using source = await machine.blocks.openForReading(base)
    const places = await findFingerprintPlaces({source, fileSystemType: type, isReadOnly, deviceBytes})
    const pieces = await findPiecesBelow(places.map((place) => ({device: base, ...place})), machine.dm, devices)
    records.push(...(await digestPieces({type, uuid, pieces}, devices, machine)))
  }
  return records
}

/**
 * What whoever else swaps there would change. Nobody here does before the power goes, but what was on its way at the snapshot may
 * arrive later, so this is for the end. What the initramfs may not have, such as a volume of a kind that has no known bottom, is
 * left out: it would keep the image from being resumed for nothing.
 */
async function readSwapFingerprints(machine: Machine, swaps: readonly SwapDevice[]): Promise<readonly FileSystemRecord[]> {
  const devices = await machine.dm.list()
  const records: FileSystemRecord[] = []
  for (const {number, bytes} of swaps) {
    const places = findSwapPlaces(bytes).map((place) => ({device: number, ...place}))
    const pieces = (await findPiecesBelow(places, machine.dm, devices)).filter(({device}) => isDisk(device, machine.files))
    records.push(...(await digestPieces({type: 'swap', uuid: findUuid(number, machine.files), pieces}, devices, machine)))
  }
  return records
}

async function digestPieces(
  {type, uuid, pieces}: {readonly type: string; readonly uuid: string; readonly pieces: readonly Piece[]},
  devices: readonly MappedDevice[],
  {blocks, digest, files}: Machine,
): Promise<readonly FileSystemRecord[]> {
  const records: FileSystemRecord[] = []
  for (const [device, below] of groupByDevice(pieces)) {
    await using bottom = await blocks.openForReading(device)
    const regions = await digestPlaces(bottom, below, digest)
    records.push({path: pathOf(device, devices, files), uuid: findUuid(device, files) || uuid, type, regions})
  }
  return records
}

function groupByDevice(pieces: readonly Piece[]): ReadonlyMap<DeviceNumber, readonly Piece[]> {
  const groups = new Map<string, readonly [DeviceNumber, Piece[]]>()
  for (const piece of pieces) {
    const key = printDeviceNumber(piece.device)
    const group = groups.get(key) ?? [piece.device, []]
    group[1].push(piece)
    groups.set(key, group)
  }
  return new Map(groups.values())
}

export interface ImageJob {
  readonly image: SnapshotImage
  readonly streamBytes: number
  readonly fileSystems: readonly PreparedFileSystem[]
  readonly session: ImageSession
  readonly signal: AbortSignal
  readonly onProgress: (progress: WriteProgress) => void
}

export interface SavedImage {
  readonly stream: WrittenStream
  readonly fingerprints: readonly FileSystemRecord[]
}

/**
 * Saves the stream, and meanwhile sees to the bases, to which nobody has written since the snapshot: what they are known by is
 * read, and all of it gets from their caches to the disks. Returns or throws when both have ended; when one fails the other does not
 * begin anything more.
 */
export async function saveImage(machine: Machine, job: ImageJob): Promise<SavedImage> {
  const failed = new AbortController()
  using stop = eitherOf([job.signal, failed.signal])
  const orEndOther = async <Result>(work: Promise<Result>): Promise<Result> => {
    try {
      return await work
    } catch (error) {
      failed.abort(error)
      throw error
    }
  }
  const reading = orEndOther(settleBases(machine, job.fileSystems, stop.signal))
  const writing = orEndOther(saveStream(machine, {...job, signal: stop.signal}))
  try {
    const [fingerprints, stream] = await Promise.all([reading, writing])
    return {fingerprints, stream}
  } finally {
    await Promise.allSettled([reading, writing])
  }
}

async function settleBases(
  machine: Machine,
  fileSystems: readonly PreparedFileSystem[],
  signal: AbortSignal,
): Promise<readonly FileSystemRecord[]> {
  const fingerprints = await readFingerprints(machine, fileSystems, signal)
  machine.faults.hit('fingerprints-read')
  await flushDisks(machine, fileSystems.map(({base}) => base), signal)
  return fingerprints
}

async function saveStream(machine: Machine, job: ImageJob): Promise<WrittenStream> {
  const threads = machine.host.compressionThreads
  const freeBytes = readMeminfo(machine.files.readText('/proc/meminfo') ?? '')('MemFree')
  let isFirst = true
  return writeImage({
    fd: job.image.fd,
    streamBytes: job.streamBytes,
    target: job.session,
    lz4: machine.lz4,
    digest: machine.digest,
    threads,
    chunkBytes: chooseChunkBytes({freeBytes, threads}),
    isAdaptive: machine.configuration.isCompressionAdaptive,
    signal: job.signal,
    onProgress(progress) {
      if (isFirst) machine.faults.hit('first-chunk-written')
      isFirst = false
      job.onProgress(progress)
    },
    where: machine.sink.name,
  })
}

export interface ImageContents extends SavedImage {
  /** Those that were swapped out to at the snapshot. */
  readonly swaps: readonly SwapDevice[]
  readonly figures: Figures
  readonly signal: AbortSignal
}

/** After this, and not before, the next boot resumes. */
export async function makeValid(machine: Machine, session: ImageSession, contents: ImageContents): Promise<void> {
  const {stream, fingerprints, swaps, figures, signal} = contents
  await flushDisks(machine, swaps.map(({number}) => number), signal)
  const header = encodeHeader({
    kernel: {...machine.host.kernel, physicalPages: readPhysicalPages(stream.firstPage)},
    chunks: stream.chunks,
    fileSystems: [...fingerprints, ...(await readSwapFingerprints(machine, swaps))],
    figures: printFigures({...figures, stored_bytes: stream.storedBytes}),
    text: describeSystem(machine),
    ...(session.wayBack ? {wayBack: session.wayBack} : {}),
  })
  await session.complete({header, storedBytes: stream.storedBytes, streamBytes: stream.streamBytes})
}

/**
 * A disk that keeps in its cache what it got before the snapshot would lose it with the power. Not every file system flushes
 * when it is frozen, FAT has nothing of the kind, and nobody flushes what is swapped out. One at a time: the threads that wait for
 * them are those that save the stream.
 */
async function flushDisks({blocks}: Machine, disks: readonly DeviceNumber[], signal: AbortSignal): Promise<void> {
  for (const disk of disks) {
    signal.throwIfAborted()
    await blocks.flush(disk)
  }
}

function readPhysicalPages(firstPage: Buffer): number {
  return firstPage.length < PHYSICAL_PAGES_OFFSET + 8 ? 0 : Number(firstPage.readBigUInt64LE(PHYSICAL_PAGES_OFFSET))
}

function describeSystem({files, policy, host}: Machine): Readonly<Record<string, string>> {
  const origins = policy.rules.map(({origin}) => `${origin.file}:${origin.line}`)
  return {
    cmdline: (files.readText('/proc/cmdline') ?? '').trim(),
    policy: [...new Set(origins)].join(' '),
    hostname: host.hostname,
  }
}
