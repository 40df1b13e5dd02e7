import {readFileSync} from 'node:fs'
import {InteractionRequiredError, InvalidArgumentsError, NotAuthorizedError, PermafrostError} from '../errors.js'
import {type BusConnection, type Incoming} from './connection.js'
import {toBusError} from './errors.js'
import {type Introspection} from './introspection.js'
import {HIBERNATE_ACTION, MANAGE_ACTION, MANAGER_INTERFACE, OBJECT_PATH, PROPERTIES_INTERFACE, SNAPSHOT_ACTION} from './names.js'
import {type Authority, type Authorization} from './polkit.js'
import {ALLOW_INTERACTIVE_AUTHORIZATION, Variant} from './wire.js'

export interface CheckRow {
  readonly id: string
  readonly title: string
  readonly passed: boolean
  readonly remedy: string
}

export interface NeededRow {
  readonly pid: number
  readonly command: string
  readonly unit: string | null
  readonly line: string
}

export interface Explanation {
  readonly isNeeded: boolean
  /** Empty when no line picks the process. */
  readonly line: string
  readonly sentence: string
}

export type FigureValue = number | bigint | string | boolean
export type FigureTable = Readonly<Record<string, FigureValue>>

export interface ManagerProperties {
  readonly State: string
  readonly Progress: number
  /** Null while it cannot be told. */
  readonly TimeLeftUSec: bigint | null
  readonly ImageBytes: number | bigint
  readonly LastResult: string
  /** Told apart by programs: '' before the first attempt, else 'resumed', 'merged', 'rolled-back', 'refused' or 'failed'. */
  readonly LastOutcome: string
  readonly LastFigures: FigureTable
}

/** What follows when the image of a snapshot is complete. */
export const THENS = ['halt', 'merge'] as const
export type Then = (typeof THENS)[number]

export interface SnapshotOrder {
  /** Path of a socket on which the caller listens for the image. */
  readonly socket: string
  readonly then: Then
}

/** What the object on the bus stands for. Everything it throws travels as `toBusError` says. */
export interface Manager {
  /** Ends after the resume. */
  hibernate(): Promise<void>
  /** Ends after the resume, or the merge. */
  snapshot(order: SnapshotOrder): Promise<void>
  /** Ends after the way to a snapshot and back; gives what was measured. */
  selfTest(): Promise<FigureTable>
  /** Whether the machine could, whoever asks. */
  canHibernate(): Promise<{readonly answer: 'yes' | 'no' | 'na', readonly reason: string}>
  check(): Promise<readonly CheckRow[]>
  listNeeded(): Promise<readonly NeededRow[]>
  /** Throws a refusal when there is no such process. */
  explainNeeded(pid: number): Promise<Explanation>
  abort(): void
  properties(): ManagerProperties
}

export interface ManagerObjectParts {
  readonly connection: BusConnection
  readonly introspection: Introspection
  readonly authority: Authority
  readonly manager: Manager
  /** Hears of errors that are our own fault; refusals and failures go to the caller alone. */
  readonly onError: (error: unknown) => void
}

/**
 * The object /org/permafrost1. Signatures are those of the XML file: a call that does not have
 * them reaches nobody. Between `pause` and `resume` changes are only remembered, so that
 * afterwards each property is announced once, with its newest value.
 */
export class ManagerObject {
  readonly #parts: ManagerObjectParts
  readonly #changed = new Set<keyof ManagerProperties>()
  #isAnnouncementDue = false

  constructor(parts: ManagerObjectParts) {
    this.#parts = parts
    parts.connection.onCall((call) => {
      void this.#answer(call)
    })
  }

  /** Announces properties, several changes of one turn together. */
  changed(...names: readonly (keyof ManagerProperties)[]): void {
    for (const name of names) this.#changed.add(name)
    if (this.#isAnnouncementDue) return
    this.#isAnnouncementDue = true
    setImmediate(() => {
      this.#isAnnouncementDue = false
      this.#announce()
    })
  }

  signal(member: 'Hibernating'): void
  signal(member: 'Resumed', figures: FigureTable): void
  signal(member: 'Hibernating' | 'Resumed', figures?: FigureTable): void {
    const signature = this.#parts.introspection.interfaces.get(MANAGER_INTERFACE)?.signals.get(member) ?? ''
    const body = figures === undefined ? [] : [figureVariants(figures)]
    this.#parts.connection.emit({path: OBJECT_PATH, interface: MANAGER_INTERFACE, member, signature, body})
  }

  /** Who carries what is announced; it is frozen with everybody else, unless the policy keeps it. */
  get busPid(): number | null {
    return this.#parts.connection.daemonPid
  }

  /** Before the freeze: from here on nothing is written to the bus. */
  pause(): void {
    this.#announce()
    this.#parts.connection.pause()
  }

  /** After the thaw: what was held goes out, in order. */
  resume(): void {
    this.#parts.connection.resume()
    this.#announce()
  }

  #announce(): void {
    if (this.#parts.connection.isPaused || this.#changed.size === 0) return
    const all = this.#propertyVariants()
    const changed = Object.fromEntries([...this.#changed].map((name) => [name, all[name]]))
    this.#changed.clear()
    this.#parts.connection.emit({
      path: OBJECT_PATH,
      interface: PROPERTIES_INTERFACE,
      member: 'PropertiesChanged',
      signature: 'sa{sv}as',
      body: [MANAGER_INTERFACE, changed, []],
    })
  }

  async #answer(call: Incoming): Promise<void> {
    const {connection, onError} = this.#parts
    try {
      const {signature, body} = await this.#dispatch(call)
      connection.reply(call, signature, body)
    } catch (error) {
      const isExpected = error instanceof PermafrostError || error instanceof UnknownCallError
      if (!isExpected) onError(error)
      const {name, text} = error instanceof UnknownCallError ? {name: error.busName, text: error.message} : toBusError(error)
      connection.replyError(call, name, text)
    }
  }

