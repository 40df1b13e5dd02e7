import test from 'ava'
import {findCarriers} from '../../../service/policy/carriers.js'
import type {ProcessEntry} from '../../../service/policy/process-table.js'

const entry = (pid: number, ppid: number): ProcessEntry => ({pid, ppid, comm: `p${pid}`, exe: null, cgroup: '/', uid: 0, unit: null})
const TABLE = [entry(1, 0), entry(10, 1), entry(11, 10), entry(12, 11), entry(13, 10), entry(20, 1), entry(21, 20)]

test('whom the service has started, and whom they have, carries the image', (t) => {
  t.deepEqual(findCarriers(TABLE, [], 10).map(({pid}) => pid), [11, 12, 13])
  t.deepEqual(findCarriers(TABLE, [], 12), [])
})

test('whom the policy names already is not named twice', (t) => {
  const needed = [{pid: 12, command: 'p12', unit: null, line: 'x.conf:1', reason: 'test'}]
  t.deepEqual(findCarriers(TABLE, needed, 10).map(({pid}) => pid), [11, 13])
})
