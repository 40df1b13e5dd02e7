import test from 'ava'
import {findFileSystems, findMountOf} from '../../../service/dm/filesystems.js'
import {parseTable} from '../../../service/dm/table.js'
import {FakeDeviceMapper} from '../fakes/device-mapper.js'
import {fakeFiles} from '../fakes/files.js'

test('a wrapped partition is mapped, and found by the initramfs under the name of the partition', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('permafrost-vda', 'PERMAFROST-wrap-vda', parseTable('0 2048 linear 252:0 0', 'x'))
  const [root, ...more] = await findFileSystems(
    fakeFiles({texts: {'/proc/self/mountinfo': mount('254:0', '/', 'ext4'), '/run/udev/data/b254:0': 'S:x\nE:ID_FS_UUID=1234\n'}}),
    dm,
  )
  t.is(more.length, 0)
  t.like(root, {mountPoint: '/', type: 'ext4', uuid: '1234', isReadOnly: false})
  t.like(root?.mapping, {kind: 'mapped', pathUnder: '/dev/vda', isEncrypted: false})
})

test('a logical volume is found by the initramfs under its own name', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('vg-home', 'LVM-abc', parseTable('0 2048 linear 252:0 0\n2048 2048 linear 252:16 0', 'x'))
  const [home] = await findFileSystems(fakeFiles({texts: {'/proc/self/mountinfo': mount('254:0', '/home', 'xfs')}}), dm)
  t.like(home?.mapping, {kind: 'mapped', pathUnder: '/dev/mapper/vg-home'})
})

test('a device mounted twice is listed once', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('vg-home', '', parseTable('0 2048 linear 252:0 0', 'x'))
  const mountinfo = `${mount('254:0', '/home', 'ext4')}${mount('254:0', '/srv', 'ext4')}`
  t.is((await findFileSystems(fakeFiles({texts: {'/proc/self/mountinfo': mountinfo}}), dm)).length, 1)
})

test('file systems without a block device are not listed', async (t) => {
  const mountinfo = `${mount('0:21', '/proc', 'proc', 'proc')}${mount('0:40', '/net', 'nfs4', 'server:/x')}`
  t.deepEqual(await findFileSystems(fakeFiles({texts: {'/proc/self/mountinfo': mountinfo}}), new FakeDeviceMapper()), [])
})

test('a plain partition is not mapped', async (t) => {
  const files = fakeFiles({
    texts: {'/proc/self/mountinfo': mount('8:1', '/data', 'ext4'), '/sys/dev/block/8:1/uevent': 'MAJOR=8\nDEVNAME=sda1\n'},
  })
  const [data] = await findFileSystems(files, new FakeDeviceMapper())
  t.deepEqual(data?.mapping, {kind: 'unmapped', device: 'sda1', reason: 'it is not a device-mapper device'})
})

test('a device whose table cannot be there twice is not mapped', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('pool-thin', '', parseTable('0 2048 thin 254:9 1', 'x'))
  const [thin] = await findFileSystems(fakeFiles({texts: {'/proc/self/mountinfo': mount('254:0', '/thin', 'ext4')}}), dm)
  t.deepEqual(thin?.mapping, {kind: 'unmapped', device: 'pool-thin', reason: "its target 'thin' cannot be there twice"})
})

test('btrfs, mounted under a number of its own, is found by its source', async (t) => {
  const dm = new FakeDeviceMapper()
  const number = dm.add('vg-root', '', parseTable('0 2048 linear 252:0 0', 'x'))
  const files = fakeFiles({
    texts: {'/proc/self/mountinfo': mount('0:30', '/', 'btrfs', '/dev/mapper/vg-root')},
    blockDevices: {'/dev/mapper/vg-root': number},
  })
  const [root] = await findFileSystems(files, dm)
  t.like(root?.mapping, {kind: 'mapped', pathUnder: '/dev/mapper/vg-root'})
})

test('what is open in a process is found by its mount, on btrfs too', (t) => {
  const files = fakeFiles({
    texts: {
      '/proc/7/fdinfo/1': 'pos:\t0\nflags:\t0100001\nmnt_id:\t36\nino:\t5\n',
      '/proc/7/mountinfo': `35 1 0:5 / /dev rw - devtmpfs udev rw\n${mount('0:30', '/my\\040files', 'btrfs', '/dev/vdb')}`,
      '/proc/8/fdinfo/1': 'pos:\t0\nmnt_id:\t14\n',
    },
    blockDevices: {'/dev/vdb': {major: 252, minor: 16}},
  })
  t.deepEqual(findMountOf({pid: 7, fd: 1}, files), {mountPoint: '/my files', type: 'btrfs', isOnBlockDevice: true})
  t.is(findMountOf({pid: 8, fd: 1}, files), null)
  t.is(findMountOf({pid: 9, fd: 1}, files), null)
})

