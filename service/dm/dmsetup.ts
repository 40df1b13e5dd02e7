import {parseDeviceNumber, type DeviceNumber} from '../edge/device-number.js'
import type {Exec, ExecOptions} from '../edge/exec.js'
import type {Files} from '../edge/files.js'
import {CommandError, DeviceMapperError} from '../errors.js'
import {parseTable, printTable, type Table} from './table.js'

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

/** dmsetup waits for udev, and udev may be frozen; the device's own node in /dev is the kernel's work. */
const WITHOUT_UDEV = ['--noudevsync', '--noudevrules']
const COLUMNS = ['-c', '--noheadings', '--separator', '|', '-o', 'name,uuid,major,minor,attr']

export function openDeviceMapper(exec: Exec, files: Files): DeviceMapper {
  const dmsetup = async (attempt: string, device: string, parameters: readonly string[], options?: ExecOptions) => {
    try {
      return (await exec('dmsetup', parameters, options)).output
    } catch (cause) {
      throw new DeviceMapperError(attempt, device, reasonOf(cause), {cause})
    }
  }
  const list = async (): Promise<readonly MappedDevice[]> =>
    parseColumns(await dmsetup('list', 'all devices', ['info', ...COLUMNS]))
  return {
    list,
    // Keys go through pipes, never into an argument that others can see in /proc.
    table: async (name) =>
      parseTable(await dmsetup('read the table of', name, ['table', '--showkeys', '--', name]), name),
    status: async (name) => parseStatus(await dmsetup('ask for the status of', name, ['status', '--', name])),
    async create({name, uuid, table, isReadOnly}) {
      const mode = isReadOnly ? ['--readonly'] : []
      const input = printTable(table)
      await dmsetup('create', name, ['create', ...WITHOUT_UDEV, ...mode, '--uuid', uuid, '--', name], {input})
      const number = findNumber(name, files)
      if (number === null) throw new DeviceMapperError('create', name, 'it is not there afterwards')
      return number
    },
    load: async (name, table) => {
      await dmsetup('load a table for', name, ['load', ...WITHOUT_UDEV, '--', name], {input: printTable(table)})
    },
    resume: async (name) => {
      await dmsetup('resume', name, ['resume', '--noudevsync', '--', name])
    },
    clear: async (name) => {
      await dmsetup('clear the inactive table of', name, ['clear', '--', name])
    },
    remove: async (name) => {
      await dmsetup('remove', name, ['remove', ...WITHOUT_UDEV, '--retry', '--', name])
    },
  }
}

/** From sysfs, since starting a program takes a hundred times as long: Documentation/ABI/testing/sysfs-block-dm. */
function findNumber(name: string, files: Files): DeviceNumber | null {
  const device = files.list('/sys/block').find((each) => files.readText(`/sys/block/${each}/dm/name`)?.trim() === name)
  return device === undefined ? null : parseDeviceNumber((files.readText(`/sys/block/${device}/dev`) ?? '').trim())
}

function parseColumns(output: string): readonly MappedDevice[] {
  return output.split('\n').flatMap((line) => {
    const [name, uuid, major, minor, attributes] = line.trim().split('|')
    if (name === undefined || uuid === undefined || attributes === undefined) return []
    return {
      name,
      uuid,
      number: {major: Number(major), minor: Number(minor)},
      isReadOnly: attributes.includes('r'),
      hasInactiveTable: attributes.includes('I'),
    }
  })
}

/** "0 1000 snapshot 16/2048 16" → "16/2048 16" */
function parseStatus(output: string): string {
  return output.trim().split('\n')[0]?.split(' ').slice(3).join(' ') ?? ''
}

/** dmsetup says what the kernel answered in its first line, and then only that it failed. */
function reasonOf(cause: unknown): string {
  if (!(cause instanceof CommandError)) return String(cause)
  const lines = cause.output.trim().split('\n')
  const telling = lines.find((line) => line !== '' && line !== 'Command failed.')
  return telling?.replace(/^device-mapper: /, '').replace(/\.$/, '') ?? `dmsetup ended with ${cause.exitStatus}`
}
