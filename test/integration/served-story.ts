import {EventEmitter, once} from 'node:events'
import {type ExecutionContext} from 'ava'
import {type AttemptParts, Attempts} from '../../service/attempts.js'
import {PermafrostClient} from '../../service/bus/client.js'
import {BusConnection} from '../../service/bus/connection.js'
import {ManagerObject, type SnapshotOrder} from '../../service/bus/interface.js'
import {readIntrospection} from '../../service/bus/introspection.js'
import {BUS_NAME} from '../../service/bus/names.js'
import {type Authority} from '../../service/bus/polkit.js'
import {NoSuchProcessError} from '../../service/errors.js'
import {type HibernateOutcome, type HibernateRequest} from '../../service/stories/hibernate.js'
import {type SnapshotOutcome, type SnapshotRequest} from '../../service/stories/snapshot.js'
import {startPrivateBus} from './private-bus.js'

/** A story that does what the test says, behind the real object on a bus of its own. */
export class FakeStory implements Pick<AttemptParts, 'hibernate' | 'snapshot' | 'selfTest' | 'check' | 'listNeeded' | 'explainNeeded'> {
  readonly #events = new EventEmitter()
  #started: HibernateRequest[] = []
  calls = 0
  checks = [{id: 'spare', title: 'There is a spare device', passed: true, remedy: ''}]
  recover: () => Promise<string | null> = async () => null
  readonly console: string[] = []
  pressEscape: () => void = () => undefined

  readonly hibernate = async (request: HibernateRequest): Promise<HibernateOutcome> => {
    this.calls += 1
    this.#started.push(request)
    this.#events.emit('started')
    const [outcome] = await once(this.#events, 'end') as [HibernateOutcome | Error]
    if (outcome instanceof Error) throw outcome
    return outcome
  }

  /** What a snapshot does; a test puts its own here. */
  takeSnapshot: (request: SnapshotRequest, order: SnapshotOrder) => Promise<SnapshotOutcome> = async () => ({kind: 'merged', figures: {}})
  readonly snapshot = async (request: SnapshotRequest, order: SnapshotOrder): Promise<SnapshotOutcome> => {
    this.calls += 1
    return await this.takeSnapshot(request, order)
  }

  /** What a self-test does; a test puts its own here. */
  goAndReturn: (request: HibernateRequest) => Promise<HibernateOutcome> = async () => ({kind: 'resumed', figures: {pause_ns: 148_000_000n}})
  readonly selfTest = async (request: HibernateRequest): Promise<HibernateOutcome> => {
    this.calls += 1
    return await this.goAndReturn(request)
  }

  readonly check = async () => this.checks
  readonly explainNeeded = async (pid: number) => {
    if (pid !== 7) throw new NoSuchProcessError(pid)
    return {isNeeded: true, line: '/p.conf:2', sentence: 'A test'}
  }

  readonly listNeeded = async () => [{pid: 7, command: 'rpc.statd', unit: null, line: '/p.conf:2'}]

  async started(): Promise<HibernateRequest> {
    while (this.#started.length === 0) await once(this.#events, 'started')
    const request = this.#started.shift()
    if (request === undefined) throw new Error('no story was started')
    return request
  }

  finish(outcome: HibernateOutcome): void {
    this.#events.emit('end', outcome)
  }

  fail(error: Error): void {
    this.#events.emit('end', error)
  }
}

/** The object on a private bus; `authority` stands for polkit and allows everything unless told otherwise. */
export async function serve(
  t: ExecutionContext,
  {findAuthority = () => ({authorize: async () => 'yes' as const})}: {readonly findAuthority?: (server: BusConnection) => Authority} = {},
) {
  const bus = await startPrivateBus()
  t.teardown(() => bus.stop())
  const server = await BusConnection.connect(bus.address)
  const story = new FakeStory()
  const silent = {info: () => undefined, warning: () => undefined, error: () => undefined, flush: () => undefined}
  const attempts = new Attempts({
    ...story,
    recover: () => story.recover(),
    log: silent,
    openConsole: () => ({write: (line) => story.console.push(line), [Symbol.dispose]: () => undefined}),
    openKeyboards: (onEscape) => {
      story.pressEscape = onEscape
      return {count: 1, [Symbol.dispose]: () => undefined}
    },
  })
  const authority = findAuthority(server)
  attempts.present(new ManagerObject({connection: server, introspection: readIntrospection(), authority, manager: attempts, onError: t.log}))
  await server.requestName(BUS_NAME)
  const client = await PermafrostClient.connect(bus.address)
  return {bus, server, story, attempts, client}
}
