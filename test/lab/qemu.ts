// Starts QEMU for a machine and tells how it ended.
import {spawn, type ChildProcess} from 'node:child_process'
import {closeSync, existsSync, openSync, readFileSync, writeSync} from 'node:fs'
import {connect, type Socket} from 'node:net'
import {setTimeout as delay} from 'node:timers/promises'
import type {Disk} from './disks.js'
import {hasCode, LaboratoryError} from './errors.js'
import {networkArguments, type Network} from './network.js'

export interface QemuRequest {
  readonly memoryMib: number
  readonly cpus: number
  /** Given to the machine from outside; null for one that boots from its first disk by itself. */
  readonly kernel: string | null
  readonly initrd: string | null
  readonly commandLine: string
  /** The kernel is the debugging one. */
  readonly isDebug: boolean
  readonly disks: readonly Disk[]
  readonly network: Network | null
  readonly consoleLog: string
  /** A socket: what is written to it is typed on the serial console. */
  readonly consoleInput: string
  readonly qemuLog: string
  readonly monitor: string
  readonly agentPorts: readonly string[]
  /** Kill the machine when the process that starts it dies: for tests and demo, not for `lab up`. */
  readonly diesWithStarter: boolean
}

/** A process by its id and start time: ids are used again, the pair is not. */
export interface ProcessIdentity {
  readonly pid: number
  readonly startTicks: string
}

export type QemuEnd = 'powered-off' | 'rebooted' | 'gone'

/** Starts the machine; it is running when this returns, though nothing in it is. */
export async function startQemu(request: QemuRequest): Promise<ProcessIdentity> {
  const log = openSync(request.qemuLog, 'a')
  const args = qemuArguments(request)
  const [command, words] = request.diesWithStarter
    ? ['setpriv', ['--pdeathsig', 'SIGKILL', 'qemu-system-x86_64', ...args]] as const
    : ['qemu-system-x86_64', args] as const
  const child = spawn(command, words, {stdio: ['ignore', log, log], detached: true})
  const started = new AbortController()
  try {
    await Promise.race([failureOf(child, command, request.qemuLog), answering(request.monitor, started.signal)])
  } catch (thrown) {
    closeSync(log)
    throw thrown
  } finally {
    started.abort()
    child.removeAllListeners()
    child.on('error', () => {
      // Whoever asks for the machine later sees that it is gone.
    })
  }
  child.on('exit', (_, killer) => {
    // QEMU itself says nothing when it crashes. The file may have gone with its machine, the descriptor has not.
    if (killer !== null)
      writeSync(log, `${ENDED_BY} ${killer}\n`)
    closeSync(log)
  })
  child.unref()
  return identify(child.pid ?? 0)
}

const ENDED_BY = 'QEMU was ended by'

/** The signal that ended the last QEMU of that log, such as SIGSEGV when it crashed; null when none is known. */
export function lastKiller(qemuLog: string): string | null {
  if (!existsSync(qemuLog))
    return null
  const lastLine = readFileSync(qemuLog, 'utf8').trimEnd().split('\n').at(-1) ?? ''
  return lastLine.startsWith(ENDED_BY) ? lastLine.slice(ENDED_BY.length + 1) : null
}

async function failureOf(child: ChildProcess, command: string, qemuLog: string): Promise<never> {
  return await new Promise((_, reject) => {
    child.on('error', error => {
      reject(hasCode(error, 'ENOENT')
        ? new LaboratoryError(`Cannot run '${command}': not installed, apt-get install qemu-system-x86`)
        : error)
    })
    child.on('exit', status => {
      const words = readFileSync(qemuLog, 'utf8').trim().split('\n').slice(-5).join('\n')
      reject(new LaboratoryError(`Cannot start QEMU: exit status ${status ?? 'by signal'}\n${words}`))
    })
  })
}