test('another type, mounted under a number of its own, is not mapped', async (t) => {
  const dm = new FakeDeviceMapper()
  const number = dm.add('vg-data', '', parseTable('0 2048 linear 252:0 0', 'x'))
  const files = fakeFiles({
    texts: {'/proc/self/mountinfo': mount('0:30', '/data', 'bcachefs', '/dev/mapper/vg-data')},
    blockDevices: {'/dev/mapper/vg-data': number},
  })
  const [data] = await findFileSystems(files, dm)
  t.like(data?.mapping, {kind: 'unmapped', reason: "its type 'bcachefs' may spread over several devices"})
})

test('a volume on an encrypted device counts as encrypted', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('vg-home', 'LVM-abc', parseTable('0 2048 linear 254:7 0', 'x'))
  const files = fakeFiles({
    texts: {
      '/proc/self/mountinfo': mount('254:0', '/home', 'ext4'),
      '/sys/dev/block/254:0/dm/uuid': 'LVM-abc\n',
      '/sys/dev/block/254:0/slaves/dm-7/dev': '254:7\n',
      '/sys/dev/block/254:7/dm/uuid': 'CRYPT-LUKS2-0123-luks\n',
    },
  })
  const [home] = await findFileSystems(files, dm)
  t.like(home?.mapping, {kind: 'mapped', isEncrypted: true})
})

test('what the file system itself is mounted as counts, not one of its mounts', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('vg-home', '', parseTable('0 2048 linear 252:0 0', 'x'))
  const line = '30 1 254:0 / /view ro,relatime - ext4 /dev/dm-0 rw,errors=continue\n'
  const [home] = await findFileSystems(fakeFiles({texts: {'/proc/self/mountinfo': line}}), dm)
  t.false(home?.isReadOnly ?? true)
  const [frozen] = await findFileSystems(fakeFiles({texts: {'/proc/self/mountinfo': line.replace(' rw,', ' ro,')}}), dm)
  t.true(frozen?.isReadOnly)
})

test('what is mounted in another mount namespace only is found, once', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('root', '', parseTable('0 2048 linear 252:0 0', 'x'))
  dm.add('inner', '', parseTable('0 2048 linear 252:16 0', 'x'))
  const inner = mount('254:0', '/', 'ext4') + mount('254:1', '/inner', 'xfs')
  const files = fakeFiles({
    texts: {'/proc/self/mountinfo': mount('254:0', '/', 'ext4'), '/proc/7/mountinfo': inner, '/proc/8/mountinfo': inner, '/proc/9/mountinfo': mount('254:1', '/not-looked-at', 'xfs')},
    links: {'/proc/self/ns/mnt': 'mnt:[1]', '/proc/9/ns/mnt': 'mnt:[1]', '/proc/7/ns/mnt': 'mnt:[2]', '/proc/8/ns/mnt': 'mnt:[2]'},
  })
  t.deepEqual((await findFileSystems(files, dm)).map(({mountPoint}) => mountPoint), ['/', '/inner'])
})

test('an image of an unwritable type on a loop device is left out, and a partition is not', async (t) => {
  const dm = new FakeDeviceMapper()
  const ro = (line: string) => line.replaceAll(' rw,', ' ro,')
  const mounts = ro(mount('7:0', '/snap/core', 'squashfs')) + ro(mount('8:1', '/old', 'ext4')) + mount('8:2', '/data', 'ext4')
  const found = await findFileSystems(fakeFiles({texts: {'/proc/self/mountinfo': mounts}}), dm)
  t.deepEqual(found.map(({mountPoint}) => mountPoint), ['/old', '/data'])
})

test('a volume that is being reencrypted is not mapped', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('home', 'CRYPT-LUKS2-1-home', parseTable('0 8 crypt aes-xts-plain64 00 0 252:0 32768\n8 8 crypt aes-xts-plain64 11 8 252:0 32776\n', 'x'))
  const [home] = await findFileSystems(fakeFiles({texts: {'/proc/self/mountinfo': mount('254:0', '/home', 'ext4')}}), dm)
  t.like(home?.mapping, {kind: 'unmapped', reason: 'it is being reencrypted, wait until that is done'})
})

test('blanks in mount points are read as blanks', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('vg-home', '', parseTable('0 2048 linear 252:0 0', 'x'))
  const [home] = await findFileSystems(fakeFiles({texts: {'/proc/self/mountinfo': mount('254:0', '/my\\040disk', 'ext4')}}), dm)
  t.is(home?.mountPoint, '/my disk')
})

test('without notes of udev the UUID is found by its link', async (t) => {
  const dm = new FakeDeviceMapper()
  const number = dm.add('vg-home', '', parseTable('0 2048 linear 252:0 0', 'x'))
  const files = fakeFiles({
    texts: {'/proc/self/mountinfo': mount('254:0', '/home', 'ext4')},
    blockDevices: {'/dev/disk/by-uuid/aaaa': {major: 8, minor: 1}, '/dev/disk/by-uuid/bbbb': number},
  })
  t.is((await findFileSystems(files, dm))[0]?.uuid, 'bbbb')
})

function mount(device: string, place: string, type: string, source = '/dev/source'): string {
  return `36 35 ${device} / ${place} rw,noatime shared:1 - ${type} ${source} rw,errors=continue\n`
}
