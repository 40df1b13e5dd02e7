import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {type Arguments, demandRoot, EXIT_DONE, EXIT_FAILED, type Surroundings, toJson} from './verb.js'

/** units/sleep, which systemd-hibernate.service runs as well. */
const SLEEP = '/usr/lib/permafrost/sleep'

/** Ends after the resume or the roll-back, with the status of the program that asks the daemon. */
export async function hibernate({flags}: Arguments, surroundings: Surroundings): Promise<number> {
  demandRoot(surroundings, 'hibernate')
  await using client = await surroundings.connect()
  const child = spawn(SLEEP, [], {stdio: ['ignore', 'ignore', 'inherit']})
  using _passedOn = passSignalsOn((signal) => child.kill(signal))
  const [code]: readonly unknown[] = await once(child, 'exit')
  const status = typeof code === 'number' ? code : EXIT_FAILED
  if (flags.has('json')) {
    const {LastResult, LastFigures} = await client.properties()
    surroundings.print(toJson(status === EXIT_DONE ? {ok: true, figures: LastFigures} : {ok: false, reason: LastResult}))
  }
  return status
}

/** Ctrl-C means "do not": the hibernation is rolled back, and then the child ends. */
function passSignalsOn(pass: (signal: NodeJS.Signals) => void): Disposable {
  process.on('SIGINT', pass)
  process.on('SIGTERM', pass)
  return {
    [Symbol.dispose]() {
      process.off('SIGINT', pass)
      process.off('SIGTERM', pass)
    },
  }
}
