import type {DeviceNumber} from '../../../service/edge/device-number.js'
import {DeviceMapperError} from '../../../service/errors.js'
import type {CreateRequest, DeviceMapper, MappedDevice} from '../../../service/dm/device-mapper.js'
import type {Table} from '../../../service/dm/table.js'

interface FakeDevice {
  readonly name: string
  readonly uuid: string
  readonly number: DeviceNumber
  isReadOnly: boolean
  live: Table
  inactive: Table | null
}

const MAJOR = 254

/** The kernel's device-mapper, in memory: tables, and what may not be done to them. */
export class FakeDeviceMapper implements DeviceMapper {
  readonly devices: FakeDevice[] = []
  /** Every change, in order. */
  readonly changes: string[] = []
  /** Answers of `status`, one after the other; the last one stays. */
  statuses: string[] = ['16/2048 16']
  /** Makes the call of that name on that device fail. */
  failing: string | null = null
  #nextMinor = 0

  add(name: string, uuid: string, table: Table): DeviceNumber {
    const number = {major: MAJOR, minor: this.#nextMinor++}
    this.devices.push({name, uuid, number, isReadOnly: false, live: table, inactive: null})
    return number
  }

  /** What snapshot_kernel() does to each named device, in the running system. */
  swap(number: DeviceNumber): void {
    const device = this.#byNumber(number)
    if (device.inactive === null) throw new Error('no inactive table')
    device.live = device.inactive
    device.inactive = null
  }

  /** What the kernel does to it in the resumed system. */
  drop(number: DeviceNumber): void {
    this.#byNumber(number).inactive = null
  }

  async list(): Promise<readonly MappedDevice[]> {
    return this.devices.map(({name, uuid, number, isReadOnly, inactive}) => ({
      name,
      uuid,
      number,
      isReadOnly,
      hasInactiveTable: inactive !== null,
    }))
  }

  async table(name: string): Promise<Table> {
    return this.#byName(name).live
  }

  async status(name: string): Promise<string> {
    this.#byName(name)
    const [status = ''] = this.statuses
    if (this.statuses.length > 1) this.statuses.shift()
    return status
  }

  async create({name, uuid, table, isReadOnly}: CreateRequest): Promise<DeviceNumber> {
    this.#change('create', name)
    const number = this.add(name, uuid, table)
    this.#byName(name).isReadOnly = isReadOnly
    return number
  }

  async load(name: string, table: Table): Promise<void> {
    this.#change('load', name)
    this.#byName(name).inactive = table
  }

  async resume(name: string): Promise<void> {
    this.#change('resume', name)
    const device = this.#byName(name)
    if (device.inactive === null) return
    const merge = device.inactive.find(({kind}) => kind === 'snapshot-merge')
    if (merge?.kind === 'snapshot-merge' && this.#byNumber(merge.origin).isReadOnly) {
      throw new DeviceMapperError('resume', name, 'the origin is read-only')
    }
    device.live = device.inactive
    device.inactive = null
    device.isReadOnly = false
  }

  async clear(name: string): Promise<void> {
    this.#change('clear', name)
    this.#byName(name).inactive = null
  }

  async remove(name: string): Promise<void> {
    this.#change('remove', name)
    const device = this.#byName(name)
    const users = this.devices.filter(({live, inactive}) => [...live, ...(inactive ?? [])].some((target) => uses(target, device.number)))
    if (users.length > 0) throw new DeviceMapperError('remove', name, 'Device or resource busy')
    this.devices.splice(this.devices.indexOf(device), 1)
  }

  #change(call: string, name: string): void {
    if (this.failing === `${call} ${name}`) throw new DeviceMapperError(call, name, 'Input/output error')
    this.changes.push(`${call} ${name}`)
  }

  #byName(name: string): FakeDevice {
    const device = this.devices.find((each) => each.name === name)
    if (device === undefined) throw new DeviceMapperError('find', name, 'No such device or address')
    return device
  }

  #byNumber(number: DeviceNumber): FakeDevice {
    const device = this.devices.find((each) => each.number.minor === number.minor && number.major === MAJOR)
    if (device === undefined) throw new DeviceMapperError('find', String(number.minor), 'No such device or address')
    return device
  }
}

function uses(target: Table[number], number: DeviceNumber): boolean {
  const used = target.kind === 'snapshot' || target.kind === 'snapshot-merge' ? [target.origin, target.cow] : []
  return used.some(({major, minor}) => major === number.major && minor === number.minor)
}