  async #dispatch(call: Incoming): Promise<Reply> {
    const {introspection} = this.#parts
    if (call.path !== OBJECT_PATH) return answerParent(call)
    const candidates = call.interface === '' ? [...introspection.interfaces.keys()] : [call.interface]
    const name = candidates.find((each) => introspection.interfaces.get(each)?.methods.has(call.member) === true)
    const method = name === undefined ? undefined : introspection.interfaces.get(name)?.methods.get(call.member)
    if (name === undefined || method === undefined) {
      throw new UnknownCallError('UnknownMethod', `There is no method '${call.member}' in '${call.interface}'`)
    }
    if (call.signature !== method.input) {
      throw new InvalidArgumentsError(call.member, `its signature is '${method.input}', not '${call.signature}'`)
    }
    const body = await HANDLERS[`${name}.${call.member}`]?.(this.#context(call))
    if (body === undefined) throw new UnknownCallError('UnknownMethod', `Method '${call.member}' is not served`)
    return {signature: method.output, body}
  }

  #context(call: Incoming): Context {
    const {manager, introspection} = this.#parts
    return {
      call,
      manager,
      introspection,
      properties: () => this.#propertyVariants(),
      demand: async (action) => await this.#demand(call, action),
      ask: async (action) => await this.#parts.authority.authorize({sender: call.sender, action, isInteractive: false}),
    }
  }

  async #demand(call: Incoming, action: string): Promise<void> {
    const isInteractive = (call.flags & ALLOW_INTERACTIVE_AUTHORIZATION) !== 0
    const answer = await this.#parts.authority.authorize({sender: call.sender, action, isInteractive})
    if (answer === 'yes') return
    if (answer === 'challenge' && !isInteractive) throw new InteractionRequiredError(call.member)
    throw new NotAuthorizedError(call.member, `polkit does not grant '${action}' to the caller`)
  }

  #propertyVariants(): Readonly<Record<string, Variant>> {
    const {introspection, manager} = this.#parts
    const values = manager.properties()
    const types = introspection.interfaces.get(MANAGER_INTERFACE)?.properties ?? new Map<string, string>()
    return {
      State: new Variant(types.get('State') ?? 's', values.State),
      Progress: new Variant(types.get('Progress') ?? 'd', values.Progress),
      TimeLeftUSec: new Variant(types.get('TimeLeftUSec') ?? 't', values.TimeLeftUSec ?? UNKNOWN_USEC),
      ImageBytes: new Variant(types.get('ImageBytes') ?? 't', BigInt(values.ImageBytes)),
      LastResult: new Variant(types.get('LastResult') ?? 's', values.LastResult.replaceAll('\0', '?')),
      LastOutcome: new Variant(types.get('LastOutcome') ?? 's', values.LastOutcome),
      LastFigures: new Variant(types.get('LastFigures') ?? 'a{sv}', figureVariants(values.LastFigures)),
    }
  }
}

/** As systemd's USEC_INFINITY. */
export const UNKNOWN_USEC = 2n ** 64n - 1n

interface Reply {
  readonly signature: string
  readonly body: readonly unknown[]
}

interface Context {
  readonly call: Incoming
  readonly manager: Manager
  readonly introspection: Introspection
  readonly properties: () => Readonly<Record<string, Variant>>
  /** Throws unless the caller may. */
  readonly demand: (action: string) => Promise<void>
  /** Finds out whether the caller might, without asking anybody. */
  readonly ask: (action: string) => Promise<Authorization>
}

