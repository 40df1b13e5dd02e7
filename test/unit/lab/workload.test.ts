import test from 'ava'
import {kernelTrouble, lineOnDisk} from '../../lab/workload.js'

const ERROR = 'I/O error, dev vdb, sector 8845336 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2'

test('an error of a disk while the machine switches itself off is no trouble', t => {
  t.deepEqual(kernelTrouble(`[  130.048818] ${ERROR}\r\n[  130.910000] reboot: Power down\r\n`), [])
})

test('the last line before that may be missing, or come first', t => {
  const begun = '[  130.002102] ACPI: PM: Preparing to enter system sleep state S5'
  t.deepEqual(kernelTrouble(`${begun}\n[  130.048818] ${ERROR}\n==== boot 2 of machine\n`), [])
})

for (const [name, after] of [
  ['some time before', '[  140.100000] reboot: Power down'],
  ['in a boot that the next one ended', '==== boot 2 of machine\n[    0.100000] reboot: Power down'],
  ['in a machine that goes on', '[  130.1] something else']
])
  test(`an error of a disk ${name} is trouble`, t => {
    t.is(kernelTrouble(`[  130.048818] ${ERROR}\n${after ?? ''}\n`).length, 1)
  })

test('a warning is trouble whenever it comes', t => {
  t.is(kernelTrouble('[  130.0] WARNING: CPU: 0 PID: 1\n[  130.1] reboot: Power down\n').length, 1)
})

test('on a raw disk the digits at the end of another block are no part of a number', t => {
  const time = '1795711090086512800'
  const block = `158 mark ${time}\n16`
  const others = `17 other 17957110900865128`
  const found = (text: string) => [...text.matchAll(lineOnDisk('mark'))].map(match => match[0])
  t.deepEqual(found(`${block}0 mark ${time}\n`), [`158 mark ${time}`, `160 mark ${time}`])
  t.deepEqual(found(`${others}0 mark ${time}\n161 mark ${time}\n`), [`161 mark ${time}`])
  t.deepEqual(found(`162 mark 17957`), [])
})
