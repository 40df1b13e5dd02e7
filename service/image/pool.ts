/** A fixed number of things to work with; whoever wants one more waits until one is given back. */
export class Pool<Item> {
  readonly #free: Item[]
  readonly #waiting: ((item: Item) => void)[] = []

  constructor(items: readonly Item[]) {
    this.#free = [...items]
  }

  take(): Promise<Item> {
    const item = this.#free.pop()
    if (item !== undefined) return Promise.resolve(item)
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  give(item: Item): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free.push(item)
    else next(item)
  }
}
