// Talks to the agent in the machine: a session on one of the ports runs commands, one after the other.
import {randomBytes} from 'node:crypto'
import {connect, type Socket} from 'node:net'
import {setTimeout as delay} from 'node:timers/promises'
import {MachineError, SilenceError} from './errors.js'
import {encodeFrame, FrameDecoder, MAX_PAYLOAD, type Frame} from './frames.js'
import {tryLock, type FileLock} from './lock.js'

/** So many host processes can work in one machine at once. */
export const PORT_COUNT = 4

/** The agent holds this much input of a command; see INPUT_WINDOW in agent.c. */
const INPUT_WINDOW = 262144
/** Longer than any save: a command under way when the machine freezes is answered when that has ended. */
const GRACE_MS = 300_000
const HELLO_INTERVAL_MS = 50
const PORT_POLL_MS = 5

export interface Command {
  readonly argv: readonly string[]
  /** The agent kills the command, with all it started, after this time; 0 waits for ever. */
  readonly timeoutMs: number
  /** How much later the agent's word of that must have come; without it the machine is taken to hang. */
  readonly graceMs?: number | undefined
  readonly input?: AsyncIterable<Buffer>
  readonly onOutput: (bytes: Buffer) => void
  readonly onErrorOutput: (bytes: Buffer) => void
}

export type CommandEnd =
  | {readonly kind: 'exited', readonly status: number}
  | {readonly kind: 'signalled', readonly signal: number}
  | {readonly kind: 'timed-out'}
  | {readonly kind: 'not-started', readonly errno: number}

/** A port of the agent, held until disposed of. */
export class AgentSession implements Disposable {
  readonly #socket: Socket
  readonly #lock: FileLock
  readonly #frames: AsyncGenerator<Frame>
  /** Drawn by the agent when it started: the same after a resume, another after a boot. */
  readonly identity: string

  constructor(parts: {socket: Socket, lock: FileLock, frames: AsyncGenerator<Frame>, identity: string}) {
    this.#socket = parts.socket
    this.#lock = parts.lock
    this.#frames = parts.frames
    this.identity = parts.identity
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
    this.#lock[Symbol.dispose]()
  }

