import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {onInterrupt} from './interrupt.js'
import {type Arguments, demandRoot, EXIT_DONE, EXIT_FAILED, type Surroundings, toJson} from './verb.js'

/** units/sleep, which systemd-hibernate.service runs as well. */
const SLEEP = '/usr/lib/permafrost/sleep'

/** Ends after the resume or the roll-back, with the status of the program that asks the daemon. */
export async function hibernate({flags}: Arguments, surroundings: Surroundings): Promise<number> {
  demandRoot(surroundings, 'hibernate')
  await startDaemon()
  await using client = await surroundings.connect()
  const child = spawn(SLEEP, [], {stdio: ['ignore', 'ignore', 'pipe']})
  const said: string[] = []
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said.push(text)
    process.stderr.write(text)
  })
  using _passedOn = onInterrupt((signal) => child.kill(signal))
  const [code]: readonly unknown[] = await once(child, 'close')
  const status = typeof code === 'number' ? code : EXIT_FAILED
  if (flags.has('json')) {
    const {LastFigures} = await client.properties()
    surroundings.print(toJson(status === EXIT_DONE ? {ok: true, figures: LastFigures} : {ok: false, reason: lastLine(said.join(''))}))
  }
  return status
}

/**
 * The bus waits 25 s for a service it starts (dbus-daemon(1), service_start_timeout), systemd as long as the unit says: a roll-back
 * that was cut off may have to be finished. Why it does not start is told by the call that follows.
 */
async function startDaemon(): Promise<void> {
  const child = spawn('systemctl', ['start', 'permafrostd.service'], {stdio: 'ignore'})
  await once(child, 'close').catch(() => undefined)
}

/** Why it did not hibernate: warnings of the way come before it. */
function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? ''
}
