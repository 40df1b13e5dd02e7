import type {PreparedFileSystem} from '../dm/prepare.js'
import {findSwapDevices, type SwapDevice} from '../edge/swaps.js'
import type {FrozenProcesses} from '../kernel-api/freezer.js'
import type {SnapshotResult} from '../kernel-api/syscalls.js'
import type {Machine} from '../machine.js'
import type {Needed} from '../policy/match.js'
import {kernelFigures, type Figures} from './figures.js'
import type {HibernateRequest} from './hibernate.js'
import {checkLoadable} from './loadable.js'
import {welcomeBack} from './resumed.js'
import {keepNeededRunning, takeSnapshot} from './steps.js'

/** One try of a story. `figures` grow as things are measured, so that a failed try has them too. */
export abstract class Attempt<Request extends HibernateRequest> {
  protected readonly request: Request
  protected readonly machine: Machine
  figures: Figures = {}
  /** Who was kept running. */
  needed: readonly Needed[] = []
  /** What the snapshot may have something on: what is activated later is used as it comes. */
  protected swaps: readonly SwapDevice[] = []

  constructor(request: Request, machine: Machine) {
    this.request = request
    this.machine = machine
  }

  /** With everybody frozen: lets go on whom the policy names, and takes the snapshot. Gives what the kernel gave, on either side. */
  protected takeSnapshot(frozen: FrozenProcesses, fileSystems: readonly PreparedFileSystem[]): SnapshotResult {
    const {onState, onNeeded, signal} = this.request
    const {faults} = this.machine
    faults.hit('frozen')
    this.needed = keepNeededRunning(this.machine)
    onNeeded(this.needed.map(({pid}) => pid))
    this.note({freeze_ns: frozen.durationNs, frozen_tasks: frozen.taskCount, needed_processes: this.needed.length})
    faults.hit('needed-running')
    signal.throwIfAborted()
    onState('snapshot')
    const result = takeSnapshot(this.machine, frozen, fileSystems)
    this.swaps = findSwapDevices(this.machine.files)
    if (result.side === 'created') this.note(kernelFigures(result.figures))
    return result
  }

  /** Before anything is saved: throws TooLittleMemoryError when no boot could load the image again. */
  protected checkLoadable(): void {
    const pages = Number(this.figures['pages_copied'] ?? 0) + Number(this.figures['pages_in_place'] ?? 0)
    checkLoadable(this.machine.files.readText('/proc/meminfo') ?? '', pages)
  }

  /** In the resumed system. */
  protected async welcomeBack(frozen: FrozenProcesses): Promise<void> {
    this.request.onState('resuming')
    this.note(await welcomeBack(this.machine, frozen, this.figures))
  }

  protected note(figures: Figures): void {
    this.figures = {...this.figures, ...figures}
  }
}
