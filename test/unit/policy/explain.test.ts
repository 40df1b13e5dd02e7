import test from 'ava'
import {NoSuchProcessError} from '../../../service/errors.js'
import {explainNeeded} from '../../../service/policy/explain.js'
import {parsePolicyFile} from '../../../service/policy/parse.js'
import {type ProcessEntry} from '../../../service/policy/process-table.js'
import {type Situation} from '../../../service/policy/situation.js'

const POLICY = {
  rules: parsePolicyFile(
    '[Needed]\nComm=nbd-client\nReason=It keeps a connection\n[Needed]\nUnit=rpcbind.service\nWhen=mount:nfs image:tcp\nReason=NFS\n',
    '/p.conf',
  ),
}

const process_ = (pid: number, comm: string, unit: string | null): ProcessEntry => ({
  pid, ppid: 1, comm, exe: `/usr/bin/${comm}`, cgroup: `/system.slice/${unit ?? ''}`, uid: 0, unit,
})
const TABLE = [process_(7, 'nbd-client', null), process_(8, 'rpcbind', 'rpcbind.service'), process_(9, 'bash', 'session-1.scope'), process_(process.pid, 'node', null)]

for (const {pid, mounted, expected} of [
  {pid: 7, mounted: [], expected: {isNeeded: true, line: '/p.conf:2', sentence: "'nbd-client' (pid 7) keeps running by /p.conf:2: It keeps a connection"}},
  {pid: 8, mounted: ['nfs'], expected: {isNeeded: true, line: '/p.conf:5', sentence: "'rpcbind' (pid 8, rpcbind.service) keeps running by /p.conf:5: NFS"}},
  {
    pid: 8,
    mounted: ['ext4'],
    expected: {
      isNeeded: false,
      line: '/p.conf:5',
      sentence: "'rpcbind' (pid 8, rpcbind.service) is frozen: /p.conf:5 picks it only when a file system of type 'nfs' is mounted, or the image goes to 'tcp'",
    },
  },
  {pid: 9, mounted: [], expected: {isNeeded: false, line: '', sentence: "'bash' (pid 9, session-1.scope) is frozen: no line of the policy picks it"}},
  {pid: process.pid, mounted: [], expected: {isNeeded: true, line: '', sentence: `'node' (pid ${process.pid}) keeps running: it is the service itself`}},
]) {
  test(`explains: ${expected.sentence.replace(String(process.pid), 'N')}`, (t) => {
    t.deepEqual(explainNeeded(POLICY, TABLE, pid, situation(mounted)), expected)
  })
}

test('refuses to explain a process that is not there', (t) => {
  t.throws(() => explainNeeded(POLICY, TABLE, 4_000_000, situation([])), {instanceOf: NoSuchProcessError})
})

function situation(mounted: readonly string[]): Situation {
  return {
    mountTypes: new Set(mounted),
    imageType: 'spare',
    openFiles: () => [],
    canonicalPath: (path) => path,
    userId: () => null,
  }
}
