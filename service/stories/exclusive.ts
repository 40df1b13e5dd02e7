import {BusyError} from '../errors.js'

/** One story at a time: two would undo each other's work. */
export class Exclusive {
  #activity: string | null = null

  /** Throws BusyError, naming it, while another story is told. `activity` is a clause: "a roll-back is under way". */
  async run<Outcome>(activity: string, story: () => Promise<Outcome>): Promise<Outcome> {
    if (this.#activity !== null) throw new BusyError(this.#activity)
    this.#activity = activity
    try {
      return await story()
    } finally {
      this.#activity = null
    }
  }
}