const HANDLERS: Readonly<Record<string, (context: Context) => Promise<readonly unknown[]>>> = {
  [`${MANAGER_INTERFACE}.Hibernate`]: async ({call, manager, demand}) => {
    const unknown = Object.keys(Object(call.body[0]))[0]
    if (unknown !== undefined) throw new InvalidArgumentsError('Hibernate', `there is no option '${unknown}'`)
    await demand(HIBERNATE_ACTION)
    await manager.hibernate()
    return []
  },
  [`${MANAGER_INTERFACE}.Snapshot`]: async ({call, manager, demand}) => {
    const order = {socket: String(call.body[0]), then: parseThen(call.body[1])}
    await demand(SNAPSHOT_ACTION)
    await manager.snapshot(order)
    return []
  },
  [`${MANAGER_INTERFACE}.SelfTest`]: async ({manager, demand}) => {
    await demand(HIBERNATE_ACTION)
    return [figureVariants(await manager.selfTest())]
  },
  [`${MANAGER_INTERFACE}.CanHibernate`]: async ({manager, ask}) => {
    const permission = await ask(HIBERNATE_ACTION)
    if (permission === 'no') return ['no', `polkit does not grant '${HIBERNATE_ACTION}' to the caller`]
    const {answer, reason} = await manager.canHibernate()
    if (answer !== 'yes') return [answer, reason]
    return permission === 'yes' ? ['yes', ''] : ['challenge', 'The caller has to authenticate first']
  },
  [`${MANAGER_INTERFACE}.Check`]: async ({manager}) => {
    const rows = await manager.check()
    return [rows.map(({id, title, passed, remedy}) => [id, title, passed, remedy])]
  },
  [`${MANAGER_INTERFACE}.ListNeeded`]: async ({manager}) => {
    const rows = await manager.listNeeded()
    return [rows.map(({pid, command, unit, line}) => [pid, command, unit ?? '', line])]
  },
  [`${MANAGER_INTERFACE}.ExplainNeeded`]: async ({call, manager}) => {
    const {isNeeded, line, sentence} = await manager.explainNeeded(Number(call.body[0]))
    return [isNeeded, line, sentence]
  },
  [`${MANAGER_INTERFACE}.Abort`]: async ({manager, demand}) => {
    await demand(MANAGE_ACTION)
    manager.abort()
    return []
  },
  [`${PROPERTIES_INTERFACE}.Get`]: async ({call, properties}) => [propertyOf(call, properties())],
  [`${PROPERTIES_INTERFACE}.GetAll`]: async ({call, introspection, properties}) => {
    const name = String(call.body[0])
    if (name !== '' && !introspection.interfaces.has(name)) {
      throw new UnknownCallError('UnknownInterface', `There is no interface '${name}'`)
    }
    return [name === '' || name === MANAGER_INTERFACE ? properties() : {}]
  },
  [`${PROPERTIES_INTERFACE}.Set`]: async ({call, properties}) => {
    propertyOf(call, properties())
    throw new UnknownCallError('PropertyReadOnly', `Property '${String(call.body[1])}' cannot be written`)
  },
  'org.freedesktop.DBus.Introspectable.Introspect': async ({introspection}) => [introspection.xml],
  'org.freedesktop.DBus.Peer.Ping': async () => [],
  'org.freedesktop.DBus.Peer.GetMachineId': async () => [readFileSync('/etc/machine-id', 'utf8').trim()],
}

function parseThen(options: unknown): Then {
  const {then, ...others} = Object(options) as Readonly<Record<string, unknown>>
  const [unknown] = Object.keys(others)
  if (unknown !== undefined) throw new InvalidArgumentsError('Snapshot', `there is no option '${unknown}'`)
  const value = then === undefined ? 'halt' : then instanceof Variant ? then.value : then
  const known = THENS.find((each) => each === value)
  if (known === undefined) throw new InvalidArgumentsError('Snapshot', `'then' is '${String(value)}', expected 'halt' or 'merge'`)
  return known
}

/** One of the specification's own errors for calls that do not exist. */
class UnknownCallError extends Error {
  readonly busName: string

  constructor(name: string, text: string) {
    super(text)
    this.busName = `org.freedesktop.DBus.Error.${name}`
  }
}

function propertyOf(call: Incoming, properties: Readonly<Record<string, Variant>>): Variant {
  const [interfaceName, name] = call.body.map(String)
  if (interfaceName !== '' && interfaceName !== MANAGER_INTERFACE) {
    throw new UnknownCallError('UnknownInterface', `There is no interface '${interfaceName}' with properties`)
  }
  const value = Object.hasOwn(properties, name ?? '') ? properties[name ?? ''] : undefined
  if (value === undefined) throw new UnknownCallError('UnknownProperty', `There is no property '${name}'`)
  return value
}

/** The objects above ours are empty, but walking tools such as `busctl tree` ask them. */
function answerParent(call: Incoming): Reply {
  const child = call.path === '/' ? 'org' : call.path === '/org' ? 'permafrost1' : null
  if (child === null || call.member !== 'Introspect' || call.signature !== '') {
    throw new UnknownCallError('UnknownObject', `There is no object '${call.path}'`)
  }
  return {signature: 's', body: [`<node><node name="${child}"/></node>`]}
}

function figureVariants(figures: FigureTable): Readonly<Record<string, Variant>> {
  return Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, figureVariant(value)]))
}

function figureVariant(value: FigureValue): Variant {
  if (typeof value === 'string') return new Variant('s', value)
  if (typeof value === 'boolean') return new Variant('b', value)
  const isCount = typeof value === 'bigint' || (Number.isSafeInteger(value) && value >= 0)
  return isCount ? new Variant('t', BigInt(value)) : new Variant('d', value)
}
