import {BusLostError, FailedError, TimedOutError} from '../errors.js'
import {fromBusError} from './errors.js'
import {DBUS_NAME, DBUS_PATH} from './names.js'
import {connectWire, ERROR, Message, METHOD_CALL, METHOD_RETURN, NO_REPLY_EXPECTED, SIGNAL, type Wire} from './wire.js'

/** A message of another process, as far as we look at it. */
export interface Incoming {
  readonly serial: number
  readonly sender: string
  readonly path: string
  readonly interface: string
  readonly member: string
  readonly signature: string
  readonly body: readonly unknown[]
  readonly flags: number
}

export interface Call {
  readonly destination: string
  readonly path: string
  readonly interface: string
  readonly member: string
  readonly signature?: string
  readonly body?: readonly unknown[]
  readonly flags?: number
  /** Null: as long as it takes, or until the bus is lost. */
  readonly timeoutMs: number | null
}

export interface Outgoing {
  readonly path: string
  readonly interface: string
  readonly member: string
  readonly signature: string
  readonly body: readonly unknown[]
}

const TIMEOUT_MS = 25_000

export function systemBusAddress(): string {
  return process.env['DBUS_SYSTEM_BUS_ADDRESS'] ?? 'unix:path=/run/dbus/system_bus_socket'
}

/** Someone who waits for a reply. */
interface Waiting {
  readonly resolve: (body: readonly unknown[]) => void
  readonly reject: (error: Error) => void
}

/**
 * Messages to and from a bus.
 * - Whoever takes `onCall` answers every call; without it each is answered that there is no such object.
 * - Calls end: with the reply, after their time-out, or when the bus is lost.
 * - Between `pause` and `resume` nothing is written to the socket: what would be is held.
 */