/**
 * Without 'enhanced rep movsb': QEMU emulates that byte by byte, and a kernel that is told of it copies
 * to and from user space at 0.5 GB/s instead of 2, whatever copies there.
 */
const PROCESSOR = 'max,-erms'

/**
 * For each PCI device, at boot, at the end of a snapshot and after a resume, the kernel asks ACPI for the interrupt of a pin. On
 * QEMU's usual board that is a method with a loop, in which ACPI's interpreter, in the debugging kernel, is busy for more than the
 * 30 seconds after which it gives up. On this board it is a table.
 */
const BOARD_WITHOUT_LOOPS = 'q35'
const BOARD = 'pc'

function qemuArguments(request: QemuRequest): string[] {
  // Port 0 is for consoles. Each port more than needed costs the driver two queues, at boot and at resume.
  const portCount = request.agentPorts.length + 1
  const ports = request.agentPorts.flatMap((path, index) => [
    '-chardev', `socket,id=agent${index},path=${path},server=on,wait=off`,
    '-device', `virtserialport,chardev=agent${index},nr=${index + 1},name=permafrost.agent.${index}`
  ])
  const disks = request.disks.flatMap((disk, index) => [
    ...backendArguments(disk, `disk${index}`),
    '-device', `virtio-blk-pci,id=${deviceId(disk.name)},drive=disk${index},serial=${disk.name},write-cache=on`
  ])
  return [
    '-machine', request.isDebug ? BOARD_WITHOUT_LOOPS : BOARD,
    '-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-vga', 'none', '-nic', 'none',
    '-accel', 'tcg,thread=multi', '-cpu', PROCESSOR, '-smp', String(request.cpus), '-m', String(request.memoryMib),
    ...directBoot(request),
    '-chardev', `socket,id=console,path=${request.consoleInput},server=on,wait=off,logfile=${request.consoleLog},logappend=on`,
    '-serial', 'chardev:console',
    '-device', 'virtio-rng-pci', '-device', `virtio-serial-pci,max_ports=${portCount}`, ...ports, ...disks,
    ...(request.network === null ? [] : networkArguments(request.network)),
    // The last socket that QEMU makes: when it answers, the others are there.
    '-chardev', `socket,id=monitor,path=${request.monitor},server=on,wait=off`, '-mon', 'chardev=monitor,mode=control'
  ]
}

function directBoot({kernel, initrd, commandLine}: QemuRequest): string[] {
  return kernel === null || initrd === null ? [] : ['-kernel', kernel, '-initrd', initrd, '-append', commandLine]
}

const EIO = 5

function backendArguments(disk: Disk, id: string): string[] {
  if (disk.badSector !== undefined)
    return ['-blockdev', JSON.stringify({
      driver: 'blkdebug', 'node-name': id, image: {driver: 'raw', file: {driver: 'file', filename: disk.path}},
      'inject-error': [{event: 'none', iotype: 'read', sector: disk.badSector, errno: EIO}]
    })]
  if (disk.logged === undefined)
    return ['-drive', `file=${disk.path.replaceAll(',', ',,')},if=none,id=${id},format=raw,cache=writeback,discard=unmap`]
  // Neither outlives the run: what the disk is afterwards is made of the log.
  const file = (filename: string) => ({driver: 'file', filename, cache: {'no-flush': true}})
  return ['-blockdev', JSON.stringify({
    driver: 'blklogwrites', 'node-name': id, file: {driver: 'raw', file: file(disk.logged.copy)}, log: file(disk.logged.log)
  })]
}

async function answering(monitor: string, stop: AbortSignal): Promise<void> {
  const patience = AbortSignal.timeout(20_000)
  while (!await connects(monitor) && !stop.aborted) {
    if (patience.aborted)
      throw new LaboratoryError('Cannot start QEMU: its monitor does not answer')
    await delay(20)
  }
}

