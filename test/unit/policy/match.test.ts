import test from 'ava'
import fc from 'fast-check'
import {matchNeeded} from '../../../service/policy/match.js'
import {parsePolicyFile} from '../../../service/policy/parse.js'
import {type ProcessEntry} from '../../../service/policy/process-table.js'
import {findUserId, parseMountTypes, rememberNames, type Names, type Situation} from '../../../service/policy/situation.js'

const policyOf = (text: string) => ({rules: parsePolicyFile(text, '/p.conf')})

const entry = (pid: number, values: Partial<ProcessEntry> = {}): ProcessEntry => ({
  pid, ppid: 1, comm: 'x', exe: '/usr/bin/x', cgroup: '/', uid: 0, unit: null, ...values,
})

const situation: Situation = {
  mountTypes: new Set(['ext4', 'fuse.sshfs', 'nfs4']),
  imageType: 'spare',
  openFiles: (pid) => (pid === 400 ? ['/dev/null', '/dev/fuse'] : []),
  canonicalPath: (path) => path.replace(/^\/sbin\//, '/usr/sbin/'),
  userId: (name) => findUserId('_rpc:x:105:65534::/:/bin/false\n', name),
}

const table: readonly ProcessEntry[] = [
  entry(100, {comm: 'statd', exe: '/usr/sbin/rpc.statd', cgroup: '/system.slice/rpc-statd.service', unit: 'rpc-statd.service', uid: 105}),
  entry(200, {comm: 'child', cgroup: '/system.slice/rpc-statd.service/deep', unit: 'rpc-statd.service'}),
  entry(300, {comm: 'heartbeat', exe: '/opt/heartbeat'}),
  entry(400, {comm: 'sshfs', uid: 1000}),
  entry(500, {comm: 'statd', uid: 1000}),
]

const pids = (text: string, given: Partial<Situation> = {}) =>
  matchNeeded(policyOf(text), table, {...situation, ...given}).map(({pid}) => pid)

for (const {rule, expected} of [
  {rule: 'Unit=rpc-statd.service', expected: [100, 200]},
  {rule: 'Unit=statd.service', expected: []},
  {rule: 'Unit=system.slice', expected: [100, 200]},
  {rule: 'Exe=/sbin/rpc.statd', expected: [100]},
  {rule: 'Exe=/usr/sbin/rpc', expected: []},
  {rule: 'Comm=statd', expected: [100, 500]},
  {rule: 'User=_rpc', expected: [100]},
  {rule: 'User=1000', expected: [400, 500]},
  {rule: 'User=nobody-knows', expected: []},
  {rule: 'Comm=statd\nUser=_rpc', expected: [100]},
  {rule: 'Comm=heartbeat\nUnit=rpc-statd.service', expected: [100, 200, 300]},
  {rule: 'Holds=/dev/fuse', expected: [400]},
  {rule: 'Holds=/dev/fuse\nWhen=mount:fuse', expected: [400]},
  {rule: 'Holds=/dev/fuse\nWhen=mount:fus', expected: []},
  {rule: 'Comm=heartbeat\nWhen=mount:nfs mount:nfs4', expected: [300]},
  {rule: 'Comm=heartbeat\nWhen=mount:nfs', expected: []},
  {rule: 'Comm=heartbeat\nWhen=mount:nfs always', expected: [300]},
  {rule: 'Comm=heartbeat\nWhen=image:spare', expected: [300]},
  {rule: 'Comm=heartbeat\nWhen=image:tcp', expected: []},
]) {
  test(`keeps [${expected.join(' ')}] for <${rule.replaceAll('\n', '|')}>`, (t) => {
    t.deepEqual(pids(`[Needed]\n${rule}`), expected)
  })
}

test('names the line of the first rule that keeps a process, and its reason', (t) => {
  const text = '[Needed]\nComm=nobody statd\nReason=first\n[Needed]\nUnit=rpc-statd.service\nReason=second'
  t.deepEqual(matchNeeded(policyOf(text), table, situation), [
    {pid: 100, command: 'statd', unit: 'rpc-statd.service', line: '/p.conf:2', reason: 'first'},
    {pid: 200, command: 'child', unit: 'rpc-statd.service', line: '/p.conf:5', reason: 'second'},
    {pid: 500, command: 'statd', unit: null, line: '/p.conf:2', reason: 'first'},
  ])
})

test('leaves out the service itself', (t) => {
  const own = [entry(process.pid, {comm: 'statd'})]
  t.deepEqual(matchNeeded(policyOf('[Needed]\nComm=statd'), own, situation), [])
})

test('gives the same list whatever the order of the table', (t) => {
  const policy = policyOf('[Needed]\nComm=statd heartbeat\n[Needed]\nUser=1000')
  const reference = matchNeeded(policy, table, situation)
  fc.assert(fc.property(fc.shuffledSubarray([...table], {minLength: table.length}), (shuffled) => {
    t.deepEqual(matchNeeded(policy, shuffled, situation), reference)
  }))
})

test('reads the types of mounted file systems from mountinfo, whatever the optional fields', (t) => {
  const text = '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n30 22 0:40 / /mnt/a\\040b rw - fuse.sshfs a:b rw\n'
  t.deepEqual([...parseMountTypes(text)], ['ext4', 'fuse.sshfs'])
})

test('finds users by name and takes numbers as they are', (t) => {
  const passwd = 'root:x:0:0::/root:/bin/sh\n_rpc:x:105:65534::/run/rpcbind:/bin/false\n'
  t.deepEqual(['root', '_rpc', '1000', 'gone'].map((name) => findUserId(passwd, name)), [0, 105, 1000, null])
})

test('names are looked up once, before anybody is frozen, for rules whose conditions may hold only later', (t) => {
  const policy = policyOf('[Needed]\nExe=/sbin/rpc.statd\nWhen=mount:autofs\n\n[Needed]\nUser=_rpc\n\n[Needed]\nHolds=/dev/x')
  let isFrozen = false
  const asked: string[] = []
  const names: Names = {
    canonicalPath: (path) => {
      t.false(isFrozen, path)
      asked.push(path)
      return situation.canonicalPath(path)
    },
    userId: (name) => {
      t.false(isFrozen, name)
      asked.push(name)
      return situation.userId(name)
    },
  }
  const remembered = rememberNames(policy, names)
  isFrozen = true
  t.deepEqual(asked.sort(), ['/dev/x', '/sbin/rpc.statd', '_rpc'])
  const later = {...situation, ...remembered, mountTypes: new Set(['autofs'])}
  t.deepEqual(matchNeeded(policy, table, later).map(({pid}) => pid), [100])
  t.is(remembered.userId('_rpc'), 105)
})
