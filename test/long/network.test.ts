// File systems and images on another machine: an NFS mount that is busy, and an image written over it as a file.
import test, {type ExecutionContext} from 'ava'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {readSpare} from '../lab/figures.js'
import {fsck} from '../lab/outside.js'
import {useOwnInitramfs} from '../lab/own-initramfs.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {down} from '../lab/verbs/down.js'
import {askAndWait, hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {stock} from '../lab/verbs/stock.js'
import {
  appendedLines, checkMemory, diaryComplaints, holdMemory, kernelLogOf, kernelTrouble, memoryComplaints, startPayload,
  waitFor, type HeldMemory
} from '../lab/workload.js'

const SERVER = '10.7.0.1'
const CLIENT = '10.7.0.2'
const EXPORT = '/srv/export'
const MOUNT = '/srv/mounted'
const DIARY = `${MOUNT}/diary`
/** The card's name depends on whether udev has given it one. Nothing but the shell and klibc-utils is in every initramfs; ipconfig talks on standard output, where the image is to come. */
const NETWORK_UP = `for card in /sys/class/net/*; do [ "$card" = /sys/class/net/lo ] || break; done
ipconfig -t 30 -c none "ip=${CLIENT}:${SERVER}::255.255.255.0::\${card##*/}:none" >&2`

let server: ScratchMachine
let client: ScratchMachine
/** What the console said while the stock path gave up: the kernel shows where each task stands that it could not freeze. */
let saidByStock = ''

test.before(async () => {
  const segment = `needs-${process.pid}`
  server = await scratchMachine('server', {
    memoryMib: 512, spareBytes: 0, packages: ['nfs-kernel-server', 'iproute2'], network: {segment, address: `${SERVER}/24`}
  })
  await insideShell(server, `
    mkdir -p ${EXPORT}; head -c 8M /dev/urandom > ${EXPORT}/known
    echo '${EXPORT} *(rw,sync,no_root_squash,no_subtree_check,fsid=1)' > /etc/exports
    systemctl restart nfs-kernel-server; exportfs -ra`)
  client = await scratchMachine('client', {
    memoryMib: 768, swapBytes: 2 ** 30, packages: ['nfs-common'], network: {segment, address: `${CLIENT}/24`}
  })
  await insideShell(client, `
    mkdir -p ${MOUNT} /etc/permafrost/resume.d
    mount -t nfs -o vers=4.0,hard ${SERVER}:${EXPORT} ${MOUNT}
    printf '%s\\n' '#!/bin/sh' "$1" 'mkdir -p /run/image' 'nfsmount -o nolock,ro,tcp ${SERVER}:${EXPORT} /run/image' 'exec cat /run/image/image' > /etc/permafrost/resume.d/server
    chmod +x /etc/permafrost/resume.d/server`, NETWORK_UP)
  await holdMemory(client, 'hold', 100)
  await startPayload(client, 'diary', 'append', DIARY)
})

test.after.always(async () => {
  await client[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
})

test.serial('hibernates while an NFS mount is read and written, and all of it goes on', async t => {
  await insideShell(client, `for n in 1 2; do
    systemd-run --quiet --unit=busy-$n sh -c 'sum=$$(sha256sum < ${MOUNT}/known); while [ "$$(sha256sum < ${MOUNT}/known)" = "$$sum" ]; do echo 3 > /proc/sys/vm/drop_caches; done'
  done`)
  await hibernatesAndGoesOn(t)
  t.is(await inside(client, ['systemctl', 'is-active', 'busy-1', 'busy-2']), 'active\n'.repeat(2), 'one read what is not there')
  await inside(client, ['systemctl', 'stop', 'busy-1', 'busy-2'])
})

test.serial('stock hibernation gives up while the server does not answer', async t => {
  // What is still to be written would keep the stock path's sync waiting for as long as the server is away.
  await insideShell(client, 'systemctl stop diary; sync')
  await startPayload(client, 'look', 'look', `${MOUNT}/known`, '/run/seen')
  await waitFor(client, `grep -q ' ${MOUNT}/known$' "/proc/$(systemctl show --value --property=MainPID look)/maps"`)
  await insideShell(server, 'ip link set "$(ls /sys/class/net | grep -v "^lo$" | head -n 1)" down')
  await inside(client, ['systemctl', 'kill', '--signal=USR1', 'look'])
  await waitFor(client, `grep -q '^State:.D' "/proc/$(systemctl show --value --property=MainPID look)/status"`)
  const before = (await kernelLogOf(client)).length
  const consoleBefore = client.consoleText().length
  const tried = await stock(client, 'lz4')
  saidByStock = client.consoleText().slice(consoleBefore)
  t.false(tried.ok, 'stock hibernation managed it')
  t.true(client.isRunning)
  t.regex((await kernelLogOf(client)).slice(before), /Freezing (user space processes|of tasks) failed after \d+\.\d+ seconds/)
})

test.serial('we do not, and what waits for the server is answered after the resume', async t => {
  const before = await checkMemory(client, 'hold')
  const saved = await hibernate(client, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  await resumes(t)
  t.not((await attemptInside(client, ['test', '-e', '/run/seen'])).status, 0)
  await insideShell(server, 'ip link set "$(ls /sys/class/net | grep -v "^lo$" | head -n 1)" up')
  await waitFor(client, 'test -e /run/seen')
  t.is(await insideShell(client, 'sha256sum < /run/seen'), await insideShell(server, `sha256sum < ${EXPORT}/known`))
  t.deepEqual(await memoryComplaints(client, 'hold', before), [])
})

test.serial('an image written over the mount as a file is resumed from there', async t => {
  await useOwnInitramfs(client)
  await insideShell(client, `mount -t nfs -o vers=4.0,hard ${SERVER}:${EXPORT} ${MOUNT}; rm -f ${DIARY} ${MOUNT}/image`)
  await holdMemory(client, 'hold', 100)
  await startPayload(client, 'diary', 'append', DIARY)
  const before = await checkMemory(client, 'hold')
  t.is(await askAndWait(client, ['sh', '-c', `permafrost snapshot --to - > ${MOUNT}/image`], 'systemd-hibernate.service'), null)
  client.update({qemu: null})
  t.is((await readSpare(client.disk('spare').path)).superblock.state, 'away')
  t.regex(await inside(server, ['sh', '-c', `du -m ${EXPORT}/image`]), /^[1-9]\d+\s/)
  await resumes(t)
  t.deepEqual(await memoryComplaints(client, 'hold', before), [])
  // What went over the network after the snapshot has been sent, though who sent it does not remember.
  const {length} = await appendedLines(client, DIARY)
  await waitFor(client, `[ "$(wc -l < ${DIARY})" -gt ${length} ]`)
  t.is(await insideShell(client, `sha256sum < ${MOUNT}/known`), await insideShell(server, `sha256sum < ${EXPORT}/known`))
})

test.serial('the kernel has not complained, and the root file system is clean', async t => {
  t.deepEqual(kernelTrouble(client.consoleText().replace(saidByStock, '')), [])
  await down(client, {isWiped: false})
  const check = await fsck(client.disk('root'))
  t.true(check.isClean, check.output)
})

async function hibernatesAndGoesOn(t: ExecutionContext): Promise<void> {
  const before = await checkMemory(client, 'hold')
  const saved = await hibernate(client, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  await resumes(t)
  await goesOn(t, before)
}

async function resumes(t: ExecutionContext): Promise<void> {
  const resumed = await resume(client, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, `${resumed.reason ?? ''}\n${client.consoleOfLastBoot().split('Run /init')[1]?.slice(0, 8000) ?? ''}`)
}

async function goesOn(t: ExecutionContext, before: HeldMemory): Promise<void> {
  t.deepEqual(await memoryComplaints(client, 'hold', before), [])
  t.deepEqual(await diaryComplaints(client, DIARY), [])
}
