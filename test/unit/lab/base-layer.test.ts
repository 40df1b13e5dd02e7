import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test from 'ava'
import {debianSources, hostAptOptions} from '../../lab/base-layer.js'

test.beforeEach(t => {
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-apt-'))
  mkdirSync(join(directory, 'sources.list.d'))
  t.context = directory
})

test.afterEach.always(t => { rmSync(String(t.context), {recursive: true}) })

test('takes Debian 12 from the apt sources of the host, in either form', t => {
  const directory = String(t.context)
  writeFileSync(join(directory, 'sources.list'),
    'deb [signed-by=/k.gpg] http://mirror.test/debian bookworm-security main\n# deb http://mirror.test/x bookworm main\n')
  writeFileSync(join(directory, 'sources.list.d', 'debian.sources'),
    'Types: deb deb-src\n# a remark\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\nComponents: main\n')
  t.is(debianSources(directory), [
    'Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm-security\nComponents: main\nSigned-By: /k.gpg',
    '',
    'Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\nComponents: main',
    ''
  ].join('\n'))
})

test('does not take sources that are switched off or of somebody else', t => {
  const directory = String(t.context)
  writeFileSync(join(directory, 'sources.list'), 'deb http://elsewhere.test/apt cloud-bookworm main\n')
  writeFileSync(join(directory, 'sources.list.d', 'debian.sources'),
    'Enabled: no\nTypes: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\nComponents: main\n')
  t.throws(() => debianSources(directory), {message: /Cannot find Debian 12/})
})

test('hands on how the host reaches its mirror and nothing else', t => {
  const dump = 'APT::Architecture "amd64";\nAcquire::http::Proxy "http://proxy.test:3128";\nAcquire::https "";\n'
  t.deepEqual(hostAptOptions(dump), ['--aptopt=Acquire::http::Proxy "http://proxy.test:3128"'])
})
