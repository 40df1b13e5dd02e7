import {execFile} from 'node:child_process'
import {existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import {promisify} from 'node:util'
import test, {type ExecutionContext} from 'ava'
import {loadConfiguration} from '../../service/configuration/load.js'
import {mergePolicyDirectories} from '../../service/policy/merge.js'

const run = promisify(execFile)

test('puts the units below a root directory and enables the daemon', async (t) => {
  const root = await install(t)
  const hibernate = readFileSync(path.join(root, 'usr/lib/systemd/system/systemd-hibernate.service.d/50-permafrost.conf'), 'utf8')
  t.regex(hibernate, /^ExecStart=\nExecStart=\/usr\/lib\/permafrost\/sleep$/m)
  const logind = readFileSync(path.join(root, 'usr/lib/systemd/system/systemd-logind.service.d/50-permafrost.conf'), 'utf8')
  t.regex(logind, /^Environment=SYSTEMD_BYPASS_HIBERNATION_MEMORY_CHECK=1$/m)
  const wanted = path.join(root, 'etc/systemd/system/multi-user.target.wants/permafrostd.service')
  t.true(existsSync(path.join(root, readlinkSync(wanted))))
  t.true(existsSync(path.join(root, 'usr/lib/systemd/system/sysinit.target.wants/permafrost-merge.service')))
  t.is(statSync(path.join(root, 'usr/bin/permafrost')).mode & 0o777, 0o755)
})

test('ships a configuration that says nothing but the defaults, and a policy that can be read', async (t) => {
  const root = await install(t)
  const directories = [path.join(root, 'usr/lib/permafrost'), path.join(root, 'etc/permafrost')]
  t.deepEqual(loadConfiguration(directories), loadConfiguration([]))
  t.true(mergePolicyDirectories(directories).rules.length > 0)
})

test('keeps what the administrator wrote when it is installed again', async (t) => {
  const root = await install(t)
  const file = path.join(root, 'etc/permafrost/permafrost.conf')
  writeFileSync(file, '[Image]\nSpare=/dev/mine\n')
  await run('bash', ['units/install.sh', root])
  t.is(readFileSync(file, 'utf8'), '[Image]\nSpare=/dev/mine\n')
})

test('refuses to be called without a root directory', async (t) => {
  await t.throwsAsync(run('bash', ['units/install.sh']), {message: /usage/})
})

for (const name of ['permafrostd.service', 'permafrost-merge.service', 'permafrost-receive.service']) {
  test(`systemd finds no fault with ${name}`, async (t) => {
    const root = await install(t)
    const {stderr} = await run('systemd-analyze', ['verify', '--man=no', '--recursive-errors=no', path.join(root, 'usr/lib/systemd/system', name)])
      .catch((error: unknown) => ({stderr: String(Reflect.get(Object(error), 'stderr'))}))
    t.notRegex(stderr, /Unknown|Failed to parse|ignoring/i)
  })
}

async function install(t: ExecutionContext): Promise<string> {
  const root = mkdtempSync(path.join(tmpdir(), 'permafrost-install-'))
  t.teardown(() => rmSync(root, {recursive: true}))
  await run('bash', ['units/install.sh', root])
  return root
}