async function connects(path: string): Promise<boolean> {
  return await new Promise(resolve => {
    const socket = connect(path)
    socket.on('connect', () => { socket.destroy(); resolve(true) })
    socket.on('error', () => { resolve(false) })
  })
}

export function identify(pid: number): ProcessIdentity {
  return {pid, startTicks: startTicksOf(pid) ?? ''}
}

/** Field 22 of /proc/PID/stat (proc(5)); null when there is no such process, or only what is left of one. */
export function startTicksOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? null : fields[19] ?? null
  } catch {
    // The process is gone.
    return null
  }
}

export function isAlive(identity: ProcessIdentity): boolean {
  return startTicksOf(identity.pid) === identity.startTicks
}

/** Ends the process at once, as a power cut does, and waits until it is gone. */
export async function killAndWait(identity: ProcessIdentity): Promise<void> {
  while (isAlive(identity)) {
    process.kill(identity.pid, 'SIGKILL')
    await delay(10)
  }
}

const MONITOR_PATIENCE_MS = 10_000

/** Presses keys of the machine's keyboard together, by QEMU's names of them; nobody else may be connected to the monitor. */
export async function pressKeys(monitor: string, ...keys: readonly string[]): Promise<void> {
  await askMonitor(monitor, {execute: 'send-key', arguments: {keys: keys.map(data => ({type: 'qcode', data}))}})
}

/** Asks the machine to give up a disk, as one pulls it out; nobody else may be connected to the monitor. */
export async function unplugDisk(monitor: string, disk: string): Promise<void> {
  await askMonitor(monitor, {execute: 'device_del', arguments: {id: deviceId(disk)}})
}

function deviceId(disk: string): string {
  return `disk-${disk}`
}

async function askMonitor(monitor: string, question: object): Promise<void> {
  const socket = connect(monitor)
  const timer = setTimeout(() => { socket.destroy(new LaboratoryError('QEMU does not answer')) }, MONITOR_PATIENCE_MS)
  try {
    const answers = linesOf(socket)
    await answers.next()
    for (const command of [{execute: 'qmp_capabilities'}, question]) {
      socket.write(`${JSON.stringify(command)}\n`)
      const {value: answer} = await answers.next()
      if (!String(answer).includes('"return"'))
        throw new LaboratoryError(`Cannot ask QEMU for '${JSON.stringify(command)}': ${String(answer)}`)
    }
  } finally {
    clearTimeout(timer)
    socket.destroy()
  }
}

/** Throws when the socket is destroyed, unlike readline, which then waits for ever. */
async function* linesOf(socket: Socket): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of socket) {
    const lines = (rest + String(chunk)).split('\n')
    rest = lines.pop() ?? ''
    yield* lines
  }
}

/** Types on the machine's serial console; what it answers is in the console's log. */
export async function typeText(consoleInput: string, text: string): Promise<void> {
  const socket = connect(consoleInput)
  socket.resume()
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject)
    socket.end(text, resolve)
  })
}

/** Follows the machine until it ends; the monitor knows a power-off from a reboot, such as after a panic. */
export async function waitForEnd(identity: ProcessIdentity, monitor: string, signal: AbortSignal): Promise<QemuEnd> {
  const socket = connect(monitor)
  const stop = () => socket.destroy()
  signal.addEventListener('abort', stop)
  let reason: string | null = null
  try {
    socket.write('{"execute": "qmp_capabilities"}\n')
    try {
      for await (const line of linesOf(socket))
        reason = /"event": "SHUTDOWN".*"reason": "([a-z-]+)"/.exec(line)?.[1] ?? reason
    } catch {
      // The monitor closes with the machine.
    }
    while (isAlive(identity) && !signal.aborted)
      await delay(10)
  } finally {
    signal.removeEventListener('abort', stop)
    socket.destroy()
  }
  signal.throwIfAborted()
  return reason === 'guest-shutdown' ? 'powered-off' : reason === 'guest-reset' ? 'rebooted' : 'gone'
}
