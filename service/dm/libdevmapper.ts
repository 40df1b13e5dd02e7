import {constants} from 'node:os'
import koffi from 'koffi'
import type {DeviceNumber} from '../edge/device-number.js'
import {callOnThread} from '../edge/foreign-call.js'

/** One request to the kernel's device-mapper. */
export interface Task {
  readonly kind: TaskKind
  /** Null where all devices are meant. */
  readonly device: string | null
  readonly uuid?: string
  readonly targets?: readonly RawTarget[]
  /** Of the table that is loaded. */
  readonly isReadOnly?: boolean
  /** Asks udev to make no links to the device and to let nobody look into it. */
  readonly isPrivate?: boolean
}

/** A target as the kernel takes and gives it; what the parameters mean is the affair of `targets.ts`. */
export interface RawTarget {
  readonly start: number
  readonly length: number
  readonly type: string
  readonly parameters: string
}

export type TaskResult =
  | {readonly kind: 'failed'; readonly errno: number}
  | {
      readonly kind: 'done'
      readonly info: DeviceInfo
      /** The kernel's names of all devices, asked for by 'list'. */
      readonly names: readonly string[]
      /** Asked for by 'table' and 'status'. */
      readonly targets: readonly RawTarget[]
    }

export interface DeviceInfo {
  readonly exists: boolean
  readonly uuid: string
  readonly number: DeviceNumber
  readonly isReadOnly: boolean
  readonly hasInactiveTable: boolean
}

export type RunTask = (task: Task) => Promise<TaskResult>

/**
 * Device-mapper through libdevmapper, since starting dmsetup takes a hundred times as long as what
 * it does. The kernel's part of a task, which may wait for disks, runs on another thread.
 *
 * - Nothing waits for udev: it may be frozen. The device's own node in /dev is the kernel's work.
 * - The library makes no nodes and links in /dev/mapper in place of udev.
 * - Tasks are run one after the other: the library keeps its state in variables of the process.
 * - A table is exchanged without freezing the file system: what it has not written yet would go to the old table first.
 * - Names are the kernel's own, not unescaped as dmsetup prints them.
 */
export function openLibdevmapper(): RunTask {
  const library = loadLibrary()
  return (task) => inTurn(() => run(library, task))
}

// libdevmapper.h, here and below.
const TASKS = {create: 0, load: 1, remove: 2, resume: 5, info: 6, status: 10, table: 11, list: 13, clear: 14} as const
type TaskKind = keyof typeof TASKS

const NO_NAME_MANGLING = 0
const ADD_NODE_ON_CREATE = 1
const UDEV_DISABLE_DM_RULES = 0x0001
const UDEV_DISABLE_SUBSYSTEM_RULES = 0x0002
const UDEV_DISABLE_LIBRARY_FALLBACK = 0x0020
const {ENODEV, EINVAL} = constants.errno

/** The process's, as the library's state is, however often the library is opened. */
let lastTurn: Promise<unknown> = Promise.resolve()

function inTurn<Value>(act: () => Promise<Value>): Promise<Value> {
  const turn = lastTurn.then(act, act)
  lastTurn = turn
  return turn
}

async function run(library: Library, task: Task): Promise<TaskResult> {
  library.setUdevSync(0)
  library.setNameMangling(NO_NAME_MANGLING)
  const handle = library.create(TASKS[task.kind])
  // The library found no driver to talk to.
  if (handle === null) return {kind: 'failed', errno: ENODEV}
  try {
    if (!describe(library, handle, task)) return {kind: 'failed', errno: EINVAL}
    if (!(await library.run(handle))) return {kind: 'failed', errno: library.errno(handle) || ENODEV}
    return {
      kind: 'done',
      info: task.kind === 'list' ? NO_INFO : readInfo(library, handle),
      names: task.kind === 'list' ? readNames(library, handle) : [],
      targets: task.kind === 'table' || task.kind === 'status' ? readTargets(library, handle) : [],
    }
  } finally {
    library.destroy(handle)
  }
}

/** False when the library refuses a part of it. */
function describe(library: Library, handle: bigint, task: Task): boolean {
  const {device, uuid, targets = [], isReadOnly = false, isPrivate = false} = task
  const udevFlags = UDEV_DISABLE_LIBRARY_FALLBACK | (isPrivate ? UDEV_DISABLE_DM_RULES | UDEV_DISABLE_SUBSYSTEM_RULES : 0)
  return (
    (device === null || library.setName(handle, device)) &&
    (uuid === undefined || library.setUuid(handle, uuid)) &&
    (!isReadOnly || library.setReadOnly(handle)) &&
    library.setNoOpenCount(handle) &&
    // Tables have keys in them: kernel and library overwrite their copies.
    library.setSecureData(handle) &&
    // Together with the flag above: nothing is left to the library on resume either.
    library.setAddNode(handle, ADD_NODE_ON_CREATE) &&
    (task.kind !== 'remove' || library.setRetryRemove(handle)) &&
    (task.kind !== 'resume' || library.skipLockfs(handle)) &&
    (!(task.kind === 'create' || task.kind === 'resume' || task.kind === 'remove') || library.setCookie(handle, [0], udevFlags)) &&
    targets.every(({start, length, type, parameters}) => library.addTarget(handle, start, length, type, parameters))
  )
}

