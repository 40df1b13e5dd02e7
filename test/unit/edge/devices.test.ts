import test from 'ava'
import fc from 'fast-check'
import {alignDown, alignUp, allocateAligned} from '../../../service/edge/aligned.js'
import {deviceNumberOf, parseDeviceNumber, printDeviceNumber} from '../../../service/edge/device-number.js'
import {openFiles} from '../../../service/edge/files.js'
import koffi from 'koffi'

test('aligned memory begins at a page and is no shorter than asked for', (t) => {
  for (const bytes of [1, 4096, 5000, 2 ** 20]) {
    const memory = allocateAligned(bytes)
    t.is(Number(koffi.address(memory) % 4096n), 0)
    t.is(memory.length, alignUp(bytes))
  }
})

test('aligning rounds to whole blocks', (t) => {
  t.deepEqual([0, 1, 4096, 4097].map((bytes) => alignUp(bytes)), [0, 4096, 4096, 8192])
  t.deepEqual([0, 1, 4096, 4097].map((bytes) => alignDown(bytes)), [0, 0, 4096, 4096])
})

test('a device number that is printed is parsed to the same', (t) => {
  fc.assert(
    fc.property(fc.nat(4095), fc.nat(2 ** 20 - 1), (major, minor) => {
      t.deepEqual(parseDeviceNumber(printDeviceNumber({major, minor})), {major, minor})
    }),
  )
})

test('what is no device number is not taken for one', (t) => {
  for (const text of ['', '8', '8:', ':1', '8:1:2', 'a:b', '-1:0', ' 8:1']) t.is(parseDeviceNumber(text), null)
})

test('rdev is split as the C library does', (t) => {
  t.deepEqual(deviceNumberOf(0xfe00), {major: 254, minor: 0})
  t.deepEqual(deviceNumberOf(0x10_3e_05 | 0), {major: 0x3e, minor: 0x105})
})

test('a file that is not there reads as null', (t) => {
  const files = openFiles()
  t.is(files.readText('/no/such/file'), null)
  t.is(files.blockDevice('/no/such/file'), null)
  t.is(files.realPath('/no/such/file'), null)
  t.deepEqual(files.list('/no/such/folder'), [])
})

test('a character device is no block device', (t) => {
  t.is(openFiles().blockDevice('/dev/null'), null)
})
