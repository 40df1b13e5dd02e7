import {closeSync, openSync} from 'node:fs'
import {constants} from 'node:os'
import {FreezeError, SnapshotError, SystemCallError} from '../../../service/errors.js'
import type {SnapshotFigures} from '../../../service/kernel-api/abi.js'
import type {FreezeTicket, SnapshotRequest, SnapshotResult, Syscalls} from '../../../service/kernel-api/syscalls.js'
import type {FakeDeviceMapper} from './device-mapper.js'

const FREEZER_FD = 1000
const {EBUSY} = constants.errno

export const FIGURES: SnapshotFigures = {
  imageBytes: 0n,
  pagesCopied: 22_000n,
  pagesInPlace: 198_065n,
  pagesZero: 5n,
  pauseNs: 148_000_000n,
  suspendDmNs: 7_000_000n,
  protectNs: 46_000_000n,
  copyNs: 60_000_000n,
}

export interface FakeKernelOptions {
  readonly dm: FakeDeviceMapper
  readonly side: 'created' | 'resumed'
  /** The stream the image FD gives. */
  readonly streamFile: string
  readonly streamBytes: number
  /** What is to be looked at in the instant the power goes. */
  readonly onPowerOff: () => void
}

/** The patched kernel, in memory. */
export class FakeKernel implements Syscalls {
  readonly #options: FakeKernelOptions
  #imageFd: number | null = null
  isFrozen = false
  isImageOpen = false
  poweredOff = 0
  /** Who ran beside the service when the power went, each time; null is everybody. */
  readonly runningAtPowerOff: (readonly number[] | null)[] = []
  /** Why, each time. */
  readonly restarts: string[] = []
  /** How often it went back to a snapshot. */
  returns = 0
  pageCacheDrops = 0
  /** Whether everybody was still frozen, each time. */
  readonly reseeds: boolean[] = []
  /** The needed processes that run while the others are frozen. */
  readonly unfrozen = new Set<number>()
  readonly snapshots: SnapshotRequest[] = []
  /** Thrown by the call of that name, once it is set. */
  failing: {readonly call: keyof Syscalls; readonly error: Error} | null = null
  /** Processes that are gone when a signal comes. */
  gone: readonly number[] = []

  constructor(options: FakeKernelOptions) {
    this.#options = options
  }

  freezeProcesses(): FreezeTicket {
    this.#fail('freezeProcesses')
    if (this.isFrozen) throw new FreezeError(EBUSY, null)
    this.isFrozen = true
    this.unfrozen.clear()
    return {fd: FREEZER_FD, taskCount: 120, durationNs: 3_000_000n}
  }

  queryVersion(): number {
    this.#fail('queryVersion')
    return 1
  }

  kill(pid: number, signal: number): void {
    this.#fail('kill')
    if (this.gone.includes(pid)) throw new SystemCallError('send a signal', 3)
    if (signal === 66) this.unfrozen.add(pid)
    if (signal === 65) this.unfrozen.delete(pid)
  }

  snapshotKernel(request: SnapshotRequest): SnapshotResult {
    this.#fail('snapshotKernel')
    if (this.isImageOpen) throw new SnapshotError(EBUSY)
    this.snapshots.push(request)
    const {dm, side, streamFile, streamBytes} = this.#options
    const figures = {...FIGURES, imageBytes: BigInt(streamBytes)}
    for (const device of request.devices) side === 'created' ? dm.swap(device) : dm.drop(device)
    if (side === 'resumed') return {side}
    this.#imageFd = openSync(streamFile, 'r')
    this.isImageOpen = true
    return {side, imageFd: this.#imageFd, figures}
  }

  /** Tables and all are as at the snapshot, but for what is thrown: the test goes on where the call was made. */
  resumeSnapshot(): never {
    this.#fail('resumeSnapshot')
    this.returns++
    throw new Error('the resumed system goes on elsewhere')
  }

  dropPageCache(): void {
    this.#fail('dropPageCache')
    this.pageCacheDrops++
  }

  reseedRandom(): void {
    this.#fail('reseedRandom')
    this.reseeds.push(this.isFrozen)
  }

  close(fd: number): void {
    if (fd === FREEZER_FD) this.isFrozen = false
    if (fd !== this.#imageFd) return
    closeSync(fd)
    this.isImageOpen = false
  }

  /** Does return, by throwing, since the test goes on: what follows happens to nobody. */
  powerOff(): never {
    this.#fail('powerOff')
    this.poweredOff++
    this.runningAtPowerOff.push(this.isFrozen ? [...this.unfrozen] : null)
    this.#options.onPowerOff()
    throw new Error('the power is off')
  }

  /** As `powerOff`. */
  restart(reason: string): never {
    this.#fail('restart')
    this.restarts.push(reason)
    throw new Error('the machine restarts')
  }

  #fail(call: keyof Syscalls): void {
    if (this.failing?.call === call) throw this.failing.error
  }
}
