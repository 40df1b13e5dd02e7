import test from 'ava'
import {findPiecesBelow} from '../../../service/dm/below.js'
import {parseTable} from '../../../service/dm/table.js'
import {FakeDeviceMapper} from '../fakes/device-mapper.js'

const SECTOR = 512
const DISK = {major: 252, minor: 0}

test('a part of a plain device lies where it is', async (t) => {
  const piece = {device: DISK, offset: 7, bytes: 9}
  t.deepEqual(await findPiecesBelow([piece], new FakeDeviceMapper(), []), [piece])
})

test('a part of a volume on an encrypted device lies on the disk, behind both their offsets', async (t) => {
  const dm = new FakeDeviceMapper()
  dm.add('luks', 'CRYPT-LUKS2-1', parseTable('0 100000 crypt aes-xts-plain64 00 0 252:0 32768', 'x'))
  const volume = dm.add('vg-home', 'LVM-abc', parseTable('0 1000 linear 254:0 2048', 'x'))
  t.deepEqual(await findPiecesBelow([{device: volume, offset: 4096, bytes: 1024}], dm, await dm.list()), [
    {device: DISK, offset: (32_768 + 2048) * SECTOR + 4096, bytes: 1024},
  ])
})

test('a part that spreads over several targets falls into pieces', async (t) => {
  const dm = new FakeDeviceMapper()
  const volume = dm.add('vg-home', '', parseTable('0 8 linear 252:0 100\n8 8 linear 252:16 0\n16 8 linear 252:0 0', 'x'))
  t.deepEqual(await findPiecesBelow([{device: volume, offset: 4 * SECTOR, bytes: 14 * SECTOR}], dm, await dm.list()), [
    {device: DISK, offset: 104 * SECTOR, bytes: 4 * SECTOR},
    {device: {major: 252, minor: 16}, offset: 0, bytes: 8 * SECTOR},
    {device: DISK, offset: 0, bytes: 2 * SECTOR},
  ])
})

test('stripes are dealt out in turn', async (t) => {
  const dm = new FakeDeviceMapper()
  const volume = dm.add('vg-wide', '', parseTable('0 64 striped 2 8 252:0 1000 252:16 2000', 'x'))
  t.deepEqual(await findPiecesBelow([{device: volume, offset: 6 * SECTOR, bytes: 12 * SECTOR}], dm, await dm.list()), [
    {device: DISK, offset: 1006 * SECTOR, bytes: 2 * SECTOR},
    {device: {major: 252, minor: 16}, offset: 2000 * SECTOR, bytes: 8 * SECTOR},
    {device: DISK, offset: 1008 * SECTOR, bytes: 2 * SECTOR},
  ])
})

test('nobody looks below a target that puts things where it likes', async (t) => {
  const dm = new FakeDeviceMapper()
  const thin = dm.add('pool-thin', '', parseTable('0 1000 thin 254:9 1', 'x'))
  const crypt = dm.add('luks', '', parseTable(`0 900 crypt aes-xts-plain64 00 0 ${thin.major}:${thin.minor} 16`, 'x'))
  t.deepEqual(await findPiecesBelow([{device: crypt, offset: 0, bytes: 4096}], dm, await dm.list()), [{device: thin, offset: 16 * SECTOR, bytes: 4096}])
})
