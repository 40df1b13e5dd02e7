// Switches a machine on and waits until it can be worked with.
import {statSync} from 'node:fs'
import {open} from 'node:fs/promises'
import {setTimeout as delay} from 'node:timers/promises'
import {MachineError, messageOf} from './errors.js'
import type {Machine} from './machine.js'
import type {QemuEnd} from './qemu.js'
import {ROOT_UUID} from './system.js'

const CONSOLE_POLL_MS = 5

/**
 * QEMU translates a page of code anew for every address at which it is mapped, and keeps it all. With an address of its own for each
 * process a program starts in twice the time, and restoring memory in place, which has to drop a million translations of one page
 * of the C library, takes minutes.
 */
const ONE_ADDRESS_SPACE_LAYOUT = 'norandmaps'

export interface BootOptions {
  readonly diesWithStarter: boolean
  readonly timeoutMs: number
  /** More words for the kernel command line, such as 'noresume'. */
  readonly extra?: string
}

export interface BootResult {
  readonly identity: string
  /** From the kernel's first words on the console to the agent's first answer. */
  readonly bootToUserMs: number
}

/** Starts the machine; returns as soon as its agent answers. */
export async function boot(machine: Machine, options: BootOptions): Promise<BootResult> {
  const patience = AbortSignal.timeout(options.timeoutMs)
  const before = sizeOf(machine.consoleLog)
  await machine.start({
    commandLine: commandLine(machine, options.extra ?? ''),
    diesWithStarter: options.diesWithStarter
  })
  const finished = new AbortController()
  const stop = AbortSignal.any([patience, finished.signal])
  const firstWords = firstWordsOfKernel(machine, before, stop)
  const over = machine.ended(stop).then(
    end => { finished.abort(); return end },
    () => null)
  try {
    using session = await machine.session(stop)
    const answered = performance.now()
    return {identity: session.identity, bootToUserMs: Math.round(answered - (await firstWords ?? answered))}
  } catch (thrown) {
    throw new MachineError(await whyNot(machine, patience.aborted, over, thrown), {cause: thrown})
  } finally {
    finished.abort()
  }
}

async function whyNot(
  machine: Machine, isLate: boolean, over: Promise<QemuEnd | null>, thrown: unknown
): Promise<string> {
  if (machine.isRunning && isLate)
    return `Machine '${machine.name}' does not come up`
  const end = machine.isRunning ? null : await over
  switch (end) {
  case 'gone': return `Machine '${machine.name}' was killed while it was starting, by ${machine.killer ?? 'whom is not known'}`
  case 'rebooted': return `The kernel of '${machine.name}' restarted the machine`
  case 'powered-off': return `Machine '${machine.name}' switched itself off while it was starting`
  case null: return `Machine '${machine.name}' does not come up: ${messageOf(thrown)}`
  default: return end satisfies never
  }
}

function commandLine(machine: Machine, extra: string): string {
  const hasSwap = machine.state.disks.some(disk => disk.role === 'swap')
  return [
    `root=UUID=${ROOT_UUID} rw`,
    'earlycon=uart8250,io,0x3f8 console=ttyS0 loglevel=7 panic=-1 mitigations=off sysrq_always_enabled',
    ONE_ADDRESS_SPACE_LAYOUT,
    'systemd.getty_auto=no systemd.show_status=no',
    ...(hasSwap ? ['resume=/dev/disk/by-id/virtio-swap'] : []),
    ...(extra === '' ? [] : [extra])
  ].join(' ')
}

function sizeOf(file: string): number {
  return statSync(file, {throwIfNoEntry: false})?.size ?? 0
}

/** When "Linux version" shows up behind that offset; null when it never does. */
async function firstWordsOfKernel(machine: Machine, offset: number, signal: AbortSignal): Promise<number | null> {
  while (!signal.aborted) {
    if (sizeOf(machine.consoleLog) > offset && (await readFrom(machine.consoleLog, offset)).includes('Linux version'))
      return performance.now()
    await delay(CONSOLE_POLL_MS)
  }
  return null
}

async function readFrom(path: string, offset: number): Promise<string> {
  const file = await open(path)
  try {
    const buffer = Buffer.alloc(16384)
    const {bytesRead} = await file.read(buffer, 0, buffer.length, offset)
    return buffer.toString('latin1', 0, bytesRead)
  } finally {
    await file.close()
  }
}
