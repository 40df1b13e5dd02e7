import type {DeviceMapper} from '../dm/device-mapper.js'
import type {PreparedFileSystem} from '../dm/prepare.js'
import {parseSliceStatus} from '../dm/slice.js'
import {CowFullError, DeviceMapperError} from '../errors.js'

/** Says of one device in time that its slice will not suffice, from how full it is and how fast it fills. */
export class SliceJudge {
  readonly #name: string
  readonly #mountPoint: string
  #looks: readonly {readonly atMs: number; readonly used: number}[] = []
  #totalBytes = 0

  constructor({mounted}: PreparedFileSystem) {
    this.#name = mounted.mapping.kind === 'mapped' ? mounted.mapping.device.name : mounted.mapping.device
    this.#mountPoint = mounted.mountPoint
  }

  /** Throws CowFullError when it has to end. */
  async look(dm: DeviceMapper): Promise<void> {
    const slice = parseSliceStatus(await dm.status(this.#name))
    switch (slice.kind) {
      case 'usable':
        this.#judge(slice.used, slice.total)
        return
      case 'overflowed':
        throw new CowFullError(this.#mountPoint, 0, this.#totalBytes)
      case 'broken':
        throw new DeviceMapperError('go on with', this.#name, `its state is '${slice.status}'`)
      default:
        slice satisfies never
    }
  }

  #judge(used: number, total: number): void {
    this.#totalBytes = total
    const atMs = performance.now()
    this.#looks = [...this.#looks.filter((look) => atMs - look.atMs <= PACE_MS), {atMs, used}]
    const grownBytes = used - (this.#looks[0]?.used ?? used)
    const neededBytes = Math.max(total * RESERVED_PART, (grownBytes / PACE_MS) * REACTION_MS)
    if (total - used < neededBytes) throw new CowFullError(this.#mountPoint, total - used, total)
  }
}

/** It stays for what was already on its way, and for the store's own bookkeeping. */
const RESERVED_PART = 1 / 4
/** From too little being found until merges are under way: the writes of the image that are on their way, two flushes, some tables. */
const REACTION_MS = 1000
/** The pace is judged by what was written in this time, so that a single burst counts as one. */
const PACE_MS = 500
