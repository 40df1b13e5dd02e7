import {Attempts} from './attempts.js'
import {BusConnection, systemBusAddress} from './bus/connection.js'
import {toBusError} from './bus/errors.js'
import {type CheckRow, ManagerObject, type SnapshotOrder} from './bus/interface.js'
import {readIntrospection} from './bus/introspection.js'
import {BUS_NAME} from './bus/names.js'
import {polkitAuthority} from './bus/polkit.js'
import {loadConfiguration, parseConfiguration} from './configuration/load.js'
import {openConsole} from './edge/console.js'
import {openFiles} from './edge/files.js'
import {type Log, openJournal} from './edge/journal.js'
import {type Keyboards, openKeyboards} from './edge/keyboard.js'
import {openServiceManager} from './edge/notify.js'
import {openSerialConsoles} from './edge/serial-console.js'
import {openSideDoor, type Refusal, SIDE_DOOR} from './edge/side-door.js'
import {syncDisks} from './edge/sync-disks.js'
import {BusLostError, causeText, FileError} from './errors.js'
import {findNeeded, imageTypeOf, type Machine, openMachine} from './machine.js'
import {explainNeeded} from './policy/explain.js'
import {mergePolicyDirectories} from './policy/merge.js'
import {readProcessTable} from './policy/process-table.js'
import {readSituation} from './policy/situation.js'
import {socketTarget} from './sinks/socket-target.js'
import {hibernate} from './stories/hibernate.js'
import {preflight} from './stories/preflight.js'
import {recover, type RecoveryReport} from './stories/rollback.js'
import {selfTest} from './stories/selftest.js'
import {snapshotRunning} from './stories/snapshot.js'

const log = openJournal({identifier: 'permafrostd'})
const serviceManager = openServiceManager()

// Where no journal is running, lines go there; nobody has to read them.
process.stderr.on('error', () => undefined)

try {
  process.exitCode = await serve()
} catch (error) {
  log.error(causeText(error))
  process.exitCode = 1
}
// An open socket or timer of somebody else must not keep a daemon alive that has said it ends.
process.exit()

/** Serves until it is told to end or the bus is lost; whatever has begun is finished first. */
async function serve(): Promise<number> {
  const termination = terminated()
  const attempts = new Attempts({
    hibernate: async (request) => await hibernate(request, openCurrentMachine(log)),
    snapshot: async (request, order) => await snapshotRunning(request, openSnapshotMachine(log, order)),
    selfTest: async (request) => await selfTest(request, openCurrentMachine(log)),
    recover: async () => describeRecovery(await recover(openRecoveringMachine(log))),
    check: async () => await check(log),
    listNeeded: async () => findNeeded(mergePolicyDirectories(), imageTypeOf(loadConfiguration())),
    explainNeeded: async (pid) => explainNeeded(mergePolicyDirectories(), readProcessTable(), pid, readSituation(imageTypeOf(loadConfiguration()))),
    log,
    openConsole,
    openKeyboards: openAllKeyboards,
  })
  // Before anything that may fail: what a killed daemon left has to be put back even without a bus.
  const recovery = attempts.recover()
  try {
    return await serveOnBus(attempts, {recovery, termination})
  } finally {
    // Whatever the bus does, nobody's file systems stay half put back.
    await attempts.settled()
    log.flush()
  }
}

interface Beginning {
  readonly recovery: Promise<void>
  readonly termination: Promise<'terminated'>
}

async function serveOnBus(attempts: Attempts, {recovery, termination}: Beginning): Promise<number> {
  const connection = await BusConnection.connect(systemBusAddress())
  const object = new ManagerObject({
    connection,
    introspection: readIntrospection(),
    authority: polkitAuthority(connection),
    manager: attempts,
    onError: (error) => log.error(causeText(error), {STACK: error instanceof Error ? String(error.stack) : ''}),
  })
  attempts.present(object)
  await connection.requestName(BUS_NAME)
  await openSideDoorOrSay(() => refusalOf(() => attempts.abort()))
  await recovery
  serviceManager.ready('Waiting for a request')
  const reason = await Promise.race([connection.lost.then(() => 'bus lost' as const), termination])
  serviceManager.stopping('Finishing what has begun')
  if (reason === 'terminated') attempts.abortIfRunning()
  else log.error(new BusLostError().message)
  await attempts.settled()
  await connection.close()
  return reason === 'terminated' ? 0 : 1
}

function openAllKeyboards(onEscape: () => void): Keyboards {
  const all = [openKeyboards(onEscape), openSerialConsoles(onEscape)]
  return {
    count: all.reduce((sum, {count}) => sum + count, 0),
    [Symbol.dispose]() {
      for (const each of all) each[Symbol.dispose]()
    },
  }
}

/** Without it an abort has to come over the bus or from a keyboard. */
async function openSideDoorOrSay(onAbort: () => Refusal): Promise<void> {
  const file = process.env['PERMAFROST_SIDE_DOOR'] ?? SIDE_DOOR
  try {
    await openSideDoor(file, onAbort)
  } catch (error) {
    log.warning(`Cannot listen on '${file}': ${causeText(error)}, ignoring`)
  }
}

function refusalOf(act: () => void): Refusal {
  try {
    act()
    return null
  } catch (error) {
    return toBusError(error)
  }
}

/** The files are read for each request, so that a change needs no restart. */
function openCurrentMachine(log: Log): Machine {
  return openMachine({configuration: loadConfiguration(), policy: mergePolicyDirectories(), log})
}

/** The image goes to the caller's socket, which is not on the network. */
function openSnapshotMachine(log: Log, {socket, then}: SnapshotOrder): Machine {
  const away = {target: socketTarget(socket, 'standard output'), grantsResume: then === 'halt', settle: (signal: AbortSignal) => syncDisks(openFiles(), signal)}
  return openMachine({configuration: loadConfiguration(), policy: mergePolicyDirectories(), log, away})
}

/** A wrong file must not keep anybody's file systems on snapshots. */
function openRecoveringMachine(log: Log): Machine {
  const policy = {rules: []}
  try {
    return openMachine({configuration: loadConfiguration(), policy, log})
  } catch (error) {
    log.error(causeText(error))
    return openMachine({configuration: parseConfiguration([]), policy, log})
  }
}

function describeRecovery({restored}: RecoveryReport): string | null {
  const names = restored.map(({live}) => `'${live}'`).join(', ')
  return restored.length === 0 ? null : `An interrupted hibernation was undone: ${names} put back`
}

async function check(log: Log): Promise<readonly CheckRow[]> {
  let row = {id: 'configuration', title: 'The configuration can be read'}
  try {
    const configuration = loadConfiguration()
    row = {id: 'policy', title: 'The policy can be read'}
    const policy = mergePolicyDirectories()
    return await preflight(openMachine({configuration, policy, log}))
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    return [{...row, passed: false, remedy: error.message}]
  }
}

/** Called before anything is begun, so that an early signal does not cut it off in the middle. */
function terminated(): Promise<'terminated'> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve('terminated'))
  })
}
