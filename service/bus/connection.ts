import {EventEmitter} from 'node:events'
import dbus from 'dbus-next'
import {BusLostError, FailedError, TimedOutError} from '../errors.js'
import {fromBusError} from './errors.js'
import {DBUS_NAME, DBUS_PATH} from './names.js'

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

// The message types and flags of the D-Bus specification, "Message Format".
const METHOD_CALL = 1
const METHOD_RETURN = 2
const ERROR = 3
const SIGNAL = 4
const NO_REPLY_EXPECTED = 0x1
export const NO_AUTO_START = 0x2
export const ALLOW_INTERACTIVE_AUTHORIZATION = 0x4

const CONNECT_TIMEOUT_MS = 25_000

export function systemBusAddress(): string {
  return process.env['DBUS_SYSTEM_BUS_ADDRESS'] ?? 'unix:path=/run/dbus/system_bus_socket'
}

/**
 * dbus-next in the guarded form that worked: messages only, none of its interface classes.
 * - Its own handlers never answer a call; whoever takes `onCall` answers everything.
 * - Calls end: with the reply, after their time-out, or when the bus is lost.
 * - Between `pause` and `resume` nothing is written to the socket: what would be is held.
 */
export class BusConnection {
  readonly #bus: dbus.MessageBus
  /** The socket, for who counts what is written to it. */
  readonly stream: EventEmitter
  readonly #rejecters = new Set<(error: Error) => void>()
  readonly #signalHandlers = new Set<(signal: Incoming) => void>()
  #callHandler: ((call: Incoming) => void) | null = null
  #held: dbus.Message[] | null = null
  #isLost = false

  /** Resolves when the connection is gone, whoever closed it. */
  readonly lost: Promise<void>

  private constructor(bus: dbus.MessageBus, stream: EventEmitter) {
    this.#bus = bus
    this.stream = stream
    this.lost = new Promise((resolve) => {
      stream.once('close', () => {
        this.#isLost = true
        for (const reject of this.#rejecters) reject(new BusLostError())
        resolve()
      })
    })
    bus.addMethodHandler((message: dbus.Message) => this.#takeCall(message))
    bus.on('message', (message) => this.#takeSignal(message))
  }

  static async connect(address: string): Promise<BusConnection> {
    const bus = dbus.sessionBus({busAddress: address})
    const connection = new BusConnection(bus, streamOf(bus))
    await connection.#race<void>(CONNECT_TIMEOUT_MS, `connect to the bus at '${address}'`, (resolve, reject) => {
      bus.on('connect', resolve)
      // Also needed for later: an 'error' nobody listens to would end the process.
      bus.on('error', (error: unknown) => reject(error instanceof Error ? error : new BusLostError()))
    })
    return connection
  }

  /** Sends a method call and gives the body of its reply; throws what `fromBusError` makes of an error. */
  async call(call: Call): Promise<readonly unknown[]> {
    if (this.#held !== null) throw new FailedError(`Cannot call '${call.member}': the bus is frozen`)
    const {timeoutMs, body, ...header} = call
    const message = newMessage({type: METHOD_CALL, ...header, body: [...(body ?? [])]})
    return await this.#race(timeoutMs, `call '${call.interface}.${call.member}'`, (resolve, reject) => {
      if (this.#isLost) throw new BusLostError()
      this.#bus.call(message).then(
        (reply) => resolve(bodyOf(reply)),
        (error: unknown) => reject(error instanceof dbus.DBusError ? fromBusError(error.type, error.text) : toError(error)),
      )
    })
  }

  /** The handler gets every method call addressed to this connection and has to answer it. */
  onCall(handler: (call: Incoming) => void): void {
    this.#callHandler = handler
  }

  onSignal(handler: (signal: Incoming) => void): void {
    this.#signalHandlers.add(handler)
  }

  reply(call: Incoming, signature: string, body: readonly unknown[]): void {
    if ((call.flags & NO_REPLY_EXPECTED) !== 0) return
    this.#send({type: METHOD_RETURN, replySerial: call.serial, destination: call.sender, signature, body: [...body]})
  }

