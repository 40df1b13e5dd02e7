// Every file system on every kind of device, several at once, with what else may be mounted or swapped on beside them.
import {mkdtempSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test, {type ExecutionContext} from 'ava'
import type {Disk} from '../lab/disks.js'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {copyOnWriteArea, findInDisk, fsck} from '../lab/outside.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {attempt, run} from '../lab/tool.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, diaryComplaints, holdMemory, kernelTrouble, lineOnDisk, startPayload} from '../lab/workload.js'

const MIB = 2 ** 20

/** Volumes in their order on the disk: a group of physical extents each, the first one MiB behind the start. */
const VOLUMES = [{name: 'ext4', mib: 96}, {name: 'xfs', mib: 304}, {name: 'vfat', mib: 64}, {name: 'btrfs', mib: 128}, {name: 'ro', mib: 32}]

/** Makes a volume group $1 on device $2, and in it a file system of each type, mounted below /mnt/$1. */
const GROUP = `
vgcreate -q "$1" "$2"
make() {
  lvcreate -q -y -Wn -n "$2" -L "$3M" "$1"
  case $2 in
    ext4|ro) mke2fs -q -t ext4 "/dev/$1/$2" ;;
    vfat) mkfs.vfat "/dev/$1/$2" > /dev/null ;;
    *) "mkfs.$2" -q "/dev/$1/$2" > /dev/null ;;
  esac
  mkdir -p "/mnt/$1/$2"
  mount "/dev/$1/$2" "/mnt/$1/$2"
}
${VOLUMES.map(({name, mib}) => `make "$1" ${name} ${mib}`).join('\n')}
`

const SETUP = `
printf %s key > /root/key
for name in luks alone; do
  cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "/dev/disk/by-id/virtio-$name" /root/key
  cryptsetup open --key-file /root/key "/dev/disk/by-id/virtio-$name" "$name"
done
mke2fs -q -t ext4 /dev/mapper/alone
mkdir /mnt/alone && mount /dev/mapper/alone /mnt/alone
sh -euc "$1" sh volumes /dev/disk/by-id/virtio-lvm
sh -euc "$1" sh secret /dev/mapper/luks

mkdir /mnt/half && mount -t tmpfs -o size=64M half /mnt/half
head -c 32M /dev/urandom > /mnt/half/file
mkdir /mnt/ext/upper /mnt/ext/work /mnt/over /mnt/bound
mount -t overlay -o lowerdir=/usr/lib/udev,upperdir=/mnt/ext/upper,workdir=/mnt/ext/work over /mnt/over
mount --bind /mnt/ext /mnt/bound
fallocate -l 240M /mnt/ext/swapfile && chmod 600 /mnt/ext/swapfile && mkswap -q /mnt/ext/swapfile && swapon -p 5 /mnt/ext/swapfile
zramctl --size 64M /dev/zram0 && mkswap -q /dev/zram0 && swapon -p 9 /dev/zram0

for place in /mnt/btrfs /mnt/volumes/ro /mnt/secret/ro; do
  head -c 8M /dev/urandom > "$place/kept"
  sha256sum "$place/kept" >> /mnt/ext/sums
  mount -o remount,ro "$place"
done
sha256sum /mnt/half/file >> /mnt/ext/sums
`

const WRITTEN = [
  '/var/lib', '/mnt/ext', '/mnt/xfs', '/mnt/vfat', '/mnt/over', '/mnt/alone',
  ...['volumes', 'secret'].flatMap(group => ['ext4', 'xfs', 'vfat', 'btrfs'].map(type => `/mnt/${group}/${type}`))
]
/** Not xfs: frozen it has a record in its log, which xfs_repair -n does not replay and counts as trouble. */
const OUTSIDE = ['root', 'ext', 'btrfs']
const CHANGED = /not resuming: the file system on '.*' changed since the image was made/

let machine: ScratchMachine
const directory = mkdtempSync(join(tmpdir(), 'permafrost-file-systems-'))

test.before(async () => {
  machine = await scratchMachine('file-systems', {
    memoryMib: 1024,
    spareBytes: 4096 * MIB,
    packages: ['lvm2', 'cryptsetup', 'xfsprogs', 'btrfs-progs', 'dosfstools'],
    disks: [
      {name: 'ext', bytes: 320 * MIB, type: 'ext4'}, {name: 'xfs', bytes: 320 * MIB, type: 'xfs'},
      {name: 'vfat', bytes: 64 * MIB, type: 'vfat'}, {name: 'btrfs', bytes: 160 * MIB, type: 'btrfs'},
      {name: 'lvm', bytes: 700 * MIB, type: 'none'}, {name: 'luks', bytes: 720 * MIB, type: 'none'}, {name: 'alone', bytes: 64 * MIB, type: 'none'}
    ]
  })
  await insideShell(machine, SETUP, GROUP)
  await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d; printf %s "$1" > /etc/permafrost/policy.d/test.conf',
    `[Needed]\nUnit=${WRITTEN.map((_, index) => `writer${index}.service`).join(' ')}\nReason=A test\n`)
  for (const [index, place] of WRITTEN.entries())
    await startPayload(machine, `writer${index}`, 'append', `${place}/diary`, `diary${index}`)
  // More than there is memory for beside the rest: the first is swapped out.
  await holdMemory(machine, 'first', 300)
  await holdMemory(machine, 'second', 380)
})

test.after.always(async () => {
  await machine[Symbol.asyncDispose]()
  rmSync(directory, {recursive: true})
})

