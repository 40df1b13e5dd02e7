import {cpus, hostname, machine as machineName, release, type as systemName, version} from 'node:os'
import type {Configuration} from './configuration/configuration.js'
import {openDeviceMapper, type DeviceMapper} from './dm/device-mapper.js'
import {openLibdevmapper} from './dm/libdevmapper.js'
import {loadTemplates, type FillTemplate} from './dm/table.js'
import {openBlockAccess, type BlockAccess} from './edge/block-access.js'
import {parseFaults, type Faults} from './edge/faults.js'
import {openFiles, type Files} from './edge/files.js'
import type {Log} from './edge/journal.js'
import {findLoaders, findWayBackMarks, loaderPlaces, type Loaders, type WayBackMarks} from './edge/loaders.js'
import {sampleMemory} from './edge/memory-sample.js'
import {syncDisks} from './edge/sync-disks.js'
import {readTlsFiles, tlsPathsIn} from './edge/tls-files.js'
import {loadDigest, type Digest} from './image/digest.js'
import {loadLz4, type Lz4} from './image/lz4.js'
import type {KernelRecord} from './image/records.js'
import {openSyscalls, type Syscalls} from './kernel-api/syscalls.js'
import {findCarriers} from './policy/carriers.js'
import {matchNeeded, type Needed} from './policy/match.js'
import type {ImageType, Policy} from './policy/policy.js'
import {type ProcessEntry, readProcessTable} from './policy/process-table.js'
import {findSecretHolders} from './policy/secret-memory.js'
import {readSituation, rememberNames} from './policy/situation.js'
import {AwaySink} from './sinks/away-sink.js'
import {commandTarget} from './sinks/command-target.js'
import {serverTarget} from './sinks/server-target.js'
import type {CowSpace, ImageSink, MergeNotes} from './sinks/sink.js'
import {SpareDevice} from './sinks/spare-device.js'
import type {StreamTarget} from './sinks/stream-target.js'
import {Exclusive} from './stories/exclusive.js'

/** Everything the stories touch; tests put fakes of the kernel in its places. */
export interface Machine {
  readonly configuration: Configuration
  readonly syscalls: Syscalls
  readonly dm: DeviceMapper
  readonly fillTemplate: FillTemplate
  readonly blocks: BlockAccess
  readonly sink: ImageSink
  /** Whoever takes the image where it does not go to the spare device. */
  readonly target: StreamTarget | null
  readonly cow: CowSpace
  readonly mergeNotes: MergeNotes
  readonly files: Files
  readonly lz4: Lz4
  readonly digest: Digest
  readonly policy: Policy
  /** Whom the policy keeps running, judged by the processes there are now. */
  readonly findNeeded: () => readonly Needed[]
  /** Who keeps the kernel from hibernating by having made secret memory. */
  readonly findSecretHolders: () => readonly ProcessEntry[]
  readonly findLoaders: () => Loaders
  /** What there is to bring back an image that goes elsewhere. */
  readonly findWayBackMarks: () => WayBackMarks
  /** Blocks of what lies in the memory of processes now; none where nobody lets us look. */
  readonly sampleMemory: () => Promise<readonly Buffer[]>
  readonly log: Log
  readonly faults: Faults
  readonly exclusive: Exclusive
  readonly host: Host
}

/** What is true of the machine for as long as the daemon runs. */
export interface Host {
  readonly isRoot: boolean
  readonly hostname: string
  readonly compressionThreads: number
  readonly kernel: Omit<KernelRecord, 'physicalPages'>
}

/** Where an image goes that does not go to the spare device. */
export interface Away {
  readonly target: StreamTarget
  readonly grantsResume: boolean
  readonly settle: (signal: AbortSignal) => Promise<void>
}

export interface MachineParts {
  readonly configuration: Configuration
  readonly policy: Policy
  readonly log: Log
  readonly away?: Away
}

export function openMachine({configuration, policy, log, away}: MachineParts): Machine {
  const files = openFiles()
  const digest = loadDigest()
  const names = rememberNames(policy)
  const imageType = imageTypeOf(configuration, files)
  const spare = new SpareDevice(configuration.spareDevice, {files, digest})
  const elsewhere = away ?? openConfiguredTarget(configuration, files, digest)
  const sink = elsewhere === null ? spare : new AwaySink({spare, digest, ...elsewhere})
  return {
    configuration,
    syscalls: openSyscalls(),
    dm: openDeviceMapper(openLibdevmapper()),
    fillTemplate: loadTemplates(TEMPLATES),
    blocks: openBlockAccess(files),
    sink,
    target: elsewhere?.target ?? null,
    cow: sink,
    mergeNotes: spare,
    files,
    lz4: loadLz4(),
    digest,
    policy,
    findNeeded: () => findNeeded(policy, imageType, names),
    findSecretHolders: () => findSecretHolders(readProcessTable()),
    findLoaders: () => findLoaders(loaderPlaces(release())),
    findWayBackMarks: () => findWayBackMarks({initramfs: loaderPlaces(release()).initramfs, tlsFiles: tlsFilesIn(TLS_DIRECTORY), programs: RESUME_PROGRAMS}),
    sampleMemory: () => sampleMemory(readProcessTable().map(({pid}) => pid)),
    log,
    faults: parseFaults(process.env['PERMAFROST_FAULT']),
    exclusive: new Exclusive(),
    host: describeHost(configuration),
  }
}

/** Whom the policy keeps running for an image that goes there, and whoever carries it there. */
export function findNeeded(policy: Policy, imageType: ImageType, names = rememberNames(policy)): readonly Needed[] {
  const table = readProcessTable()
  const needed = matchNeeded(policy, table, readSituation(imageType, names))
  return imageType === 'command' ? [...needed, ...findCarriers(table, needed)] : needed
}

/** Where the image goes, as the configuration says. A spare device may itself be on the network. */
export function imageTypeOf({target, spareDevice}: Configuration, files: Files = openFiles()): ImageType {
  if (target !== null) return target.kind
  return /^\/dev\/nbd\d/.test(spareDevice === null ? '' : files.realPath(spareDevice) ?? '') ? 'nbd' : 'spare'
}

function openConfiguredTarget({target, targetTimeoutMs}: Configuration, files: Files, digest: Digest): Away | null {
  if (target === null) return null
  if (target.kind === 'command') return {target: commandTarget(target, targetTimeoutMs), grantsResume: true, settle: (signal) => syncDisks(files, signal)}
  const readTls = () => readTlsFiles(tlsPathsIn(TLS_DIRECTORY))
  // What has gone over the network is in no cache of this machine.
  return {target: serverTarget({address: target, files, digest, readTls, patienceMs: targetTimeoutMs}), grantsResume: true, settle: async () => {}}
}

const TLS_DIRECTORY = '/etc/permafrost/tls'
const RESUME_PROGRAMS = '/etc/permafrost/resume.d'

function tlsFilesIn(directory: string): readonly string[] {
  const {ca, certificate, key} = tlsPathsIn(directory)
  return [ca, certificate, key]
}

/** Beside `service/`, in the repository and where it is installed. */
const TEMPLATES = new URL('../dm-tables', import.meta.url).pathname

function describeHost(configuration: Configuration): Host {
  return {
    isRoot: process.getuid?.() === 0,
    hostname: hostname(),
    compressionThreads: configuration.compressionThreads === 0 ? cpus().length : configuration.compressionThreads,
    kernel: {sysname: systemName(), release: release(), version: version(), machine: machineName()},
  }
}
