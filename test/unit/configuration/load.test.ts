import {chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import path from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {loadConfiguration, parseConfiguration} from '../../../service/configuration/load.js'
import {parseSize, parseTimeSpan} from '../../../service/configuration/values.js'
import {ConfigurationError, UnreadableFileError, UntrustedFileError} from '../../../service/errors.js'

const parse = (text: string) => parseConfiguration([{file: '/etc/x.conf', text}])

test('gives the defaults when nothing is configured', (t) => {
  t.deepEqual(parseConfiguration([]), {
    spareDevice: null,
    target: null,
    targetTimeoutMs: 30_000,
    overheadBytes: 24 * 2 ** 20,
    dropsPageCache: true,
    freezeTimeoutMs: 20_000,
    compressionThreads: 0,
    isCompressionAdaptive: false,
  })
})

test('reads every key into its field', (t) => {
  const text = '[Image]\nSpare=/dev/vdb\nTarget=tcp://store.example:7117/laptop\nTargetTimeoutSec=5\n[Memory]\nOverhead=128M\nDropPageCache=no\n' +
    '[Freeze]\nFreezeTimeoutSec=1min 30s\n[Compression]\nThreads=3\nAdaptive=on'
  t.deepEqual(parse(text), {
    spareDevice: '/dev/vdb',
    target: {kind: 'tcp', text: 'tcp://store.example:7117/laptop', host: 'store.example', port: 7117, name: 'laptop'},
    targetTimeoutMs: 5000,
    overheadBytes: 128 * 2 ** 20,
    dropsPageCache: false,
    freezeTimeoutMs: 90_000,
    compressionThreads: 3,
    isCompressionAdaptive: true,
  })
})

test('brings the default back with an empty assignment', (t) => {
  t.is(parse('[Image]\nSpare=/dev/vdb\nSpare=').spareDevice, null)
})

for (const {text, line, value, expected} of [
  {text: '[Image]\nSpare=vdb', line: 2, value: 'vdb', expected: /device/},
  {text: '[Image]\nSpare=/dev/../etc/passwd', line: 2, value: '/dev/../etc/passwd', expected: /device/},
  {text: '[Image]\nTarget=http://host/x', line: 2, value: 'http://host/x', expected: /tcp:/},
  {text: '[Image]\nTarget=tcp://host:7117/../x', line: 2, value: 'tcp://host:7117/../x', expected: /tcp:/},
  {text: '[Image]\nTarget=tls://host:99999/x', line: 2, value: 'tls://host:99999/x', expected: /tls:/},
  {text: '[Image]\nTarget=command:', line: 2, value: 'command:', expected: /command:COMMAND/},
  {text: '[Memory]\n\nOverhead=lots', line: 3, value: 'lots', expected: /size/},
  {text: '[Freeze]\nFreezeTimeoutSec=0', line: 2, value: '0', expected: /time/},
  {text: '[Memory]\nDropPageCache=perhaps', line: 2, value: 'perhaps', expected: /'yes' or 'no'/},
  {text: '[Compression]\nThreads=-1', line: 2, value: '-1', expected: /number/},
  {text: '[Compression]\nThread=1', line: 2, value: 'Thread=', expected: /Threads=/},
  {text: '[Imaje]\nSpare=/dev/vdb', line: 1, value: '[Imaje]', expected: /\[Image\]/},
]) {
  test(`refuses <${value}> and says what was expected`, (t) => {
    const error = t.throws(() => parse(text), {instanceOf: ConfigurationError})
    t.like(error, {file: '/etc/x.conf', line, value})
    t.regex(error.expected, expected)
  })
}

test('lets a later name win, a later directory replace the same name, and /dev/null mask it', (t) => {
  const [vendor, admin] = directories(t)
  writeFileSync(path.join(vendor, 'permafrost.conf'), '[Image]\nSpare=/dev/vendor\n[Memory]\nOverhead=1G\n')
  writeFileSync(path.join(admin, 'permafrost.conf'), '[Image]\nSpare=/dev/admin\n')
  writeFileSync(path.join(vendor, 'permafrost.conf.d/10-a.conf'), '[Freeze]\nFreezeTimeoutSec=5\n')
  writeFileSync(path.join(vendor, 'permafrost.conf.d/20-b.conf'), '[Compression]\nThreads=1\n')
  writeFileSync(path.join(vendor, 'permafrost.conf.d/30-c.conf'), '[Compression]\nThreads=2\n')
  writeFileSync(path.join(vendor, 'permafrost.conf.d/.hidden.conf'), 'broken')
  writeFileSync(path.join(vendor, 'permafrost.conf.d/notes.txt'), 'broken')
  writeFileSync(path.join(admin, 'permafrost.conf.d/10-a.conf'), '[Freeze]\nFreezeTimeoutSec=7\n')
  symlinkSync('/dev/null', path.join(admin, 'permafrost.conf.d/30-c.conf'))
  t.deepEqual(loadConfiguration([vendor, admin]), {
    spareDevice: '/dev/admin',
    target: null,
    targetTimeoutMs: 30_000,
    overheadBytes: 24 * 2 ** 20,
    dropsPageCache: true,
    freezeTimeoutMs: 7000,
    compressionThreads: 1,
    isCompressionAdaptive: false,
  })
})

test('reads nothing and complains about nothing when the directories are missing', (t) => {
  t.is(loadConfiguration(['/nonexistent/permafrost']).spareDevice, null)
})

for (const {what, spoil, who} of [
  {what: 'a file that somebody else owns', spoil: (file: string) => chownSync(file, 1, 0), who: /'daemon' \(1\) owns it; .*'chown root /},
  {what: 'a file of a user without a name', spoil: (file: string) => chownSync(file, 60_001, 0), who: /: 60001 owns it/},
  {what: 'a file its group may write to', spoil: (file: string) => chmodSync(file, 0o664), who: /group 'root' \(0\) may write to it; .*'chmod go-w /},
  {what: 'a file everybody may write to', spoil: (file: string) => chmodSync(file, 0o646), who: /everybody may write to it/},
]) {
  for (const name of ['permafrost.conf', 'permafrost.conf.d/10-a.conf']) {
    test(`refuses ${what}: ${name}`, (t) => {
      const [, admin] = directories(t)
      const file = path.join(admin, name)
      writeFileSync(file, '[Compression]\nThreads=1\n')
      t.is(loadConfiguration([admin]).compressionThreads, 1)
      spoil(file)
      const error = t.throws(() => loadConfiguration([admin]), {instanceOf: UntrustedFileError})
      t.is(error.file, file)
      t.regex(error.message, who)
    })
  }
}

test('refuses a directory in which somebody else may mask and replace files', (t) => {
  const [, admin] = directories(t)
  const folder = path.join(admin, 'permafrost.conf.d')
  chmodSync(folder, 0o777)
  t.is(t.throws(() => loadConfiguration([admin]), {instanceOf: UntrustedFileError}).file, folder)
  chmodSync(folder, 0o1777)
  t.throws(() => loadConfiguration([admin]), {instanceOf: UntrustedFileError})
})

for (const name of ['permafrost.conf', 'permafrost.conf.d/10-a.conf']) {
  test(`refuses a directory in which somebody else may replace what is in it: ${name}`, (t) => {
    const [, admin] = directories(t)
    writeFileSync(path.join(admin, name), '[Compression]\nThreads=1\n')
    t.is(loadConfiguration([admin]).compressionThreads, 1)
    chmodSync(admin, 0o775)
    t.is(t.throws(() => loadConfiguration([admin]), {instanceOf: UntrustedFileError}).file, admin)
  })
}

test('names a link that leads nowhere', (t) => {
  const [, admin] = directories(t)
  const file = path.join(admin, 'permafrost.conf.d/10-gone.conf')
  symlinkSync('/nowhere/at-all', file)
  t.is(t.throws(() => loadConfiguration([admin]), {instanceOf: UnreadableFileError}).file, file)
})

test('takes a mask, whose target everybody may write to', (t) => {
  const [vendor, admin] = directories(t)
  writeFileSync(path.join(vendor, 'permafrost.conf'), '[Compression]\nThreads=1\n')
  symlinkSync('/dev/null', path.join(admin, 'permafrost.conf'))
  t.is(loadConfiguration([vendor, admin]).compressionThreads, 0)
})

test('reads sizes as systemd does and refuses the rest', (t) => {
  t.deepEqual(['4096', '64K', '1.5M', '2G', '1T', '10MB'].map(parseSize), [4096, 65_536, 1_572_864, 2 ** 31, 2 ** 40, 10 * 2 ** 20])
  t.deepEqual(['', '-1', '1X', 'M', '1 2'].map(parseSize), [undefined, undefined, undefined, undefined, undefined])
})

test('reads time spans as systemd does and refuses the rest', (t) => {
  t.deepEqual(['20', '20s', '2min 30s', '500ms', '1h', '0.5'].map(parseTimeSpan), [20_000, 20_000, 150_000, 500, 3_600_000, 500])
  t.deepEqual(['', 's', '5 parsecs', '-1'].map(parseTimeSpan), [undefined, undefined, undefined, undefined])
})

function directories(t: ExecutionContext): readonly [string, string] {
  const root = mkdtempSync(path.join(tmpdir(), 'permafrost-configuration-'))
  t.teardown(() => rmSync(root, {recursive: true}))
  const vendor = path.join(root, 'vendor')
  const admin = path.join(root, 'admin')
  for (const directory of [vendor, admin]) mkdirSync(path.join(directory, 'permafrost.conf.d'), {recursive: true})
  return [vendor, admin]
}
