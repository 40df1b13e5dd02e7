import {chmodSync, mkdirSync, rmSync} from 'node:fs'
import {createConnection, createServer, type Socket} from 'node:net'
import path from 'node:path'

/**
 * A socket beside the bus, on which root can ask for an abort: while the image is saved the bus
 * stands still, unless the policy keeps it, and a call through it would wait for the thaw.
 */
export const SIDE_DOOR = '/run/permafrost/abort'

/** What the daemon says to a request: null for "it is done", or a named error. */
export type Refusal = {readonly name: string, readonly text: string} | null

export interface SideDoor {
  close(): void
}

const REQUEST = 'abort\n'
/** Whoever connects and says nothing is not waited for. */
const PATIENCE_MS = 5000

/** Takes the place of a door that a killed daemon left. Throws where the socket cannot be made. */
export async function openSideDoor(file: string, onAbort: () => Refusal): Promise<SideDoor> {
  mkdirSync(path.dirname(file), {recursive: true, mode: 0o755})
  rmSync(file, {force: true})
  const server = createServer((caller) => answer(caller, onAbort))
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(file, resolve)
  })
  // unix(7): who may not write to the socket cannot connect to it.
  chmodSync(file, 0o600)
  server.on('error', () => undefined)
  server.unref()
  return {close: () => server.close()}
}

/** Undefined where there is no door, or none for us; then the bus is the way. */
export async function knockAtSideDoor(file: string): Promise<Refusal | undefined> {
  const heard = await new Promise<string>((resolve) => {
    let text = ''
    const caller = createConnection(file, () => caller.write(REQUEST))
    caller.setTimeout(PATIENCE_MS, () => caller.destroy())
    caller.setEncoding('utf8')
    caller.on('data', (piece) => {
      text += String(piece)
    })
    caller.on('error', () => undefined) // Said by 'close' as well.
    caller.on('close', () => resolve(text))
  })
  if (heard === 'done\n') return null
  const [, name, text] = /^(\S+) (.+)\n$/.exec(heard) ?? []
  return name === undefined || text === undefined ? undefined : {name, text}
}

function answer(caller: Socket, onAbort: () => Refusal): void {
  let heard = ''
  caller.setTimeout(PATIENCE_MS, () => caller.destroy())
  caller.setEncoding('utf8')
  caller.on('error', () => undefined) // A caller that vanishes wants no answer.
  caller.on('data', (piece) => {
    heard += String(piece)
    if (!REQUEST.startsWith(heard)) caller.destroy()
    if (heard !== REQUEST) return
    const refusal = onAbort()
    caller.end(refusal === null ? 'done\n' : `${refusal.name} ${refusal.text.replaceAll('\n', ' ')}\n`)
  })
}
