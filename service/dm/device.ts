import type {DeviceNumber} from '../edge/device-number.js'
import type {CreateRequest, DeviceMapper} from './device-mapper.js'
import type {Table} from './table.js'

/** A device of ours; disposing it removes it. */
export class CreatedDevice implements AsyncDisposable {
  readonly #dm: DeviceMapper

  static async create(dm: DeviceMapper, request: CreateRequest): Promise<CreatedDevice> {
    return new CreatedDevice(dm, request.name, await dm.create(request))
  }

  private constructor(
    dm: DeviceMapper,
    readonly name: string,
    readonly number: DeviceNumber,
  ) {
    this.#dm = dm
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dm.remove(this.name)
  }
}

/** An inactive table of a device that is not ours; disposing it drops it, be it still there or not. */
export class LoadedTable implements AsyncDisposable {
  readonly #dm: DeviceMapper

  static async load(dm: DeviceMapper, name: string, table: Table): Promise<LoadedTable> {
    await dm.load(name, table)
    return new LoadedTable(dm, name)
  }

  private constructor(
    dm: DeviceMapper,
    readonly name: string,
  ) {
    this.#dm = dm
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dm.clear(this.name)
  }
}
