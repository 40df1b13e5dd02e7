import {fstatSync, fsyncSync, mkdirSync, mkdtempSync, rmSync} from 'node:fs'
import {createServer, type Server, type Socket} from 'node:net'
import path from 'node:path'
import {THENS, type Then} from '../bus/interface.js'
import {openStandardOutput} from '../edge/pipe.js'
import {causeText, UsageError} from '../errors.js'
import {FAILED, KEPT} from '../sinks/answering-connection.js'
import {awaitConsumers, consumersEnded, findConsumers} from './consumers.js'
import {onInterrupt} from './interrupt.js'
import {whyImageIsLost, whyOutputIsLost, witnessPipe} from './lasting-output.js'
import {type Arguments, demandRoot, EXIT_DONE, type Surroundings} from './verb.js'

const RUNTIME_DIRECTORY = '/run/permafrost'
const STANDARD_OUTPUT = 1

/**
 * Carries the image from the daemon to standard output. The daemon thaws everybody before the first byte, so this process
 * and whoever reads are ordinary ones; in the resumed system nothing comes out, and the reader finds the end at once.
 */
export async function snapshot({values}: Arguments, surroundings: Surroundings): Promise<number> {
  demandRoot(surroundings, 'take a snapshot')
  if (values['to'] !== '-') throw new UsageError("Cannot take a snapshot: say where it goes, '--to -' for standard output")
  const then = parseThen(values['then'] ?? 'halt')
  await refuseUnfitOutput(then)
  await using client = await surroundings.connect()
  using doorway = await openDoorway(process.env['PERMAFROST_RUNTIME_DIRECTORY'] ?? RUNTIME_DIRECTORY, (caller) => carry(caller, then))
  using _aborting = onInterrupt(() => void client.abort().catch(() => undefined))
  await client.snapshot({socket: doorway.socket, then})
  return EXIT_DONE
}

function parseThen(text: string): Then {
  const then = THENS.find((each) => each === text)
  if (then === undefined) throw new UsageError(`Cannot take a snapshot and then '${text}': expected 'halt' or 'merge'`)
  return then
}

async function refuseUnfitOutput(then: Then): Promise<void> {
  const status = fstatSync(STANDARD_OUTPUT)
  if (status.isCharacterDevice()) throw new UsageError('Cannot write an image to a terminal or another character device: redirect it, or pipe it through a command')
  if (then !== 'halt') return
  const why = whyOutputIsLost(status.isFIFO() ? await awaitConsumers() : [])
  if (why !== null) throw new UsageError(`Cannot keep an image there: ${why}; have it written to a device or another machine by the last of a pipeline, or say '--then merge'`)
}

interface Doorway extends Disposable {
  readonly socket: string
}

/** A socket for one caller, in a directory that only root can enter. */
async function openDoorway(runtimeDirectory: string, serve: (caller: Socket) => Promise<void>): Promise<Doorway> {
  mkdirSync(runtimeDirectory, {recursive: true, mode: 0o755})
  const directory = mkdtempSync(path.join(runtimeDirectory, 'snapshot-'))
  const socket = path.join(directory, 'image')
  const server = createServer({allowHalfOpen: true}, (caller) => {
    server.close()
    void serve(caller)
  })
  await listen(server, socket)
  return {
    socket,
    [Symbol.dispose]() {
      server.close()
      rmSync(directory, {recursive: true, force: true})
    },
  }
}

async function listen(server: Server, socket: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(socket, resolve)
  })
}

/** Never throws: what goes wrong is answered to the daemon, whose own error ends the command. */
async function carry(caller: Socket, then: Then): Promise<void> {
  caller.on('error', () => undefined) // A daemon that has gone is noticed on the bus.
  try {
    const output = openStandardOutput()
    let sentBytes = 0
    // What is still to be answered needs the socket after a failure, too.
    for await (const piece of caller.iterator({destroyOnReturn: false}) as AsyncIterable<Buffer>) {
      sentBytes += piece.length
      await output.append(piece)
    }
    // In the resumed system, or after a refusal, there was no image.
    if (sentBytes === 0) return void caller.destroy()
    await finish(output, {then, sentBytes})
    caller.end(`${KEPT}\n`)
  } catch (error) {
    const reason = causeText(error) === 'EPIPE' ? 'whoever read it has gone' : causeText(error)
    caller.end(`${FAILED}${reason.replaceAll('\n', ' ')}\n`)
    caller.resume()
  }
}

/** Whoever reads finds the end when we have closed our side, so who that is has to be found before. */
async function finish(output: {close(): void}, {then, sentBytes}: {readonly then: Then; readonly sentBytes: number}): Promise<void> {
  const status = fstatSync(STANDARD_OUTPUT)
  if (status.isFile() || status.isBlockDevice()) fsyncSync(STANDARD_OUTPUT)
  const consumers = findConsumers()
  const why = then === 'halt' ? whyOutputIsLost(consumers) ?? whyImageIsLost(consumers, sentBytes) : null
  if (why !== null) throw new Error(why)
  using witness = witnessPipe(consumers)
  output.close()
  await consumersEnded(consumers)
  if (!witness.isAllRead()) throw new Error('whoever read it has left some of it')
}
