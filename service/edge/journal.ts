import {constants} from 'node:os'
import {openDatagrams, type SendDatagram} from './datagram.js'

export type LogFields = Readonly<Record<string, string>>

/**
 * Where the daemon's sentences go. A call never blocks, whatever else is frozen;
 * what cannot be delivered yet is kept, and tried again by `flush`, after the thaw, and every now and then.
 */
export interface Log {
  info(text: string, fields?: LogFields): void
  warning(text: string, fields?: LogFields): void
  error(text: string, fields?: LogFields): void
  flush(): void
}

export interface JournalOptions {
  /** SYSLOG_IDENTIFIER: the name in front of each line. */
  readonly identifier: string
  readonly socketPath?: string
  readonly send?: SendDatagram
  /** Gets the lines where no journal is running. */
  readonly fallback?: (line: string) => void
}

/** Lines kept while journald cannot take them; when there are more, the oldest go. */
const RING_LINES = 1000
const RETRY_MS = 200

/** journald's own protocol (systemd's JOURNAL_NATIVE_PROTOCOL page) without libsystemd, whose call blocks. */
export function openJournal(options: JournalOptions): Log {
  return new Journal(options)
}

/** Encodes one entry; a value with a newline in it is sent with its length. */
export function encodeEntry(fields: LogFields): Buffer {
  return Buffer.concat(Object.entries(fields).map(([name, value]) => {
    if (!/^[A-Z][A-Z0-9_]{0,63}$/.test(name)) throw new TypeError(`Cannot log field '${name}': not a journal field name`)
    if (!value.includes('\n')) return Buffer.from(`${name}=${value}\n`)
    const bytes = Buffer.from(value)
    const size = Buffer.alloc(8)
    size.writeBigUInt64LE(BigInt(bytes.length))
    return Buffer.concat([Buffer.from(`${name}\n`), size, bytes, Buffer.from('\n')])
  }))
}

interface Entry {
  readonly text: string
  readonly bytes: Buffer
}

// syslog(3)
const PRIORITIES = {error: '3', warning: '4', info: '6'} as const

class Journal implements Log {
  readonly #identifier: string
  readonly #socketPath: string
  readonly #send: SendDatagram
  readonly #fallback: (line: string) => void
  readonly #ring: Entry[] = []
  #lost = 0
  #retry: NodeJS.Timeout | null = null

  constructor(options: JournalOptions) {
    this.#identifier = options.identifier
    this.#socketPath = options.socketPath ?? '/run/systemd/journal/socket'
    this.#send = options.send ?? openDatagrams()
    this.#fallback = options.fallback ?? ((line) => process.stderr.write(`${line}\n`))
  }

  info(text: string, fields?: LogFields): void {
    this.#write('info', text, fields)
  }

  warning(text: string, fields?: LogFields): void {
    this.#write('warning', text, fields)
  }

  error(text: string, fields?: LogFields): void {
    this.#write('error', text, fields)
  }

  flush(): void {
    if (this.#deliverAll() || this.#retry !== null) return
    this.#retry = setTimeout(() => {
      this.#retry = null
      this.flush()
    }, RETRY_MS)
    this.#retry.unref()
  }

  #deliverAll(): boolean {
    while (this.#lost > 0) {
      if (!this.#deliver(this.#entry('warning', `${this.#lost} log lines were lost while nobody took them`))) return false
      this.#lost = 0
    }
    for (let entry = this.#ring[0]; entry !== undefined; entry = this.#ring[0]) {
      if (!this.#deliver(entry)) return false
      this.#ring.shift()
    }
    return true
  }

  #write(priority: keyof typeof PRIORITIES, text: string, fields?: LogFields): void {
    this.#ring.push(this.#entry(priority, text, fields))
    if (this.#ring.length > RING_LINES) {
      this.#ring.shift()
      this.#lost += 1
    }
    this.flush()
  }

  #entry(priority: keyof typeof PRIORITIES, text: string, fields: LogFields = {}): Entry {
    const all = {
      MESSAGE: text,
      PRIORITY: PRIORITIES[priority],
      SYSLOG_IDENTIFIER: this.#identifier,
      SYSLOG_PID: String(process.pid),
      ...fields,
    }
    return {text, bytes: encodeEntry(all)}
  }

  /** False: try again later. Anything but a full socket means that no journal is running. */
  #deliver(entry: Entry): boolean {
    const errno = this.#send(this.#socketPath, entry.bytes)
    if (errno === constants.errno.EAGAIN || errno === constants.errno.ENOBUFS) return false
    if (errno !== 0) this.#fallback(`${this.#identifier}: ${entry.text}`)
    return true
  }
}
