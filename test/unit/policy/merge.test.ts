import {mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {PolicyError} from '../../../service/errors.js'
import {mergePolicyDirectories} from '../../../service/policy/merge.js'

test('merges by name, replaces by directory and leaves masked files out', (t) => {
  const [vendor, admin] = directories(t)
  write(vendor, '10-a.conf', 'a-vendor')
  write(vendor, '20-b.conf', 'b-vendor')
  write(vendor, '30-c.conf', 'c-vendor')
  write(admin, '15-d.conf', 'd-admin')
  write(admin, '20-b.conf', 'b-admin')
  symlinkSync('/dev/null', path.join(admin, 'policy.d/30-c.conf'))
  const policy = mergePolicyDirectories([vendor, admin])
  t.deepEqual(policy.rules.flatMap(({selectors}) => selectors.map(({value}) => value)), ['a-vendor', 'd-admin', 'b-admin'])
  t.is(policy.rules[2]?.origin.file, path.join(admin, 'policy.d/20-b.conf'))
})

test('refuses the whole policy when one file is wrong', (t) => {
  const [vendor, admin] = directories(t)
  write(vendor, '10-a.conf', 'fine')
  writeFileSync(path.join(admin, 'policy.d/90-z.conf'), '[Needed]\nComm=fine\nUnit=nonsense\n')
  const error = t.throws(() => mergePolicyDirectories([vendor, admin]), {instanceOf: PolicyError})
  t.like(error, {file: path.join(admin, 'policy.d/90-z.conf'), line: 3, value: 'nonsense'})
})

function write(directory: string, name: string, comm: string): void {
  writeFileSync(path.join(directory, 'policy.d', name), `[Needed]\nComm=${comm}\n`)
}

function directories(t: ExecutionContext): readonly [string, string] {
  const root = mkdtempSync(path.join(tmpdir(), 'permafrost-policy-'))
  t.teardown(() => rmSync(root, {recursive: true}))
  const vendor = path.join(root, 'vendor')
  const admin = path.join(root, 'admin')
  for (const directory of [vendor, admin]) mkdirSync(path.join(directory, 'policy.d'), {recursive: true})
  return [vendor, admin]
}
