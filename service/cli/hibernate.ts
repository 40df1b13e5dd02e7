import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {type PermafrostClient} from '../bus/client.js'
import {type Log} from '../edge/journal.js'
import {causeText, RefusedError} from '../errors.js'
import {runSleepHooks} from './sleep-hooks.js'
import {type Arguments, demandRoot, EXIT_DONE, type Surroundings, toJson} from './verb.js'

// SD_MESSAGE_SLEEP_START and _STOP of systemd's sd-messages.h: what other programs look for.
const SLEEP_START = '6bbd95ee977941e497c48be27c254128'
const SLEEP_STOP = '8811e6df2a8e40f58a94cea26f8ebf14'

/**
 * What systemd-hibernate.service runs in the place of `systemd-sleep hibernate`, and does what
 * that did around the sleep itself: hooks, homes, journal. It ends after the resume or the roll-back.
 */
export async function hibernate({flags}: Arguments, surroundings: Surroundings): Promise<number> {
  demandRoot(surroundings, 'hibernate')
  // The disks have something to do while we find the daemon, and it judges while we load the rest.
  const synced = sync()
  await using client = await surroundings.connect()
  const [{answer, reason}, {openJournal}] = await Promise.all([client.canHibernate(), import('../edge/journal.js'), synced])
  if (answer !== 'yes') throw new RefusedError(reason)
  const log = openJournal({identifier: 'permafrost'})
  const complain = (sentence: string): void => log.warning(sentence)
  using _abort = abortOnSignal(client, complain)
  await runSleepHooks({phase: 'pre', onComplaint: complain})
  try {
    await lockHomes(client, complain)
    await sleep(client, log)
  } finally {
    await runSleepHooks({phase: 'post', onComplaint: complain})
  }
  if (flags.has('json')) surroundings.print(toJson({ok: true, figures: (await client.properties()).LastFigures}))
  return EXIT_DONE
}

async function sleep(client: PermafrostClient, log: Log): Promise<void> {
  log.info("Entering sleep state 'hibernate'...", {MESSAGE_ID: SLEEP_START, SLEEP: 'hibernate'})
  try {
    await client.hibernate()
    log.info('System returned from sleep state.', {MESSAGE_ID: SLEEP_STOP, SLEEP: 'hibernate'})
  } catch (error) {
    const text = `Failed to put system to sleep. System resumed again: ${causeText(error)}`
    log.error(text, {MESSAGE_ID: SLEEP_STOP, SLEEP: 'hibernate'})
    throw error
  }
}

async function lockHomes(client: PermafrostClient, complain: (sentence: string) => void): Promise<void> {
  try {
    await client.lockAllHomes()
  } catch (error) {
    complain(`Cannot lock home directories: ${causeText(error)}, ignoring`)
  }
}

/** So that little is left to write when the kernel suspends the file systems. Never throws. */
async function sync(): Promise<void> {
  try {
    await once(spawn('sync', {stdio: 'ignore'}), 'exit')
  } catch {
    // It could not be started: then the kernel writes all of it itself.
  }
}

/** `systemctl stop` and Ctrl-C mean "do not": the story is rolled back, and its reply ends us. */
function abortOnSignal(client: PermafrostClient, complain: (sentence: string) => void): Disposable {
  const abort = (): void => {
    client.abort().catch((error: unknown) => complain(causeText(error)))
  }
  process.on('SIGINT', abort)
  process.on('SIGTERM', abort)
  return {
    [Symbol.dispose]() {
      process.off('SIGINT', abort)
      process.off('SIGTERM', abort)
    },
  }
}
