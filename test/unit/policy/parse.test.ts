import {readdirSync, readFileSync} from 'node:fs'
import test from 'ava'
import {PolicyError} from '../../../service/errors.js'
import {parsePolicyFile} from '../../../service/policy/parse.js'

const parse = (text: string) => parsePolicyFile(text, '/p.conf')

test('reads every key of a section, with the line of each selector', (t) => {
  const text = `[Needed]
Unit=a.service b.service
Exe=/usr/bin/x "/opt/with space/y"
Comm=daemon
Holds=/dev/fuse
User=_rpc 1000
When=mount:nfs image:tcp
Reason=The image goes to an NFS server`
  t.deepEqual(parse(text), [{
    selectors: [
      {kind: 'unit', value: 'a.service', line: 2},
      {kind: 'unit', value: 'b.service', line: 2},
      {kind: 'exe', value: '/usr/bin/x', line: 3},
      {kind: 'exe', value: '/opt/with space/y', line: 3},
      {kind: 'comm', value: 'daemon', line: 4},
      {kind: 'holds', value: '/dev/fuse', line: 5},
    ],
    users: [
      {kind: 'user', value: '_rpc', line: 6},
      {kind: 'user', value: '1000', line: 6},
    ],
    conditions: [{kind: 'mount', type: 'nfs'}, {kind: 'image', type: 'tcp'}],
    reason: 'The image goes to an NFS server',
    origin: {file: '/p.conf', line: 1},
  }])
})

test('adds to a list with each assignment and clears it with an empty one', (t) => {
  const [rule] = parse('[Needed]\nComm=a\nComm=b\nUnit=x.service\nUnit=\nUnit=y.service')
  t.deepEqual(rule?.selectors.map(({value}) => value), ['a', 'b', 'y.service'])
})

test('makes a rule of each section', (t) => {
  t.deepEqual(parse('[Needed]\nComm=a\n\n[Needed]\nComm=b').map(({origin}) => origin.line), [1, 4])
})

test('takes a file without sections as no rules', (t) => {
  t.deepEqual(parse('# nothing here\n'), [])
})

for (const {text, line, value, expected} of [
  {text: '[Wanted]\nComm=a', line: 1, value: '[Wanted]', expected: /\[Needed\]/},
  {text: '[Needed]\nUnits=a.service', line: 2, value: 'Units=', expected: /Unit=, .*Reason=/},
  {text: '[Needed]\nUnit=sshd', line: 2, value: 'sshd', expected: /suffix/},
  {text: '[Needed]\nUnit=a.service ../b.service', line: 2, value: '../b.service', expected: /suffix/},
  {text: '[Needed]\nExe=nbd-client', line: 2, value: 'nbd-client', expected: /absolute path/},
  {text: '[Needed]\nComm=sixteen-letters-', line: 2, value: 'sixteen-letters-', expected: /15 bytes/},
  {text: '[Needed]\nUser=a:b', line: 2, value: 'a:b', expected: /user/},
  {text: '[Needed]\nHolds=/etc/passwd', line: 2, value: '/etc/passwd', expected: /device/},
  {text: '[Needed]\nComm=a\nWhen=sometimes', line: 3, value: 'sometimes', expected: /always/},
  {text: '[Needed]\nComm=a\nWhen=image:floppy', line: 3, value: 'image:floppy', expected: /spare, tcp/},
  {text: '[Needed]\nComm="a', line: 2, value: '"a', expected: /quote/},
  {text: '[Needed]\nReason=Nothing is picked', line: 1, value: '[Needed]', expected: /at least one/},
  {text: '[Needed]\nComm=a\nComm=\n', line: 1, value: '[Needed]', expected: /at least one/},
  {text: 'Comm=a', line: 1, value: 'Comm=a', expected: /section/},
]) {
  test(`refuses <${text.replaceAll('\n', '|')}> with line, value and what was expected`, (t) => {
    const error = t.throws(() => parse(text), {instanceOf: PolicyError})
    t.like(error, {file: '/p.conf', line, value, busName: 'org.permafrost1.Error.Policy'})
    t.regex(error.expected, expected)
  })
}

for (const name of readdirSync('units/policy.d').filter((each) => each.endsWith('.conf'))) {
  test(`reads the shipped ${name}, where every rule has a reason`, (t) => {
    const rules = parsePolicyFile(readFileSync(`units/policy.d/${name}`, 'utf8'), name)
    t.true(rules.length > 0)
    t.true(rules.every(({reason}) => reason !== ''))
  })
}
