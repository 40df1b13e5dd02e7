// Machines of tests and demo: gone when the scope that took them ends, or the process does.
import {Machine} from './machine.js'
import {cut} from './verbs/down.js'
import {up, UP_DEFAULTS, type UpOptions} from './verbs/up.js'

/** A machine that is up; disposing of it pulls the plug and removes its disks. */
export class ScratchMachine extends Machine implements AsyncDisposable {
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.exists)
      return
    await cut(this)
    this.wipe()
  }
}

export async function scratchMachine(purpose: string, options: Partial<UpOptions> = {}): Promise<ScratchMachine> {
  const machine = new ScratchMachine(`${purpose}-${process.pid}`)
  try {
    await up(machine, {...UP_DEFAULTS, ...options, diesWithStarter: true})
    return machine
  } catch (thrown) {
    await machine[Symbol.asyncDispose]()
    throw thrown
  }
}
