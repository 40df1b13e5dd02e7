import test from 'ava'
import {findSecretHolders} from '../../../service/policy/secret-memory.js'

const entry = (pid: number) => ({pid, ppid: 1, comm: `p${pid}`, exe: null, cgroup: '/', uid: 0, unit: null})

test('finds who has secret memory open, and nobody else', (t) => {
  const open = new Map([[1, ['/dev/null', '/secretmem']], [2, ['/home/secretmem', '/dev/fuse']], [3, []]])
  const holders = findSecretHolders([1, 2, 3].map(entry), (pid) => open.get(pid) ?? [])
  t.deepEqual(holders.map(({pid}) => pid), [1])
})
