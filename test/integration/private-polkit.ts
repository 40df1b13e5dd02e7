import {type ChildProcess, execFile, spawn} from 'node:child_process'
import {once} from 'node:events'
import {copyFileSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import {promisify} from 'node:util'
import {type PrivateBus} from './private-bus.js'

const run = promisify(execFile)

/** Debian's polkitd on a private bus, with our actions, and one rule of the test's own. */
export interface PrivatePolkit {
  readonly daemon: ChildProcess
  stop(): Promise<void>
}

const POLKITD = '/usr/lib/polkit-1/polkitd'
/** polkitd has its directories built in, so it gets others put over them where nobody else sees it. */
const START = `
mount --bind "$1/actions" /usr/share/polkit-1/actions
mount --bind "$1/rules" /etc/polkit-1/rules.d
exec ${POLKITD} --no-debug
`

/** `rule` is the body of a JavaScript function of `action` and `subject`, as in polkit(8). */
export async function startPrivatePolkit(bus: PrivateBus, rule: string): Promise<PrivatePolkit> {
  const directory = mkdtempSync(path.join(tmpdir(), 'permafrost-polkit-'))
  await run('mkdir', ['-p', `${directory}/actions`, `${directory}/rules`])
  copyFileSync('units/polkit/org.permafrost1.policy', `${directory}/actions/org.permafrost1.policy`)
  writeFileSync(`${directory}/rules/10-test.rules`, `polkit.addRule(function(action, subject) {${rule}});\n`)
  await run('chmod', ['-R', 'a+rX', directory])
  const daemon = spawn('unshare', ['--mount', '--propagation=private', 'sh', '-euc', START, 'sh', directory], {
    env: {...process.env, DBUS_SYSTEM_BUS_ADDRESS: bus.address},
    stdio: 'ignore',
  })
  await untilServed(bus, daemon)
  return {
    daemon,
    async stop() {
      if (daemon.exitCode === null && daemon.signalCode === null) {
        daemon.kill('SIGKILL')
        await once(daemon, 'exit')
      }
      rmSync(directory, {recursive: true, force: true})
    },
  }
}

/** Polls until it has its name; 20 s are many times what that takes. */
async function untilServed(bus: PrivateBus, daemon: ChildProcess): Promise<void> {
  const deadline = AbortSignal.timeout(20_000)
  while (daemon.exitCode === null && !deadline.aborted) {
    if ((await bus.busctl('list', '--no-legend')).includes('org.freedesktop.PolicyKit1 ')) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`polkitd does not serve: it ended with ${String(daemon.exitCode)}`)
}
