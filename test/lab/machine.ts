// A machine of the laboratory: a directory with its disks, its console, and what is known of its QEMU.
import {createHash} from 'node:crypto'
import {appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {setTimeout as delay} from 'node:timers/promises'
import {openSession, PORT_COUNT, type AgentSession, type Command, type CommandEnd} from './agent.js'
import {cacheDirectory} from './cache.js'
import type {Disk} from './disks.js'
import {MachineError, messageOf, SilenceError, UsageError} from './errors.js'
import type {Figures} from './figures.js'
import {lock, type FileLock} from './lock.js'
import type {Network} from './network.js'
import {isAlive, lastKiller, startQemu, pressKeys, typeText, unplugDisk, waitForEnd, type ProcessIdentity, type QemuEnd} from './qemu.js'

const AGENT_PATIENCE_MS = 20_000
const LOCK_PATIENCE_MS = 5_000

/** A boot takes 20 times as long, but the limits of what this is for are generous. */
const DEBUG_SLOWNESS = 10

/** Blocked tasks and processors, see Documentation/admin-guide/sysrq.rst; and how long printing them may take. */
const SYSRQ_KEYS = ['w', 'l']
const SYSRQ_MS = 3_000

/** What is kept of a machine between two commands. */
export interface MachineState {
  readonly memoryMib: number
  readonly cpus: number
  /** Given from outside; null where the first disk has a boot loader. */
  readonly kernel: string | null
  readonly initrd: string | null
  /** Whether that is the debugging kernel. */
  readonly isDebug: boolean
  readonly disks: readonly Disk[]
  /** null for a machine that is alone. */
  readonly network: Network | null
  readonly boots: number
  readonly qemu: ProcessIdentity | null
  /** The agent that answered last: who answers after a resume must be the same. */
  readonly agentIdentity: string | null
  /** The process whose end is the machine's end, too: a test or the demo; null for machines that stay. */
  readonly owner: ProcessIdentity | null
  /** What the last hibernation cost. */
  readonly figures: Figures
}

export interface RunOptions {
  /** Ends the wait for the agent's first answer; for a machine that may be frozen or about to go. */
  readonly signal?: AbortSignal
  /** Silence is no surprise: the kernel is not asked what it is at. */
  readonly maySayNothing?: boolean
}

/** One machine by its name; all methods read what is on disk now, so that several processes can work with it. */
export class Machine {
  readonly name: string
  readonly directory: string

  constructor(name: string) {
    if (!/^[a-z0-9][a-z0-9-]{0,40}$/i.test(name))
      throw new UsageError(`Cannot name a machine '${name}': letters, digits and '-' only`)
    this.name = name
    this.directory = join(machinesDirectory(), name)
  }

  get consoleLog(): string {
    return join(this.directory, 'console.log')
  }

  /** The signal that ended its last QEMU, for words about a machine that is gone; null when nobody here saw one. */
  get killer(): string | null {
    return lastKiller(this.#qemuLog)
  }

  get exists(): boolean {
    return existsSync(this.#stateFile)
  }

  get state(): MachineState {
    if (!this.exists)
      throw new UsageError(`There is no machine '${this.name}'; 'up ${this.name}' makes one`)
    return JSON.parse(readFileSync(this.#stateFile, 'utf8')) as MachineState
  }

  /** One of its disks, by its name; throws MachineError where it has none of that name. */
  disk(name: string): Disk {
    const found = this.state.disks.find(each => each.name === name)
    if (found === undefined)
      throw new MachineError(`Machine '${this.name}' has no disk '${name}'`)
    return found
  }

  get isRunning(): boolean {
    const qemu = this.exists ? this.state.qemu : null
    return qemu !== null && isAlive(qemu)
  }

  /** How many times as long as on the usual kernel something may take before it counts as hanging. */
  get slowness(): number {
    return this.state.isDebug ? DEBUG_SLOWNESS : 1
  }

  /** Verbs that change the machine hold this; commands in it do not. */
  async lock(): Promise<FileLock> {
    const file = join(machinesDirectory(), `.${this.name}.lock`)
    return await lock(file, `machine '${this.name}'`, AbortSignal.timeout(LOCK_PATIENCE_MS))
  }

  update(change: Partial<MachineState>): void {
    this.write({...this.state, ...change})
  }

  write(state: MachineState): void {
    writeFileSync(`${this.#stateFile}.draft`, JSON.stringify(state, null, 2))
    renameSync(`${this.#stateFile}.draft`, this.#stateFile)
  }

  /** Starts QEMU on the machine's disks. */
  async start(options: {readonly commandLine: string, readonly diesWithStarter: boolean}): Promise<void> {
    const state = this.state
    const boots = state.boots + 1
    rmSync(this.#sockets, {recursive: true, force: true})
    mkdirSync(this.#sockets, {recursive: true, mode: 0o700})
    appendFileSync(this.consoleLog, `\n==== boot ${boots} of ${this.name}\n`)
    const qemu = await startQemu({
      ...state,
      ...options,
      consoleLog: this.consoleLog,
      consoleInput: this.#consoleInput,
      qemuLog: this.#qemuLog,
      monitor: this.#monitor,
      agentPorts: this.#agentPorts
    })
    this.update({boots, qemu})
  }

  /** Opens a session with the agent; the machine must be running. */
  async session(signal: AbortSignal = AbortSignal.timeout(AGENT_PATIENCE_MS)): Promise<AgentSession> {
    if (this.state.qemu === null || !this.isRunning)
      throw new MachineError(`Machine '${this.name}' is not running`)
    return await openSession(this.#agentPorts, signal)
  }

  /** Runs one command in it. Throws SilenceError, with what the kernel is at, when the machine hangs meanwhile. */
  async run(command: Command, {signal, maySayNothing = false}: RunOptions = {}): Promise<CommandEnd> {
    using session = await this.session(signal)
    try {
      return await session.run(command)
    } catch (thrown) {
      if (!(thrown instanceof SilenceError) || maySayNothing)
        throw thrown
      throw new SilenceError(`${thrown.message}; ${await this.whatItIsAt()}`, {cause: thrown})
    }
  }

  /** Has the kernel say on the console who sleeps uninterruptibly and what its processors are at. */
  async whatItIsAt(): Promise<string> {
    const before = this.consoleText().length
    try {
      for (const key of SYSRQ_KEYS) {
        await pressKeys(this.#monitor, 'alt', 'sysrq', key)
        await delay(SYSRQ_MS)
      }
    } catch (thrown) {
      return `and cannot be asked why: ${messageOf(thrown)}`
    }
    return `its console says:\n${this.consoleText().slice(before)}`
  }

  /** Waits until the machine ends by itself. */
  async ended(signal: AbortSignal): Promise<QemuEnd> {
    const qemu = this.state.qemu
    return qemu === null || !isAlive(qemu) ? 'gone' : await waitForEnd(qemu, this.#monitor, signal)
  }

  async press(key: string): Promise<void> {
    await pressKeys(this.#monitor, key)
  }

  async unplug(disk: string): Promise<void> {
    await unplugDisk(this.#monitor, disk)
  }

  async type(text: string): Promise<void> {
    await typeText(this.#consoleInput, text)
  }

  /** The console of all boots. */
  consoleText(): string {
    return existsSync(this.consoleLog) ? readFileSync(this.consoleLog, 'latin1') : ''
  }

  /** The console of the boot under way, or of the last one. */
  consoleOfLastBoot(): string {
    const text = this.consoleText()
    return text.slice(text.lastIndexOf('\n==== boot ') + 1)
  }

  removeSockets(): void {
    rmSync(this.#sockets, {recursive: true, force: true})
  }

  wipe(): void {
    this.removeSockets()
    rmSync(this.directory, {recursive: true, force: true})
  }

  get #qemuLog(): string {
    return join(this.directory, 'qemu.log')
  }

  get #stateFile(): string {
    return join(this.directory, 'machine.json')
  }

  /** Not in the machine's directory: the name of a socket may have 107 bytes only (unix(7)). */
  get #sockets(): string {
    const id = createHash('sha256').update(this.directory).digest('hex').slice(0, 12)
    return join(tmpdir(), `permafrost-lab-${id}`)
  }

  get #monitor(): string {
    return join(this.#sockets, 'monitor')
  }

  get #consoleInput(): string {
    return join(this.#sockets, 'console')
  }

  get #agentPorts(): string[] {
    return Array.from({length: PORT_COUNT}, (_, index) => join(this.#sockets, `agent${index}`))
  }
}

export function machinesDirectory(): string {
  const directory = join(cacheDirectory(), 'machines')
  mkdirSync(directory, {recursive: true})
  return directory
}

export function allMachines(): Machine[] {
  return readdirSync(machinesDirectory(), {withFileTypes: true})
    .filter(entry => entry.isDirectory())
    .map(entry => new Machine(entry.name))
}
