import test, {type ExecutionContext} from 'ava'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {checkMemory, holdMemory, kernelLogOf, kernelTrouble, memoryComplaints} from '../lab/workload.js'

/** A spare device that fails in the middle of a save: the machine goes on, with its memory and its file systems, and says why. */
let machine: ScratchMachine

test.before(async () => {
  machine = await scratchMachine('broken-spare', {
    memoryMib: 640,
    spareBytes: 0,
    disks: [{name: 'small', bytes: 160 * 2 ** 20, type: 'none'}, {name: 'bad', bytes: 2 ** 30, type: 'none'}]
  })
  await holdMemory(machine, 'hold', 24)
  // Nobody takes samples of it, so that only the save finds out how little it compresses. By itself it is more than
  // the small disk takes, and by the estimate, a quarter of it and half of what is anonymous, far less.
  await inside(machine, ['dd', 'if=/dev/urandom', 'of=/dev/shm/random', 'bs=1M', 'count=150', 'status=none'])
})

test.after.always(async () => { await machine[Symbol.asyncDispose]() })

test.serial('goes on and says so when the image does not fit', async t => {
  await inside(machine, ['permafrost', 'setup', '--yes', '/dev/disk/by-id/virtio-small'])
  await goesOn(t, /Cannot write the image to '.*virtio-small': its image area is full/)
})

/** Sectors of 512 bytes: from 40 MiB on, 20 MiB cannot be written. */
const BREAK = `
size=$(blockdev --getsz "$1")
printf '0 81920 linear %s 0\\n81920 40960 error\\n122880 %d linear %s 122880\\n' "$1" $((size - 122880)) "$1" | dmsetup load broken
dmsetup suspend broken && dmsetup resume broken
`

test.serial('goes on and says so when the disk has a bad place', async t => {
  const disk = '/dev/disk/by-id/virtio-bad'
  await insideShell(machine, 'dmsetup create broken --table "0 $(blockdev --getsz "$1") linear $1 0"', disk)
  await inside(machine, ['permafrost', 'setup', '--yes', '/dev/mapper/broken'])
  await insideShell(machine, BREAK, disk)
  await goesOn(t, /Cannot write the image to '\/dev\/mapper\/broken': EIO/)
})

test.serial('the kernel has not complained of anything but the bad place', async t => {
  const trouble = [...kernelTrouble(machine.consoleText()), ...kernelTrouble(await kernelLogOf(machine))]
  t.deepEqual(trouble.filter(line => !/I\/O error, dev dm-/.test(line)), [])
})

async function goesOn(t: ExecutionContext, reason: RegExp): Promise<void> {
  const before = await checkMemory(machine, 'hold')
  const saved = await hibernate(machine, 'systemctl')
  t.false(saved.ok)
  t.regex(saved.reason ?? '', reason)
  t.deepEqual(await memoryComplaints(machine, 'hold', before), [])
  t.notRegex(await inside(machine, ['dmsetup', 'table']), /snapshot|permafrost-base|permafrost-cow/)
  await insideShell(machine, 'echo goes on > /var/lib/after; sync')
  t.regex(await inside(machine, ['permafrost', 'image', 'show']), /^state +aborted$/m)
  const check = await attemptInside(machine, ['permafrost', 'check'])
  t.deepEqual(check.stdout.match(/^missing.*$/gm), null)
  t.is(check.status, 0, check.stderr)
}
