import {SnapshotImage, type FrozenProcesses} from '../kernel-api/freezer.js'
import type {Machine} from '../machine.js'
import {Attempt} from './attempt.js'
import type {Figures} from './figures.js'
import {goOrReturn, type HibernateOutcome, type HibernateRequest} from './hibernate.js'
import {refuseUnlessReady} from './preflight.js'
import {reportAttempt} from './report.js'
import {goOn} from './resumed.js'
import {leaveSnapshot} from './rollback.js'
import {freezeEverybody, prepareFileSystems} from './steps.js'

/**
 * Takes a snapshot, as for hibernating, and goes back to its instant at once, out of memory: resume_snapshot() with what
 * snapshot_kernel() gave. Nothing is saved and the power stays on, but every device is stopped and started as in a resume: this
 * tells in seconds whether a machine's drivers can do it. Throws a RefusedError when nothing was changed.
 *
 * Base devices are not written to, so a machine that does not come back is, after a reset, as after a power cut.
 */
export async function selfTest(request: HibernateRequest, machine: Machine): Promise<HibernateOutcome> {
  return machine.exclusive.run('a self-test is already under way', async () => {
    await refuseUnlessReady(request, machine)
    const attempt = new SelfTestAttempt(request, machine)
    const outcome = await goOrReturn(attempt, {request, machine, what: 'go to a snapshot and back'})
    reportAttempt(machine.log, outcome, attempt.needed)
    return outcome
  })
}

class SelfTestAttempt extends Attempt<HibernateRequest> {
  async prepareAndGo(): Promise<Figures> {
    const {onState, signal} = this.request
    onState('preparing')
    const startedMs = performance.now()
    const fileSystems = await prepareFileSystems(this.machine)
    this.machine.faults.hit('tables-loaded')
    signal.throwIfAborted()
    let frozen: FrozenProcesses | null = null
    try {
      this.note({prepare_ms: Math.round(performance.now() - startedMs)})
      onState('freezing')
      frozen = freezeEverybody(this.machine)
      const leftAt = Date.now()
      const result = this.takeSnapshot(frozen, fileSystems)
      if (result.side === 'created') await this.#goBack(result.imageFd)
      onState('resuming')
      // By the wall clock: the others stand still from the snapshot to the resume.
      this.note({round_trip_ms: Math.max(0, Date.now() - leftAt)})
      await goOn(this.machine, frozen)
    } catch (error) {
      onState('rolling-back')
      await leaveSnapshot(this.machine)
      throw error
    } finally {
      frozen?.thaw()
    }
    return this.figures
  }

  async #goBack(imageFd: number): Promise<never> {
    const {syscalls, faults} = this.machine
    await using image = new SnapshotImage(syscalls, imageFd)
    faults.hit('snapshot-taken')
    this.request.signal.throwIfAborted()
    return syscalls.resumeSnapshot(image.fd)
  }
}