  replyError(call: Incoming, errorName: string, text: string): void {
    if ((call.flags & NO_REPLY_EXPECTED) !== 0) return
    this.#send({type: ERROR, replySerial: call.serial, destination: call.sender, errorName, signature: 's', body: [text]})
  }

  emit(signal: Outgoing): void {
    this.#send({type: SIGNAL, ...signal, body: [...signal.body]})
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

  async callBus(member: string, signature: string, body: readonly unknown[]): Promise<readonly unknown[]> {
    return await this.call({
      destination: DBUS_NAME, path: DBUS_PATH, interface: DBUS_NAME, member, signature, body, timeoutMs: 25_000,
    })
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
    for (const message of held) this.#write(message)
  }

  /** Sends what is still to be sent and ends the connection. */
  async close(): Promise<void> {
    // Replies of this turn are still on their way here.
    await new Promise((resolve) => setImmediate(resolve))
    if (this.#isLost) return
    this.#bus.disconnect()
    await this.lost
  }

  #send(values: RawMessage): void {
    const message = newMessage(values)
    if (this.#held === null) this.#write(message)
    else this.#held.push(message)
  }

  #write(message: dbus.Message): void {
    // To a lost bus there is nothing to say; `lost` tells who wants to know.
    if (!this.#isLost && Reflect.get(this.stream, 'writable') === true) this.#bus.send(message)
  }

  /** True: it is answered here, and dbus-next must not. */
  #takeCall(message: dbus.Message): boolean {
    const call = incoming(message)
    if (this.#callHandler === null) {
      this.replyError(call, 'org.freedesktop.DBus.Error.UnknownObject', `There is no object '${call.path}'`)
    } else {
      this.#callHandler(call)
    }
    return true
  }

  #takeSignal(message: dbus.Message): void {
    if (Number(message.type) !== SIGNAL) return
    for (const handler of this.#signalHandlers) handler(incoming(message))
  }

  async #race<Value>(
    timeoutMs: number | null,
    attempt: string,
    start: (resolve: (value: Value) => void, reject: (error: Error) => void) => void,
  ): Promise<Value> {
    let timer: NodeJS.Timeout | undefined
    let rejecter: ((error: Error) => void) | undefined
    try {
      return await new Promise<Value>((resolve, reject) => {
        rejecter = reject
        this.#rejecters.add(reject)
        if (timeoutMs !== null) timer = setTimeout(() => reject(new TimedOutError(attempt, timeoutMs)), timeoutMs)
        start(resolve, reject)
      })
    } finally {
      clearTimeout(timer)
      if (rejecter !== undefined) this.#rejecters.delete(rejecter)
    }
  }
}

interface RawMessage {
  readonly type: number
  readonly path?: string
  readonly interface?: string
  readonly member?: string
  readonly destination?: string
  readonly errorName?: string
  readonly replySerial?: number
  readonly signature?: string
  readonly body: unknown[]
  readonly flags?: number
}

/** dbus-next's types call `replySerial` a string and number its enum from 0; the wire does neither. */
function newMessage(values: RawMessage): dbus.Message {
  const {replySerial, ...rest} = values
  return new dbus.Message({...rest, ...(replySerial === undefined ? {} : {replySerial: replySerial as unknown as string})})
}

function incoming(message: dbus.Message): Incoming {
  return {
    serial: message.serial ?? 0,
    sender: message.sender ?? '',
    path: message.path ?? '',
    interface: message.interface ?? '',
    member: message.member ?? '',
    signature: message.signature ?? '',
    body: message.body ?? [],
    flags: Number(message.flags ?? 0),
  }
}

function bodyOf(reply: dbus.Message | null): readonly unknown[] {
  const body: unknown = reply?.body
  return Array.isArray(body) ? body : []
}

/** The socket: dbus-next tells nobody when it is closed. */
function streamOf(bus: dbus.MessageBus): EventEmitter {
  const connection: unknown = Reflect.get(bus, '_connection')
  const stream: unknown = typeof connection === 'object' && connection !== null ? Reflect.get(connection, 'stream') : null
  if (!(stream instanceof EventEmitter)) throw new FailedError('Cannot watch the bus: dbus-next shows no stream')
  return stream
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new FailedError(String(error))
}
