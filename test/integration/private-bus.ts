import {type ChildProcess, execFile, spawn} from 'node:child_process'
import {once} from 'node:events'
import {chmodSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import {promisify} from 'node:util'

const run = promisify(execFile)

/** A system bus of one test's own, with `busctl` to look at it from outside. */
export interface PrivateBus {
  readonly address: string
  readonly daemon: ChildProcess
  /** What `busctl` prints; rejects with its `stderr` when it fails. */
  busctl(...parameters: readonly string[]): Promise<string>
  stop(): Promise<void>
}

export async function startPrivateBus(): Promise<PrivateBus> {
  const directory = mkdtempSync(path.join(tmpdir(), 'permafrost-bus-'))
  chmodSync(directory, 0o755) // For callers that are not root.
  const address = `unix:path=${path.join(directory, 'bus')}`
  const configuration = path.join(directory, 'bus.conf')
  writeFileSync(configuration, `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>${address}</listen>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/>
<allow receive_sender="*" eavesdrop="true"/></policy></busconfig>`)
  const daemon = spawn('dbus-daemon', [`--config-file=${configuration}`, '--nofork', '--nosyslog', '--print-address'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  await once(daemon.stdout, 'data')
  return {
    address,
    daemon,
    async busctl(...parameters) {
      const {stdout} = await run('busctl', [`--address=${address}`, ...parameters])
      return stdout
    },
    async stop() {
      if (daemon.exitCode === null && daemon.signalCode === null) {
        daemon.kill('SIGKILL')
        await once(daemon, 'exit')
      }
      rmSync(directory, {recursive: true, force: true})
    },
  }
}
