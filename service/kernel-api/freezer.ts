import type {FreezeTicket, Syscalls} from './syscalls.js'

/**
 * Everything is frozen for as long as this is not disposed. Disposing closes the
 * freezer FD, and so does the death of the service: the kernel thaws on last close.
 */
export class FrozenProcesses implements AsyncDisposable {
  readonly #syscalls: Syscalls
  readonly #ticket: FreezeTicket
  #isThawed = false

  static freeze(syscalls: Syscalls, request: {readonly timeoutMs: number}): FrozenProcesses {
    return new FrozenProcesses(syscalls, syscalls.freezeProcesses(request))
  }

  private constructor(syscalls: Syscalls, ticket: FreezeTicket) {
    this.#syscalls = syscalls
    this.#ticket = ticket
  }

  get fd(): number {
    return this.#ticket.fd
  }

  get taskCount(): number {
    return this.#ticket.taskCount
  }

  get durationNs(): bigint {
    return this.#ticket.durationNs
  }

  thaw(): void {
    if (this.#isThawed) return
    this.#isThawed = true
    this.#syscalls.close(this.#ticket.fd)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.thaw()
  }
}

/** The snapshot, readable through `fd` until this is disposed; then its memory is free again. */
export class SnapshotImage implements AsyncDisposable {
  readonly #syscalls: Syscalls
  #isReleased = false

  constructor(syscalls: Syscalls, readonly fd: number) {
    this.#syscalls = syscalls
  }

  release(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    this.#syscalls.close(this.fd)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release()
  }
}
