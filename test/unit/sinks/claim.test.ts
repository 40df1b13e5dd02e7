import test from 'ava'
import type {Files} from '../../../service/edge/files.js'
import {describeHolder} from '../../../service/sinks/claim.js'

/** A disk with two partitions, of which `more` says what is done with them. */
function disk(more: Readonly<Record<string, string>>): Files {
  const tree: Readonly<Record<string, string>> = {
    '/sys/dev/block/254:0/dev': '254:0\n',
    '/sys/dev/block/254:0/size': '9\n',
    '/sys/dev/block/254:0/vda1/partition': '1\n',
    '/sys/dev/block/254:0/vda1/dev': '254:1\n',
    '/sys/dev/block/254:0/vda2/partition': '2\n',
    '/sys/dev/block/254:0/vda2/dev': '254:2\n',
    ...more,
  }
  return {
    readText: (path) => tree[path] ?? null,
    list: (path) => [...new Set(Object.keys(tree).filter((each) => each.startsWith(`${path}/`)).map((each) => each.slice(path.length + 1).split('/')[0] ?? ''))],
    blockDevice: () => ({major: 254, minor: 0}),
    realPath: () => '/dev/vda',
    link: () => null,
  }
}

const mountOf = (number: string, place: string) => ({'/proc/self/mountinfo': `22 1 0:5 / /proc rw - proc proc rw\n25 1 ${number} / ${place} rw - ext4 /dev/x rw\n`})

for (const {of, more, sentence} of [
  {of: 'a mounted disk', more: mountOf('254:0', '/mnt'), sentence: "it is mounted on '/mnt'"},
  {of: 'a disk with a mounted partition', more: mountOf('254:2', '/home'), sentence: "its partition 'vda2' is mounted on '/home'"},
  {of: 'a disk used for swapping', more: {'/proc/swaps': 'Filename Type\n/dev/vda partition 1\n'}, sentence: 'it is used for swapping'},
  {of: 'a disk with a partition used for swapping', more: {'/proc/swaps': 'Filename Type\n/dev/vda1\tpartition 1\n'}, sentence: "its partition 'vda1' is used for swapping"},
  {of: 'a disk with a volume on it', more: {'/sys/dev/block/254:0/holders/dm-3/dm/name': 'system-root\n'}, sentence: "it is held by 'system-root'"},
  {of: 'a disk with a partition in an array', more: {'/sys/dev/block/254:0/vda2/holders/md0/dev': '9:0\n'}, sentence: "its partition 'vda2' is held by 'md0'"},
  {of: 'a disk somebody has open', more: {}, sentence: 'it or a partition of it is held by somebody'},
]) {
  test(`says what holds ${of}`, (t) => {
    t.is(describeHolder('/dev/disk/by-id/mine', disk(more)), sentence)
  })
}
