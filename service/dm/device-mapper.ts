import type {DeviceNumber} from '../edge/device-number.js'
import {DeviceMapperError, errnoName} from '../errors.js'
import type {RawTarget, RunTask, Task, TaskResult} from './libdevmapper.js'
import {parseTable, type Table} from './table.js'
import {printParameters, typeOf} from './targets.js'

export interface MappedDevice {
  readonly name: string
  readonly uuid: string
  readonly number: DeviceNumber
  readonly isReadOnly: boolean
  readonly hasInactiveTable: boolean
}

/** Device-mapper, as much of it as is needed. Throws DeviceMapperError. */
export interface DeviceMapper {
  list(): Promise<readonly MappedDevice[]>
  /** The live table. */
  table(name: string): Promise<Table>
  /** What the first target of the live table says of itself. */
  status(name: string): Promise<string>
  create(request: CreateRequest): Promise<DeviceNumber>
  /** Loads the inactive table, writable. */
  load(name: string, table: Table): Promise<void>
  /** Makes the inactive table, if there is one, the live one. */
  resume(name: string): Promise<void>
  /** Drops the inactive table. */
  clear(name: string): Promise<void>
  remove(name: string): Promise<void>
}

export interface CreateRequest {
  readonly name: string
  readonly uuid: string
  readonly table: Table
  readonly isReadOnly: boolean
}

export function openDeviceMapper(run: RunTask): DeviceMapper {
  const ask = async (task: Task) => answerOf(task, await run(task))
  return {
    async list() {
      const {names} = await ask({kind: 'list', device: null})
      const devices = await Promise.all(names.map(async (name) => ({name, ...(await ask({kind: 'info', device: name})).info})))
      // One may have gone since the names were listed.
      return devices.filter(({exists}) => exists).map(({exists: _, ...device}) => device)
    },
    async table(name) {
      const {targets} = await ask({kind: 'table', device: name})
      return parseTable(targets.map(printRawTarget).join('\n'), name)
    },
    async status(name) {
      const {targets, info} = await ask({kind: 'status', device: name})
      if (!info.exists) throw new DeviceMapperError(ATTEMPTS.status, name, 'ENXIO')
      return targets[0]?.parameters.trim() ?? ''
    },
    async create({name, uuid, table, isReadOnly}) {
      const {info} = await ask({kind: 'create', device: name, uuid, isPrivate: true})
      try {
        await ask({kind: 'load', device: name, targets: rawTargets(table), isReadOnly})
        await ask({kind: 'resume', device: name, isPrivate: true})
      } catch (error) {
        // Should this fail as well, what is left over is found when the daemon starts.
        await run({kind: 'remove', device: name, isPrivate: true})
        throw error
      }
      return info.number
    },
    load: async (name, table) => void (await ask({kind: 'load', device: name, targets: rawTargets(table)})),
    resume: async (name) => void (await ask({kind: 'resume', device: name})),
    clear: async (name) => void (await ask({kind: 'clear', device: name})),
    remove: async (name) => void (await ask({kind: 'remove', device: name, isPrivate: true})),
  }
}

const ATTEMPTS: Readonly<Record<Task['kind'], string>> = {
  list: 'list',
  info: 'ask about',
  table: 'read the table of',
  status: 'ask for the status of',
  create: 'create',
  load: 'load a table for',
  resume: 'resume',
  clear: 'clear the inactive table of',
  remove: 'remove',
}

function answerOf({kind, device}: Task, result: TaskResult): Extract<TaskResult, {kind: 'done'}> {
  if (result.kind === 'done') return result
  throw new DeviceMapperError(ATTEMPTS[kind], device ?? 'all devices', errnoName(result.errno))
}

function printRawTarget({start, length, type, parameters}: RawTarget): string {
  return `${start} ${length} ${type} ${parameters}`
}

function rawTargets(table: Table): readonly RawTarget[] {
  return table.map((target) => ({
    start: target.start,
    length: target.length,
    type: typeOf(target),
    parameters: printParameters(target),
  }))
}
