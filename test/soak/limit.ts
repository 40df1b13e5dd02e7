// When an experiment has had enough rounds.

export class Limit {
  readonly rounds: number
  readonly #endsAtMs: number

  /** The minutes count from now; Infinity for no end but the rounds. */
  constructor({rounds, minutes}: {readonly rounds: number, readonly minutes: number}) {
    this.rounds = rounds
    this.#endsAtMs = performance.now() + minutes * 60_000
  }

  /** @param done - how many rounds have been */
  isReached(done: number): boolean {
    return done >= this.rounds || performance.now() >= this.#endsAtMs
  }
}
