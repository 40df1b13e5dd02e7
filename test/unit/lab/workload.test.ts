import test from 'ava'
import {kernelTrouble} from '../../lab/workload.js'

const ERROR = 'I/O error, dev vdb, sector 8845336 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2'

test('an error of a disk while the machine switches itself off is no trouble', t => {
  t.deepEqual(kernelTrouble(`[  130.048818] ${ERROR}\r\n[  130.910000] reboot: Power down\r\n`), [])
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
