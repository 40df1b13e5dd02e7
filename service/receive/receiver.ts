import {once} from 'node:events'
import {createServer as createTcpServer, type AddressInfo, type Server, type Socket} from 'node:net'
import {pipeline} from 'node:stream/promises'
import {createServer as createTlsServer, TLSSocket} from 'node:tls'
import type {ByteInput} from '../edge/pipe.js'
import {inputFromStream} from '../edge/socket-input.js'
import type {TlsFiles} from '../edge/tls-files.js'
import {causeText, FailedError, StoreError} from '../errors.js'
import type {Digest} from '../image/digest.js'
import {ANSWER_BYTES_MAXIMUM, ANSWERS, decodeRequest, REQUEST_BYTES, type ServerRequest} from '../image/request-form.js'
import type {ImageStore} from './image-store.js'

export interface ReceiverParts {
  readonly host: string
  /** 0: any that is free. */
  readonly port: number
  readonly store: ImageStore
  readonly digest: Digest
  /** Null: whoever reaches the port is served. */
  readonly tls: TlsFiles | null
  /** One line about what happened. */
  readonly say: (line: string) => void
  readonly patienceMs?: number
}

/** Freezing a large machine takes a while, in which nothing is sent. */
const PATIENCE_MS = 5 * 60_000
/** A machine that lost its power says nothing more; the kernel asks it from then on every second, ten times. */
const ALIVE_ASKED_MS = 10_000

/** Keeps images of several machines, and gives them back: PROTOCOL.md. Disposing of it cuts whoever is being served. */
export class Receiver implements AsyncDisposable {
  readonly #parts: ReceiverParts
  readonly #server: Server
  readonly #callers = new Set<Socket>()
  readonly #served = new Set<Promise<void>>()
  readonly #claim: Disposable

  private constructor(parts: ReceiverParts, claim: Disposable) {
    this.#parts = parts
    this.#claim = claim
    const accept = (caller: Socket): void => this.#accept(caller)
    const {tls} = parts
    this.#server = tls === null
      ? createTcpServer({allowHalfOpen: true}, accept)
      : createTlsServer({...tls, allowHalfOpen: true, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3'}, accept)
    // Such as too many open files; who is being served is served on.
    this.#server.on('error', (error) => parts.say(`cannot take a connection: ${causeText(error)}`))
    this.#server.on('tlsClientError', (error: Error, {remoteAddress}: Socket) => parts.say(`refused ${remoteAddress ?? 'somebody'}: ${causeText(error)}`))
  }

  /** Throws StoreError where it cannot listen, or has no such directory for itself. */
  static async start(parts: ReceiverParts): Promise<Receiver> {
    const claim = parts.store.claim()
    try {
      const receiver = new Receiver(parts, claim)
      receiver.#server.listen(parts.port, parts.host)
      await once(receiver.#server, 'listening')
      return receiver
    } catch (cause) {
      claim[Symbol.dispose]()
      throw new StoreError('listen on', `${parts.host}:${parts.port}`, {cause})
    }
  }

  get address(): AddressInfo {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new FailedError('Cannot tell the address: the server does not listen')
    return address
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close()
    for (const caller of this.#callers) caller.destroy()
    await Promise.all(this.#served)
    this.#claim[Symbol.dispose]()
  }

  #accept(caller: Socket): void {
    this.#callers.add(caller)
    // Whoever reads or writes at that time hears of it.
    caller.on('error', () => undefined)
    caller.setKeepAlive(true, ALIVE_ASKED_MS)
    caller.setTimeout(this.#parts.patienceMs ?? PATIENCE_MS, () => caller.destroy(new Error('nothing came for too long')))
    const serving = this.#serve(caller).finally(() => {
      caller.destroy()
      this.#callers.delete(caller)
      this.#served.delete(serving)
    })
    this.#served.add(serving)
  }

  /** Never throws: what goes wrong is answered and said. */
  async #serve(caller: Socket): Promise<void> {
    const input = inputFromStream(caller)
    const who = caller.remoteAddress ?? 'somebody'
    let what = who
    try {
      const request = await this.#readRequest(input, caller, who)
      what = `'${request.name}' of ${who}`
      await this.#answer(request, input, caller, what)
    } catch (error) {
      this.#parts.say(`failed ${what}: ${causeText(error)}`)
      await fail(caller, input, causeText(error))
    }
  }

  async #readRequest(input: ByteInput, caller: Socket, who: string): Promise<ServerRequest> {
    const bytes = Buffer.alloc(REQUEST_BYTES)
    const count = await input.fill(bytes)
    const request = decodeRequest(bytes.subarray(0, Math.max(count, SHORTEST_BYTES)), this.#parts.digest, who)
    if (caller instanceof TLSSocket) refuseUnlessOwner(caller, request)
    return request
  }

  async #answer(request: ServerRequest, input: ByteInput, caller: Socket, what: string): Promise<void> {
    const {store, say} = this.#parts
    switch (request.kind) {
      case 'ask':
        store.refuseUnlessFree(request.name)
        caller.end(`${ANSWERS.ready} ${await store.freeBytes()}\n`)
        break
      case 'store':
        store.refuseUnlessFree(request.name)
        caller.write(`${ANSWERS.ready} ${await store.freeBytes()}\n`)
        await store.keep(request, input)
        // The client's end says that it waits for the answer.
        await drain(input)
        caller.end(`${ANSWERS.kept}\n`)
        say(`kept ${what}`)
        break
      case 'fetch':
        await this.#send(request, caller)
        say(`sent ${what}`)
        return
      default:
        request.kind satisfies never
    }
    await once(caller, 'finish')
    await drain(input)
  }

  async #send(request: ServerRequest, caller: Socket): Promise<void> {
    await using kept = await this.#parts.store.open(request)
    caller.write(`${ANSWERS.sending} ${kept.bytes}\n`)
    await pipeline(kept.file.createReadStream({autoClose: false, start: 0}), caller)
  }
}

/** As much as the magic and the version of a request, which are looked at first. */
const SHORTEST_BYTES = 24

/** A machine gets, and replaces, its own image only. */
function refuseUnlessOwner(caller: TLSSocket, {name}: ServerRequest): void {
  const owner = caller.getPeerCertificate().subject.CN
  if (owner !== name) throw new StoreError('serve', name, {cause: new Error(`the certificate is that of '${String(owner)}'`)})
}

/** A connection that is closed while something still comes would be reset, and the answer lost. */
async function fail(caller: Socket, input: ByteInput, reason: string): Promise<void> {
  const line = `${ANSWERS.failed} ${reason.replaceAll(/[\n\0]/g, ' ')}`
  caller.end(`${line.slice(0, ANSWER_BYTES_MAXIMUM / 4)}\n`)
  await drain(input).catch(() => undefined) // Whoever has gone needs no answer.
}

async function drain(input: ByteInput): Promise<void> {
  const scratch = Buffer.alloc(64 * 1024)
  while ((await input.fill(scratch)) > 0);
}
