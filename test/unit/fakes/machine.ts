import {randomBytes} from 'node:crypto'
import {mkdtempSync, rmSync, truncateSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import type {ExecutionContext} from 'ava'
import type {BlockAccess} from '../../../service/edge/block-access.js'
import {NO_FAULTS, type Faults} from '../../../service/edge/faults.js'
import type {Log} from '../../../service/edge/journal.js'
import type {Loaders, WayBackMarks} from '../../../service/edge/loaders.js'
import {loadTemplates, parseTable, printTable} from '../../../service/dm/table.js'
import {loadDigest} from '../../../service/image/digest.js'
import {loadLz4} from '../../../service/image/lz4.js'
import type {ImageState} from '../../../service/image/superblock.js'
import type {Machine} from '../../../service/machine.js'
import type {Needed} from '../../../service/policy/match.js'
import type {ProcessEntry} from '../../../service/policy/process-table.js'
import {SpareDevice} from '../../../service/sinks/spare-device.js'
import {Exclusive} from '../../../service/stories/exclusive.js'
import type {HibernateRequest, StoryState} from '../../../service/stories/hibernate.js'
import type {Progress} from '../../../service/stories/progress.js'
import {FakeDeviceMapper} from './device-mapper.js'
import {fakeFiles, type FakeTree} from './files.js'
import {FakeKernel} from './kernel.js'

const MIB = 2 ** 20
const SPARE_NUMBER = {major: 252, minor: 48}
const MOUNTINFO = [
  '36 35 254:0 / / rw - ext4 /dev/mapper/permafrost-vda rw',
  '37 36 254:1 / /home rw - ext4 /dev/mapper/permafrost-vdb rw',
  '38 36 0:21 / /proc rw - proc proc rw',
].join('\n')

export interface FakeMachine {
  readonly machine: Machine
  readonly dm: FakeDeviceMapper
  readonly kernel: FakeKernel
  readonly spare: SpareDevice
  readonly stream: Buffer
  readonly log: string[]
  /** Tables of the live devices, as lines. */
  readonly liveTables: () => Promise<readonly string[]>
  readonly imageState: () => Promise<ImageState>
}

export interface FakeMachineOptions {
  readonly side?: 'created' | 'resumed'
  readonly faults?: Faults
  readonly needed?: readonly Needed[]
  readonly secretHolders?: readonly ProcessEntry[]
  readonly loaders?: Partial<Loaders>
  readonly wayBackMarks?: Partial<WayBackMarks>
  readonly memorySamples?: readonly Buffer[]
  readonly tree?: FakeTree
  readonly onPowerOff?: () => void
  readonly isSetUp?: boolean
}

/** A machine with two file systems and a spare device, the kernel of it in memory, the spare device a file. */
export async function fakeMachine(t: ExecutionContext, options: FakeMachineOptions = {}): Promise<FakeMachine> {
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-story-'))
  t.teardown(() => rmSync(directory, {recursive: true}))
  const dm = newDeviceMapper()
  const stream = newStream()
  const streamFile = join(directory, 'stream')
  writeFileSync(streamFile, stream)
  const kernel = new FakeKernel({
    dm,
    side: options.side ?? 'created',
    streamFile,
    streamBytes: stream.length,
    onPowerOff: options.onPowerOff ?? (() => {}),
  })
  const {spare, files} = newSpare(directory, options.tree ?? {})
  if (options.isSetUp !== false) await spare.setUp({isForced: false})
  const log: string[] = []
  const machine: Machine = {
    configuration: {spareDevice: 'spare', target: null, targetTimeoutMs: 30_000, overheadBytes: 64 * MIB, freezeTimeoutMs: 20_000, dropsPageCache: true, compressionThreads: 2, isCompressionAdaptive: false},
    syscalls: kernel,
    dm,
    fillTemplate: loadTemplates(new URL('../../../dm-tables', import.meta.url).pathname),
    blocks: zeroBlocks,
    sink: spare,
    target: null,
    cow: spare,
    mergeNotes: spare,
    files,
    lz4: loadLz4(),
    digest: loadDigest(),
    policy: {rules: []},
    findNeeded: () => options.needed ?? [],
    findSecretHolders: () => options.secretHolders ?? [],
    findLoaders: () => ({installed: '1a2b', built: {file: '/boot/initrd.img-6.12', digest: '1a2b'}, booted: '1a2b', ...options.loaders}),
    findWayBackMarks: () => ({built: {file: '/boot/initrd.img-6.12', words: ['net']}, tlsDigest: null, programs: ['tape'], ...options.wayBackMarks}),
    sampleMemory: () => Promise.resolve(options.memorySamples ?? []),
    log: recordingLog(log),
    faults: options.faults ?? NO_FAULTS,
    exclusive: new Exclusive(),
    host: {
      isRoot: true,
      hostname: 'ice',
      compressionThreads: 2,
      kernel: {sysname: 'Linux', release: '6.12', version: '#1', machine: 'x86_64'},
    },
  }
  return {
    machine,
    dm,
    kernel,
    spare,
    stream,
    log,
    liveTables: () => Promise.all(dm.devices.map(async ({name}) => `${name}: ${printTable(await dm.table(name)).trim()}`)),
    imageState: () => spare.readState(),
  }
}

export const ORIGINAL_TABLES = ['permafrost-vda: 0 2048 linear 252:0 0', 'permafrost-vdb: 0 4096 linear 252:16 0']

export interface RecordedRequest extends HibernateRequest {
  readonly states: StoryState[]
  readonly progress: Progress[]
}

/** Whom a policy names. */
export function needed(pid: number): Needed {
  return {pid, command: 'nbd-client', unit: null, line: 'x.conf:1', reason: 'test'}
}

export function recordingRequest(signal: AbortSignal = new AbortController().signal): RecordedRequest {
  const states: StoryState[] = []
  const progress: Progress[] = []
  return {
    signal,
    states,
    progress,
    onState: (state) => states.push(state),
    onProgress: (each) => progress.push(each),
    onNeeded: () => undefined,
  }
}

function newDeviceMapper(): FakeDeviceMapper {
  const dm = new FakeDeviceMapper()
  dm.add('permafrost-vda', 'PERMAFROST-wrap-vda', parseTable('0 2048 linear 252:0 0', 'x'))
  dm.add('permafrost-vdb', 'PERMAFROST-wrap-vdb', parseTable('0 4096 linear 252:16 0', 'x'))
  return dm
}

function newStream(): Buffer {
  const header = Buffer.alloc(4096)
  header.writeBigUInt64LE(262_144n, 400)
  return Buffer.concat([header, Buffer.alloc(3 * MIB, 'page'), randomBytes(2 * MIB)])
}

function newSpare(directory: string, tree: FakeTree) {
  const path = join(directory, 'spare_permafrost_delme')
  writeFileSync(path, '')
  truncateSync(path, 64 * MIB)
  const files = fakeFiles({
    texts: {
      '/proc/self/mountinfo': MOUNTINFO,
      '/sys/power/state': 'freeze mem disk\n',
      '/proc/meminfo': 'MemTotal: 1048576 kB\nMemAvailable: 1015808 kB\nMemFree: 1015808 kB\n',
      '/proc/cmdline': 'root=UUID=1 quiet\n',
      '/sys/dev/block/252:0/uevent': 'DEVNAME=vda\n',
      '/sys/dev/block/252:16/uevent': 'DEVNAME=vdb\n',
      '/run/udev/data/b252:0': 'E:ID_FS_UUID=1111\n',
      '/run/udev/data/b252:16': 'E:ID_FS_UUID=2222\n',
      '/run/udev/data/b254:0': 'E:ID_FS_UUID=1111\n',
      '/run/udev/data/b254:1': 'E:ID_FS_UUID=2222\n',
      ...tree.texts,
    },
    blockDevices: {[path]: SPARE_NUMBER, ...tree.blockDevices},
    missing: tree.missing ?? [],
  })
  return {files, spare: new SpareDevice(path, {files, digest: loadDigest()})}
}

const zeroBlocks: BlockAccess = {
  openForReading: () =>
    Promise.resolve({
      read: (_: number, length: number) => Promise.resolve(Buffer.alloc(length)),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }),
  writeStart: () => Promise.resolve(),
  readCachedStart: (_, bytes) => Promise.resolve(Buffer.alloc(bytes)),
  flush: () => Promise.resolve(),
}

function recordingLog(lines: string[]): Log {
  const record = (text: string): void => {
    lines.push(text)
  }
  return {info: record, warning: record, error: record, flush() {}}
}
