import {once} from 'node:events'
import {connect as connectTcp, type Socket} from 'node:net'
import {connect as connectTls} from 'node:tls'
import type {ServerAddress} from '../configuration/target.js'
import {eitherOf} from '../edge/either-signal.js'
import type {Files} from '../edge/files.js'
import {printable} from '../edge/printable.js'
import type {TlsFiles} from '../edge/tls-files.js'
import {causeText, PermafrostError, SinkError, TargetError} from '../errors.js'
import type {Digest} from '../image/digest.js'
import type {Lines} from '../image/records.js'
import {ANSWER_BYTES_MAXIMUM, ANSWERS, encodeRequest, type RequestKind} from '../image/request-form.js'
import {NO_ID} from '../image/superblock.js'
import {AnsweringConnection} from './answering-connection.js'
import type {StreamTarget, TargetConnection, TargetSummary} from './stream-target.js'
import {findWayBack} from './way-back.js'

export interface ServerTargetParts {
  readonly address: ServerAddress
  readonly files: Files
  readonly digest: Digest
  /** Called for `tls` only. Throws the error of the system where one cannot be read. */
  readonly readTls: () => TlsFiles
  /** How long the server may take nothing, or say nothing. */
  readonly patienceMs: number
}

/** A server of images: PROTOCOL.md. Only what it says to have kept is believed to be there. */
export function serverTarget(parts: ServerTargetParts): StreamTarget {
  const {text} = parts.address
  return {
    name: text,
    async inspect(): Promise<TargetSummary> {
      const signal = AbortSignal.timeout(parts.patienceMs)
      try {
        const {socket, freeBytes} = await begin(parts, {kind: 'ask', imageId: NO_ID}, signal)
        try {
          findWayBack(parts.address, endsOf(socket), parts.files)
        } finally {
          socket.destroy()
        }
        return {freeBytes}
      } catch (cause) {
        if (cause instanceof PermafrostError) throw cause
        throw new TargetError(text, reasonOf(cause, signal, parts), {cause})
      }
    },
    async open(signal, imageId): Promise<TargetConnection> {
      using either = eitherOf([signal, AbortSignal.timeout(parts.patienceMs)])
      try {
        const {socket} = await begin(parts, {kind: 'store', imageId}, either.signal)
        return connectionOf(socket, signal, parts)
      } catch (cause) {
        throw new SinkError('send the image to', text, {cause: new Error(reasonOf(cause, either.signal, parts), {cause})})
      }
    },
  }
}

/** Throws TargetError where no network card leads back, and nobody is kept waiting then. */
function connectionOf(socket: Socket, signal: AbortSignal, parts: ServerTargetParts): ServerConnection {
  try {
    return new ServerConnection(socket, signal, parts)
  } catch (error) {
    socket.destroy()
    throw error
  }
}

const GONE = 'the server has closed the connection'
const GONE_CODES: readonly string[] = ['EPIPE', 'ECONNRESET']

/** An image on its way to a server that may fall silent while everybody else is frozen. */
class ServerConnection extends AnsweringConnection {
  readonly wayBack: Lines
  readonly #socket: Socket
  readonly #patienceMs: number

  constructor(socket: Socket, signal: AbortSignal, {address, files, patienceMs}: ServerTargetParts) {
    super(socket, signal, GONE)
    socket.resume()
    this.#socket = socket
    this.#patienceMs = patienceMs
    this.wayBack = findWayBack(address, endsOf(socket), files)
  }

  override async append(bytes: Buffer): Promise<void> {
    await this.#patiently(() => super.append(bytes))
  }

  override async finish(): Promise<void> {
    await this.#patiently(() => super.finish())
  }

  /** Nothing is to happen between two pieces, so nobody is waited for then. */
  async #patiently(act: () => Promise<void>): Promise<void> {
    const giveUp = (): void => void this.#socket.destroy(new Error(`nothing was heard of it for ${this.#patienceMs / 1000} s`))
    this.#socket.setTimeout(this.#patienceMs, giveUp)
    try {
      await act()
    } catch (error) {
      const cause = this.#socket.errored ?? error
      throw GONE_CODES.includes(causeText(cause)) ? new Error(GONE, {cause}) : cause
    } finally {
      this.#socket.setTimeout(0, giveUp)
    }
  }
}

interface Begun {
  readonly socket: Socket
  readonly freeBytes: number
}

/** Connects, asks, and hears that the server is ready. */
async function begin(parts: ServerTargetParts, asked: {readonly kind: RequestKind; readonly imageId: string}, signal: AbortSignal): Promise<Begun> {
  signal.throwIfAborted()
  const {address, digest} = parts
  const socket = connect(parts)
  const abort = (): void => void socket.destroy(signal.reason instanceof Error ? signal.reason : new Error('aborted'))
  signal.addEventListener('abort', abort, {once: true})
  try {
    await once(socket, address.kind === 'tls' ? 'secureConnect' : 'connect')
    socket.write(encodeRequest({...asked, name: address.name}, digest))
    const [word, amount] = (await readLine(socket)).split(' ')
    return {socket, freeBytes: word === ANSWERS.ready ? Number(amount) : Number.NaN}
  } catch (error) {
    socket.destroy()
    throw error
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

/** Only numbers of four bytes: the initramfs has no other network. */
function connect({address, readTls}: ServerTargetParts): Socket {
  const where = {host: address.host, port: address.port, family: 4, allowHalfOpen: true}
  const socket = address.kind === 'tcp'
    ? connectTcp(where)
    : connectTls({...where, ...readTls(), minVersion: 'TLSv1.3', servername: /^[\d.]+$/.test(address.host) ? '' : address.host})
  // Whoever waits for it hears of a failure.
  socket.on('error', () => undefined)
  socket.setNoDelay(true)
  return socket
}

const LINE_END = '\n'

/** Throws what the server said unless it is ready, or that it went without a word. */
async function readLine(socket: Socket): Promise<string> {
  const line = await hearLine(socket)
  if (socket.errored instanceof Error) throw socket.errored
  if (line === '') throw new Error('it closed the connection without an answer')
  if (line.startsWith(`${ANSWERS.failed} `)) throw new Error(printable(line.slice(ANSWERS.failed.length + 1)))
  if (!line.startsWith(`${ANSWERS.ready} `)) throw new Error('what answers there is no server of images')
  return line
}

/** '' when the other side goes without one. The socket is paused then; what came behind the line is still to be read from it. */
function hearLine(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let heard: Buffer = Buffer.alloc(0)
    const settle = (): void => {
      socket.pause().off('data', hear).off('end', settle).off('close', settle)
      const end = heard.includes(LINE_END) ? heard.indexOf(LINE_END) : heard.length
      if (end + 1 < heard.length) socket.unshift(heard.subarray(end + 1))
      resolve(heard.toString('utf8', 0, end))
    }
    const hear = (piece: Buffer): void => {
      heard = Buffer.concat([heard, piece])
      if (heard.includes(LINE_END) || heard.length > ANSWER_BYTES_MAXIMUM) settle()
    }
    socket.on('data', hear).on('end', settle).on('close', settle)
  })
}

function endsOf({localAddress = '', remoteAddress = ''}: Socket) {
  return {localAddress, remoteAddress}
}

function reasonOf(cause: unknown, signal: AbortSignal, {patienceMs}: ServerTargetParts): string {
  const isLate = signal.aborted && signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'
  return isLate ? `there was no answer within ${patienceMs / 1000} s` : causeText(cause)
}
