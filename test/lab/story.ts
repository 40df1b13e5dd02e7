// Tells a person what happens, and keeps count of what held.

export class Story {
  #steps = 0
  #held = 0
  readonly #failed: string[] = []

  step(text: string): void {
    this.#steps++
    process.stdout.write(`\n${this.#steps}. ${text}\n`)
  }

  tell(text: string): void {
    process.stdout.write(`   ${text}\n`)
  }

  check(title: string, isHeld: boolean, detail: string): void {
    process.stdout.write(`   ${isHeld ? '✔' : '✘'} ${title}: ${detail}\n`)
    if (isHeld)
      this.#held++
    else
      this.#failed.push(title)
  }

  /** The last word; gives the exit status. */
  end(): number {
    process.stdout.write(`\n${this.#held} checks held, ${this.#failed.length} failed\n`)
    for (const title of this.#failed)
      process.stdout.write(`failed: ${title}\n`)
    return this.#failed.length === 0 ? 0 : 1
  }
}
