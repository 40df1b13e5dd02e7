/**
 * What has to be undone, undone in reverse order when disposed, all of it even when some of it
 * fails; the first failure is then thrown. `keep` forgets everything: what was done stays.
 */
export class UndoStack implements AsyncDisposable {
  #undos: (() => Promise<void>)[] = []

  /** Takes over `resource` and gives it back for use. */
  use<Resource extends AsyncDisposable>(resource: Resource): Resource {
    this.#undos.push(async () => resource[Symbol.asyncDispose]())
    return resource
  }

  keep(): void {
    this.#undos = []
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const undos = this.#undos.reverse()
    this.#undos = []
    let failure: {readonly error: unknown} | null = null
    for (const undo of undos) {
      try {
        await undo()
      } catch (error) {
        failure ??= {error}
      }
    }
    if (failure !== null) throw failure.error
  }
}
