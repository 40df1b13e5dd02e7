import {DaemonGoneError, DaemonMissingError, PermafrostError, TimedOutError} from '../errors.js'
import {BusConnection, type Incoming, systemBusAddress} from './connection.js'
import {
  type CheckRow, type Explanation, type FigureTable, type FigureValue, type ManagerProperties, type NeededRow, type SnapshotOrder, UNKNOWN_USEC,
} from './interface.js'
import {BUS_NAME, MANAGER_INTERFACE, OBJECT_PATH, PROPERTIES_INTERFACE} from './names.js'
import {ALLOW_INTERACTIVE_AUTHORIZATION, Variant} from './wire.js'

const TIMEOUT_MS = 25_000
/** The preflight looks at every file system. */
const CHECK_TIMEOUT_MS = 60_000

/** The daemon, seen from the command line. */
export class PermafrostClient implements AsyncDisposable {
  readonly #connection: BusConnection

  private constructor(connection: BusConnection) {
    this.#connection = connection
  }

  /** Throws DaemonMissingError when there is no bus at all. */
  static async connect(address = systemBusAddress()): Promise<PermafrostClient> {
    try {
      return new PermafrostClient(await BusConnection.connect(address))
    } catch (error) {
      throw new DaemonMissingError({cause: error})
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection.close()
  }

  /** Ends after the resume, however long that takes. */
  async hibernate(): Promise<void> {
    await this.#call({member: 'Hibernate', signature: 'a{sv}', body: [{}], timeoutMs: null})
  }

  /** Ends after the resume, or the merge. */
  async snapshot({socket, then}: SnapshotOrder): Promise<void> {
    const options = {then: new Variant('s', then)}
    await this.#call({member: 'Snapshot', signature: 'sa{sv}', body: [socket, options], timeoutMs: null})
  }

  /** Ends after the way to a snapshot and back; gives what was measured. */
  async selfTest(): Promise<FigureTable> {
    const [figures] = await this.#call({member: 'SelfTest', timeoutMs: null})
    return figureTable(figures)
  }

  async canHibernate(): Promise<{readonly answer: string, readonly reason: string}> {
    const [answer, reason] = await this.#call({member: 'CanHibernate', timeoutMs: CHECK_TIMEOUT_MS})
    return {answer: String(answer), reason: String(reason)}
  }

  async check(): Promise<readonly CheckRow[]> {
    const [rows] = await this.#call({member: 'Check', timeoutMs: CHECK_TIMEOUT_MS})
    return structs(rows).map(([id, title, passed, remedy]) => ({
      id: String(id), title: String(title), passed: passed === true, remedy: String(remedy),
    }))
  }

  async listNeeded(): Promise<readonly NeededRow[]> {
    const [rows] = await this.#call({member: 'ListNeeded', timeoutMs: CHECK_TIMEOUT_MS})
    return structs(rows).map(([pid, command, unit, line]) => ({
      pid: Number(pid), command: String(command), unit: unit === '' ? null : String(unit), line: String(line),
    }))
  }

  async explainNeeded(pid: number): Promise<Explanation> {
    const [isNeeded, line, sentence] = await this.#call({
      member: 'ExplainNeeded', signature: 'u', body: [pid], timeoutMs: CHECK_TIMEOUT_MS,
    })
    return {isNeeded: isNeeded === true, line: String(line), sentence: String(sentence)}
  }

  async abort(): Promise<void> {
    await this.#call({member: 'Abort', timeoutMs: TIMEOUT_MS})
  }

  async properties(): Promise<ManagerProperties> {
    const [all] = await this.#call({
      interface: PROPERTIES_INTERFACE, member: 'GetAll', signature: 's', body: [MANAGER_INTERFACE], timeoutMs: TIMEOUT_MS,
    })
    const values = plain(all)
    return {
      State: String(values['State'] ?? ''),
      Progress: Number(values['Progress'] ?? 0),
      TimeLeftUSec: timeLeft(values['TimeLeftUSec']),
      ImageBytes: Number(values['ImageBytes'] ?? 0),
      LastResult: String(values['LastResult'] ?? ''),
      LastOutcome: String(values['LastOutcome'] ?? ''),
      LastFigures: figureTable(values['LastFigures']),
    }
  }

  /** Calls `onChange` whenever a property has changed; resolves when the bus is lost. */
  async watch(onChange: () => void): Promise<void> {
    this.#connection.onSignal((signal: Incoming) => {
      if (signal.path === OBJECT_PATH && signal.member === 'PropertiesChanged') onChange()
    })
    await this.#connection.addMatch(
      `type='signal',sender='${BUS_NAME}',path='${OBJECT_PATH}',interface='${PROPERTIES_INTERFACE}',member='PropertiesChanged'`,
    )
    await this.#connection.lost
  }

  async #call(call: {
    readonly member: string
    readonly interface?: string
    readonly signature?: string
    readonly body?: readonly unknown[]
    readonly timeoutMs: number | null
  }): Promise<readonly unknown[]> {
    try {
      return await this.#connection.call({
        destination: BUS_NAME,
        path: OBJECT_PATH,
        interface: MANAGER_INTERFACE,
        flags: ALLOW_INTERACTIVE_AUTHORIZATION,
        ...call,
      })
    } catch (error) {
      if (!(error instanceof PermafrostError)) throw error
      if (isUnknownService(error.busName) || isFailedStart(error.busName)) throw new DaemonMissingError({cause: error})
      if (error.busName === NO_REPLY && !(error instanceof TimedOutError)) throw new DaemonGoneError({cause: error})
      throw error
    }
  }
}

/** What the bus says in the place of a service that ended with a call unanswered. */
const NO_REPLY = 'org.freedesktop.DBus.Error.NoReply'

function isUnknownService(busName: string): boolean {
  return /^org\.freedesktop\.DBus\.Error\.(ServiceUnknown|NameHasNoOwner)$/.test(busName)
}

function isFailedStart(busName: string): boolean {
  return /^org\.freedesktop\.(DBus\.Error\.(Spawn\..*|TimedOut)|systemd1\..*)$/.test(busName)
}

function structs(value: unknown): readonly (readonly unknown[])[] {
  return Array.isArray(value) ? value.map((row: unknown): readonly unknown[] => (Array.isArray(row) ? row : [])) : []
}

/** A D-Bus dictionary of variants as plain values. */
function plain(value: unknown): Readonly<Record<string, unknown>> {
  const entries = Object.entries(Object(value)) as readonly (readonly [string, unknown])[]
  return Object.fromEntries(entries.map(([name, each]) => [name, each instanceof Variant ? each.value : each]))
}

function timeLeft(value: unknown): bigint | null {
  return typeof value === 'bigint' && value !== UNKNOWN_USEC ? value : null
}

function figureTable(value: unknown): FigureTable {
  return Object.fromEntries(Object.entries(plain(value)).map(([name, each]) => [name, figureValue(each)]))
}

function figureValue(value: unknown): FigureValue {
  if (typeof value === 'bigint') return Number(value)
  return typeof value === 'number' || typeof value === 'boolean' ? value : String(value)
}