for (const time of ['once', 'and once more'])
  test.serial(`goes on with every file system as it was, ${time}`, async t => {
    t.log(await inside(machine, ['swapon', '--show=NAME,USED', '--noheadings']))
    await save(t)
    for (const name of OUTSIDE) {
      const check = await fsck(disk(name))
      t.true(check.isClean, `${name}: ${check.output}`)
    }
    const lines = await findInDisk(disk('spare').path, lineOnDisk('diary\\d+'), await copyOnWriteArea(disk('spare')))
    for (const index of ['/mnt/ext', '/mnt/xfs', '/mnt/vfat'].map(place => WRITTEN.indexOf(place)))
      t.true([...lines].some(line => line.includes(` diary${index} `)), `nothing was written to ${WRITTEN[index] ?? ''} while saving`)
    const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
    t.true(resumed.ok, resumed.reason ?? '')
    await isAsBefore(t)
  })

const STRANGERS: readonly {readonly who: string, readonly act: () => Promise<unknown>}[] = [
  {who: 'a btrfs mounted read-only', act: async () => await run('btrfs', ['filesystem', 'label', disk('btrfs').path, 'stranger'])},
  // Where the first volume begins. e2fsprogs take an offset behind the name of the file.
  {who: 'an ext4 on a volume', act: async () => await run('tune2fs', ['-C', '7', `${disk('lvm').path}?offset=${MIB}`])}
]

test.serial('goes on when a stranger only looked at a btrfs', async t => {
  await save(t)
  await mountOutside(t, 'ro')
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  await isAsBefore(t)
})

test.serial('is clean when everything is unmounted', async t => {
  await insideShell(machine, `
    systemctl stop 'writer*' first second
    swapoff -a; umount /mnt/over /mnt/bound
    umount /mnt/ext /mnt/xfs /mnt/vfat /mnt/btrfs /mnt/alone /mnt/volumes/* /mnt/secret/*
    e2fsck -fn /dev/mapper/alone
    for group in volumes secret; do
      e2fsck -fn /dev/$group/ext4 && e2fsck -fn /dev/$group/ro
      xfs_repair -n /dev/$group/xfs && fsck.vfat -n /dev/$group/vfat && btrfs check --readonly /dev/$group/btrfs
    done`)
  t.deepEqual(kernelTrouble(machine.consoleText()), [])
  await insideShell(machine, 'mount /mnt/ext; mount -o ro /mnt/btrfs; mount /dev/volumes/ext4 /mnt/volumes/ext4')
})

for (const {who, act} of STRANGERS)
  test.serial(`starts anew and says why when a stranger changed ${who}`, async t => {
    await save(t)
    await act()
    await startsAnew(t)
    await insideShell(machine, 'mount -o remount,ro /mnt/btrfs; vgchange -q -ay volumes; mount /dev/volumes/ext4 /mnt/volumes/ext4')
  })

test.serial('starts anew and says why when a stranger mounted a btrfs and wrote to it', async t => {
  await save(t)
  await mountOutside(t, 'rw')
  await startsAnew(t)
})

async function startsAnew(t: ExecutionContext): Promise<void> {
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
  t.regex(await inside(machine, ['journalctl', '-b', '--no-pager', '--output=cat']), CHANGED)
  await attemptInside(machine, ['systemctl', 'is-system-running', '--wait'])
}

/** By the kernel of the host, which may have no btrfs; then btrfs-progs have to do for writing, and reading is left out. */
async function mountOutside(t: ExecutionContext, how: 'ro' | 'rw'): Promise<void> {
  const mounted = await attempt('mount', ['-t', 'btrfs', '-o', `loop,${how}`, disk('btrfs').path, directory])
  if (mounted.status !== 0) {
    t.log(`this host cannot mount btrfs: ${mounted.stderr.trim()}`)
    if (how === 'rw')
      await run('btrfs', ['filesystem', 'label', disk('btrfs').path, 'mounted'])
    return
  }
  try {
    if (how === 'rw')
      await run('touch', [join(directory, 'stranger')])
    else
      await run('find', [directory, '-type', 'f'])
  } finally {
    await run('umount', [directory])
  }
}

async function save(t: ExecutionContext): Promise<void> {
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
}

/** Lines of a diary that were written after the snapshot would now come twice. */
async function isAsBefore(t: ExecutionContext): Promise<void> {
  for (const [index, place] of WRITTEN.entries()) {
    t.deepEqual(await diaryComplaints(machine, `${place}/diary`), [])
    t.is((await attemptInside(machine, ['systemctl', 'is-active', `writer${index}`])).status, 0, place)
  }
  const sums = await attemptInside(machine, ['sha256sum', '--check', '--quiet', '/mnt/ext/sums'])
  t.is(sums.status, 0, sums.stdout + sums.stderr)
  t.is((await checkMemory(machine, 'first')).badPages, 0)
  t.is((await checkMemory(machine, 'second')).badPages, 0)
  t.is((await attemptInside(machine, ['cmp', '/mnt/bound/upper/diary', '/mnt/over/diary'])).status, 0)
  t.notRegex(await inside(machine, ['dmsetup', 'table']), /snapshot|permafrost-base|permafrost-cow/)
}

function disk(name: string): Disk {
  const found = machine.state.disks.find(each => each.name === name)
  if (found === undefined)
    throw new Error(`The machine has no disk '${name}'`)
  return found
}