const INFO_BYTES = 48
const NO_INFO: DeviceInfo = {exists: false, uuid: '', number: {major: 0, minor: 0}, isReadOnly: false, hasInactiveTable: false}

/** struct dm_info: twelve fields of 32 bits. */
function readInfo(library: Library, handle: bigint): DeviceInfo {
  const bytes = Buffer.alloc(INFO_BYTES)
  if (!library.getInfo(handle, bytes)) return NO_INFO
  return {
    exists: bytes.readInt32LE(0) !== 0,
    uuid: library.getUuid(handle) ?? '',
    number: {major: bytes.readUInt32LE(24), minor: bytes.readUInt32LE(28)},
    isReadOnly: bytes.readInt32LE(32) !== 0,
    hasInactiveTable: bytes.readInt32LE(12) !== 0,
  }
}

/** struct dm_names: u64 device, 0 when there is none at all; u32 distance to the next, 0 at the last; name. */
function readNames(library: Library, handle: bigint): readonly string[] {
  const names: string[] = []
  const list = library.getNames(handle)
  if (list === null || Number(koffi.decode(list, 0, 'uint64_t')) === 0) return names
  for (let offset = 0, distance = 1; distance !== 0; offset += distance) {
    names.push(String(koffi.decode(list, offset + 12, 'char', -1)))
    distance = Number(koffi.decode(list, offset + 8, 'uint32_t'))
  }
  return names
}

function readTargets(library: Library, handle: bigint): readonly RawTarget[] {
  const targets: RawTarget[] = []
  let next: bigint | null = null
  do {
    const [start, length, type, parameters]: [[number], [number], [string | null], [string | null]] = [[0], [0], [null], [null]]
    next = library.getNextTarget(handle, next, start, length, type, parameters)
    if (type[0] !== null) targets.push({start: Number(start[0]), length: Number(length[0]), type: type[0], parameters: parameters[0] ?? ''})
  } while (next !== null)
  return targets
}

type Library = ReturnType<typeof loadLibrary>

function loadLibrary() {
  const library = koffi.load('libdevmapper.so.1.02.1')
  const runTask = library.func('int dm_task_run(void *task)')
  return {
    setUdevSync: library.func('void dm_udev_set_sync_support(int isWanted)'),
    setNameMangling: library.func('int dm_set_name_mangling_mode(int mode)'),
    create: library.func('void *dm_task_create(int kind)') as (kind: number) => bigint | null,
    destroy: library.func('void dm_task_destroy(void *task)'),
    setName: library.func('bool dm_task_set_name(void *task, const char *name)'),
    setUuid: library.func('bool dm_task_set_uuid(void *task, const char *uuid)'),
    setReadOnly: library.func('bool dm_task_set_ro(void *task)'),
    setNoOpenCount: library.func('bool dm_task_no_open_count(void *task)'),
    setSecureData: library.func('bool dm_task_secure_data(void *task)'),
    setAddNode: library.func('bool dm_task_set_add_node(void *task, int when)'),
    setRetryRemove: library.func('bool dm_task_retry_remove(void *task)'),
    skipLockfs: library.func('bool dm_task_skip_lockfs(void *task)'),
    setCookie: library.func('bool dm_task_set_cookie(void *task, _Inout_ uint32_t *cookie, uint16_t flags)'),
    addTarget: library.func('bool dm_task_add_target(void *task, uint64_t start, uint64_t length, const char *type, const char *parameters)'),
    errno: library.func('int dm_task_get_errno(void *task)') as (task: bigint) => number,
    getInfo: library.func('bool dm_task_get_info(void *task, void *info)'),
    getUuid: library.func('const char *dm_task_get_uuid(void *task)') as (task: bigint) => string | null,
    getNames: library.func('void *dm_task_get_names(void *task)') as (task: bigint) => bigint | null,
    getNextTarget: library.func(
      'void *dm_get_next_target(void *task, void *previous, _Out_ uint64_t *start, _Out_ uint64_t *length, _Out_ char **type, _Out_ char **parameters)',
    ),
    async run(task: bigint): Promise<boolean> {
      return (await callOnThread<number>(runTask, task)).value !== 0
    },
  }
}