export class BusConnection {
  readonly #wire: Wire
  readonly #waiting = new Map<number, Waiting>()
  readonly #signalHandlers = new Set<(signal: Incoming) => void>()
  #callHandler: (call: Incoming) => void = (call) => {
    this.replyError(call, 'org.freedesktop.DBus.Error.UnknownObject', `There is no object '${call.path}'`)
  }
  #lastSerial = 0
  #held: Message[] | null = null
  #isLost = false
  #daemonPid: number | null = null

  /** Resolves when the connection is gone, whoever closed it. */
  readonly lost: Promise<void>

  private constructor(wire: Wire) {
    this.#wire = wire
    wire.on('message', (message: Message) => this.#take(message))
    // A socket that failed is closed next, and a message that cannot be read is for nobody.
    wire.on('error', () => undefined)
    this.lost = new Promise((resolve) => {
      wire.stream.once('close', () => {
        this.#isLost = true
        for (const {reject} of this.#waiting.values()) reject(new BusLostError())
        this.#waiting.clear()
        resolve()
      })
    })
  }

  static async connect(address: string): Promise<BusConnection> {
    const connection = new BusConnection(connectWire(address))
    await connection.callBus('Hello', '', [])
    const [pid] = await connection.callBus('GetConnectionUnixProcessID', 's', [DBUS_NAME])
    connection.#daemonPid = typeof pid === 'number' ? pid : null
    return connection
  }

  /** The process that is the bus; null where it does not say. */
  get daemonPid(): number | null {
    return this.#daemonPid
  }

  /** Bytes written to the socket so far. */
  get bytesWritten(): number {
    return this.#wire.stream.bytesWritten
  }

  /** Sends a method call and gives the body of its reply; throws what `fromBusError` makes of an error. */
  async call({timeoutMs, body, ...header}: Call): Promise<readonly unknown[]> {
    if (this.#isLost) throw new BusLostError()
    if (this.#held !== null) throw new FailedError(`Cannot call '${header.member}': the bus is paused`)
    const serial = this.#nextSerial()
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise((resolve, reject) => {
        this.#waiting.set(serial, {resolve, reject})
        const attempt = `call '${header.interface}.${header.member}'`
        if (timeoutMs !== null) timer = setTimeout(() => reject(new TimedOutError(attempt, timeoutMs)), timeoutMs)
        this.#wire.message(new Message({type: METHOD_CALL, serial, ...header, body: [...(body ?? [])]}))
      })
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(serial)
    }
  }

  /** A method of the bus itself. */
  async callBus(member: string, signature: string, body: readonly unknown[]): Promise<readonly unknown[]> {
    return await this.call({
      destination: DBUS_NAME, path: DBUS_PATH, interface: DBUS_NAME, member, signature, body, timeoutMs: TIMEOUT_MS,
    })
  }

  /** The handler gets every method call addressed to this connection and has to answer it; it must not throw. */
  onCall(handler: (call: Incoming) => void): void {
    this.#callHandler = handler
  }

  onSignal(handler: (signal: Incoming) => void): void {
    this.#signalHandlers.add(handler)
  }

  reply(call: Incoming, signature: string, body: readonly unknown[]): void {
    if ((call.flags & NO_REPLY_EXPECTED) !== 0) return
    const message = {type: METHOD_RETURN, replySerial: call.serial, destination: call.sender, signature, body: [...body]}
    this.#send(new Message({serial: this.#nextSerial(), ...message}))
  }

  replyError(call: Incoming, errorName: string, text: string): void {
    if ((call.flags & NO_REPLY_EXPECTED) !== 0) return
    const message = {type: ERROR, replySerial: call.serial, destination: call.sender, errorName, signature: 's', body: [text.replaceAll('\0', '?')]}
    this.#send(new Message({serial: this.#nextSerial(), ...message}))
  }

  emit(signal: Outgoing): void {
    this.#send(new Message({type: SIGNAL, serial: this.#nextSerial(), ...signal, body: [...signal.body]}))
  }

  async addMatch(rule: string): Promise<void> {
    await this.callBus('AddMatch', 's', [rule])
  }

  /** Throws when somebody else has the name. */
  async requestName(name: string): Promise<void> {
    const doNotQueue = 0x4
    const [answer] = await this.callBus('RequestName', 'su', [name, doNotQueue])
    const primaryOwner = 1
    if (answer !== primaryOwner) throw new FailedError(`Cannot take the bus name '${name}': another process has it`)
  }

  get isPaused(): boolean {
    return this.#held !== null
  }

  pause(): void {
    this.#held ??= []
  }

  resume(): void {
    const held = this.#held ?? []
    this.#held = null
    for (const message of held) this.#send(message)
  }

  /** Sends what is still to be sent and ends the connection. */
  async close(): Promise<void> {
    // Replies of this turn are still on their way here.
    await new Promise((resolve) => setImmediate(resolve))
    if (this.#isLost) return
    this.#wire.stream.end()
    await this.lost
  }

  #nextSerial(): number {
    this.#lastSerial += 1
    return this.#lastSerial
  }

  #send(message: Message): void {
    if (this.#held !== null) this.#held.push(message)
    // To a lost bus there is nothing to say; `lost` tells who wants to know.
    else if (!this.#isLost && this.#wire.stream.writable) this.#wire.message(message)
  }

  #take(message: Message): void {
    switch (message.type) {
      case METHOD_CALL:
        this.#callHandler(incoming(message))
        break
      case SIGNAL:
        for (const handler of this.#signalHandlers) handler(incoming(message))
        break
      case METHOD_RETURN:
        this.#waiting.get(message.replySerial ?? 0)?.resolve(message.body)
        break
      case ERROR:
        this.#waiting.get(message.replySerial ?? 0)?.reject(fromBusError(message.errorName ?? '', String(message.body[0] ?? '')))
        break
      default:
        break // The specification: messages of other types are ignored.
    }
  }
}

function incoming(message: Message): Incoming {
  return {
    serial: message.serial ?? 0,
    sender: message.sender ?? '',
    path: message.path ?? '',
    interface: message.interface ?? '',
    member: message.member ?? '',
    signature: message.signature,
    body: message.body,
    flags: message.flags,
  }
}