  /** Throws SilenceError when the machine hangs, and MachineError when it went away. */
  async run(command: Command): Promise<CommandEnd> {
    const timeout = Buffer.alloc(4)
    timeout.writeUInt32LE(command.timeoutMs)
    const payload = Buffer.concat([timeout, ...command.argv.map(text => Buffer.from(`${text}\0`))])
    if (payload.length > MAX_PAYLOAD)
      throw new MachineError(`Cannot run '${command.argv[0] ?? ''}': the command line is longer than a frame`)
    this.#socket.write(encodeFrame({type: 'X', payload}))
    const input = new InputFeed(this.#socket, command.input)
    const patience = new Patience(command, () => this.#socket.destroy())
    try {
      for (;;) {
        const next = await this.#frames.next()
        if (next.done === true)
          throw patience.isOver
            ? new SilenceError(`The machine has not answered for ${patience.ms / 1000} s to '${command.argv.join(' ')}'`)
            : new MachineError(`The machine went away while it ran '${command.argv.join(' ')}'`)
        const end = await take(next.value, command, input)
        if (end !== null)
          return end
      }
    } finally {
      patience.end()
    }
  }
}

/** Ends the wait for a machine whose agent cannot keep the time any more. */
class Patience {
  readonly ms: number
  isOver = false
  readonly #timer: NodeJS.Timeout | undefined

  constructor({timeoutMs, graceMs = GRACE_MS}: Command, giveUp: () => void) {
    this.ms = timeoutMs + graceMs
    if (timeoutMs > 0)
      this.#timer = setTimeout(() => { this.isOver = true; giveUp() }, this.ms)
  }

  end(): void {
    clearTimeout(this.#timer)
  }
}

async function take(frame: Frame, command: Command, input: InputFeed): Promise<CommandEnd | null> {
  switch (frame.type) {
  case 'o':
    command.onOutput(frame.payload)
    return null
  case 'e':
    command.onErrorOutput(frame.payload)
    return null
  case 'a':
    input.acknowledge(frame.payload.readUInt32LE(0))
    return null
  case 'x':
    await input.stop()
    return endOf(frame.payload)
  default:
    return null
  }
}

function endOf(payload: Buffer): CommandEnd {
  const code = payload.readUInt32LE(1)
  switch (payload[0]) {
  case 0: return {kind: 'exited', status: code}
  case 1: return {kind: 'signalled', signal: code}
  case 2: return {kind: 'timed-out'}
  default: return {kind: 'not-started', errno: code}
  }
}

/** Sends a command its input, no more at a time than the agent has room for. */
class InputFeed {
  #room = INPUT_WINDOW
  #isStopped = false
  #wake: () => void = () => undefined
  readonly #done: Promise<void>

  constructor(socket: Socket, input: AsyncIterable<Buffer> | undefined) {
    this.#done = this.#send(socket, input)
  }

  acknowledge(bytes: number): void {
    this.#room += bytes
    this.#wake()
  }

  /** The command has ended: what it did not read is not wanted. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#wake()
    await this.#done
  }

  async #send(socket: Socket, input: AsyncIterable<Buffer> | undefined): Promise<void> {
    for await (const chunk of input ?? []) {
      for (let at = 0; at < chunk.length; at += MAX_PAYLOAD) {
        const payload = chunk.subarray(at, at + MAX_PAYLOAD)
        while (this.#room < payload.length && !this.#isStopped)
          await new Promise<void>(resolve => { this.#wake = resolve })
        if (this.#isStopped)
          return
        this.#room -= payload.length
        socket.write(encodeFrame({type: 'I', payload}))
      }
    }
    socket.write(encodeFrame({type: 'Z', payload: Buffer.alloc(0)}))
  }
}

/** Opens a session on the first free port, waiting until the agent answers or the signal says stop. */
export async function openSession(ports: readonly string[], signal: AbortSignal): Promise<AgentSession> {
  for (;;) {
    for (const port of ports) {
      const lock = tryLock(`${port}.lock`)
      if (lock !== null)
        return await greet(port, lock, signal)
    }
    await pause(signal)
  }
}

async function greet(port: string, lock: FileLock, signal: AbortSignal): Promise<AgentSession> {
  const socket = connect(port)
  try {
    const frames = framesOf(socket)
    const nonce = randomBytes(16)
    const identity = await answerTo(nonce, socket, frames, signal)
    return new AgentSession({socket, lock, frames, identity})
  } catch (thrown) {
    socket.destroy()
    lock[Symbol.dispose]()
    throw thrown
  }
}

/** Says hello again and again: a machine that is just starting or resuming hears only the later ones. */
async function answerTo(
  nonce: Buffer, socket: Socket, frames: AsyncGenerator<Frame>, signal: AbortSignal
): Promise<string> {
  const hello = () => socket.write(encodeFrame({type: 'H', payload: nonce}))
  const timer = setInterval(hello, HELLO_INTERVAL_MS)
  const stop = () => socket.destroy()
  signal.addEventListener('abort', stop)
  try {
    hello()
    for (;;) {
      const next = await frames.next()
      if (next.done === true)
        throw new MachineError('The agent in the machine does not answer')
      const {type, payload} = next.value
      if (type === 'h' && payload.subarray(0, 16).equals(nonce))
        return payload.toString('hex', 16, 32)
    }
  } finally {
    clearInterval(timer)
    signal.removeEventListener('abort', stop)
  }
}

async function* framesOf(socket: Socket): AsyncGenerator<Frame> {
  const decoder = new FrameDecoder()
  socket.on('error', () => {
    // The end of the stream, which follows, says all there is to say.
  })
  try {
    for await (const chunk of socket)
      yield* decoder.push(chunk as Buffer)
  } catch {
    // A connection broken off ends the frames like one that was closed.
  }
}

async function pause(signal: AbortSignal): Promise<void> {
  if (signal.aborted)
    throw new MachineError('All ports of the agent are in use')
  await delay(PORT_POLL_MS)
}
