// Images that go to another machine, and come back from it: over TCP, over TLS, and through a command.
import {mkdtempSync, readFileSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {readSpare} from '../lab/figures.js'
import {fsck} from '../lab/outside.js'
import {useOwnInitramfs} from '../lab/own-initramfs.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {run} from '../lab/tool.js'
import {down} from '../lab/verbs/down.js'
import {askAndWait} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, diaryComplaints, holdMemory, kernelTrouble, memoryComplaints, startPayload, type HeldMemory} from '../lab/workload.js'

const SERVER = '10.8.0.1'
const CLIENT = '10.8.0.2'
const GATEWAY = '10.8.0.254'
const PORT = 7117
const IMAGES = '/srv/images'
/** The unit that the package brings. */
const RECEIVE = 'permafrost-receive.service'
const DIARY = '/var/lib/diary'
/** For the shell: the only card. */
const CARD = '"$(ls /sys/class/net | grep -v "^lo$" | head -n 1)"'
const ARCHIVE = '/dev/disk/by-id/virtio-archive'
const TARGET = '/etc/permafrost/permafrost.conf.d/60-target.conf'
/** Ends units that may not be there, and lets their names be taken again. */
const FORGET = 'forget() { systemctl stop "$@" 2> /dev/null || :; systemctl reset-failed "$@" 2> /dev/null || :; }; forget'

let server: ScratchMachine
let client: ScratchMachine

test.before(async () => {
  const segment = `server-${process.pid}`
  server = await scratchMachine('server', {
    memoryMib: 512, spareBytes: 0, packages: ['openssl', 'iproute2'], network: {segment, address: `${SERVER}/24`},
    disks: [{name: 'images', bytes: 2 ** 30, type: 'none'}]
  })
  client = await scratchMachine('client', {
    memoryMib: 768, spareBytes: 2 ** 29, packages: ['openssl', 'iproute2'], network: {segment, address: `${CLIENT}/24`},
    disks: [{name: 'archive', bytes: 2 ** 30, type: 'none'}]
  })
  await inside(server, ['mkdir', '-p', IMAGES])
  await startServer()
  await setTarget(`tcp://${SERVER}:${PORT}/client`)
  await startPayload(client, 'diary', 'append', DIARY)
  await holdMemory(client, 'hold', 60)
})

test.after.always(async () => {
  await client[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
})

test.serial('the check asks the server, and who keeps the network up would keep running', async t => {
  t.regex(await inside(client, ['permafrost', 'check']), /ok +Whoever takes the image is there/)
  t.regex(await inside(client, ['permafrost', 'needed']), /systemd-networkd/)
})

test.serial('systemctl hibernate sends the image to the server, and the next boot fetches it and goes on', async t => {
  const before = await checkMemory(client, 'hold')
  await hibernates(t)
  await run('cp', ['--sparse=always', client.disk('spare').path, kept()])
  const {superblock} = await readSpare(client.disk('spare').path)
  const listed = JSON.parse(await inside(server, ['permafrost', 'receive', 'list', IMAGES, '--json'])) as Record<string, unknown>
  t.like(listed, {name: 'client', isWhole: true, imageId: superblock.imageId})
  t.is((await inside(server, ['ls', '-A', IMAGES])), 'client.permafrost\n')
  await goesOn(t, before)
  t.regex(await inside(client, ['permafrost', 'image', 'show']), /^state +resumed$/m)
  t.deepEqual(kernelTrouble(client.consoleText()), [])
})

test.serial('no boot resumes it a second time, and every file system is clean', async t => {
  await down(client, {isWiped: false})
  const check = await fsck(client.disk('root'))
  t.true(check.isClean, check.output)
  t.notRegex(await startsAnew(t), /fetching|not resuming/)
  // Even where the spare device is the one of before, which gives leave to it.
  await down(client, {isWiped: false})
  await run('cp', ['--sparse=always', kept(), client.disk('spare').path])
  t.regex(await startsAnew(t), /fetching the image from 'tcp:.*'[\s\S]*not resuming: the file system on '.*' changed since/)
  t.is((await readSpare(client.disk('spare').path)).superblock.state, 'aborted')
  await startWork()
})

test.serial('a server that is killed half-way: the machine goes on, with the reason', async t => {
  await whenComing('systemctl kill --signal=KILL receive')
  await rollsBack(t, /the server has closed the connection/)
  t.deepEqual((await inside(server, ['sh', '-c', `ls ${IMAGES}`])).trim(), 'client.permafrost')
  await startServer()
  t.is((await inside(server, ['ls', '-A', IMAGES])).trim(), 'client.permafrost')
})

test.serial('a server that is no longer to be reached half-way: the machine goes on, with the reason', async t => {
  await setTarget(`tcp://${SERVER}:${PORT}/client`, 'TargetTimeoutSec=5')
  await whenComing(`ip link set ${CARD} down; systemctl kill --signal=CONT receive`)
  await rollsBack(t, /nothing was heard of it for 5 s/)
  await insideShell(server, `ip link set ${CARD} up`)
  await startServer()
  await setTarget(`tcp://${SERVER}:${PORT}/client`)
})

test.serial('a disk of the server that is full half-way: the machine goes on, with the reason', async t => {
  await insideShell(server, `systemctl stop receive; mkfs.ext4 -q /dev/disk/by-id/virtio-images; mount /dev/disk/by-id/virtio-images ${IMAGES}`)
  await startServer()
  await whenComing(`fallocate -l $(($(df --output=avail -B1 ${IMAGES} | tail -n 1) - 4194304)) ${IMAGES}/much; systemctl kill --signal=CONT receive`)
  await rollsBack(t, /ENOSPC/)
  t.deepEqual((await inside(server, ['ls', '-A', IMAGES])).trim().split('\n'), ['lost+found', 'much'])
  await insideShell(server, `systemctl stop receive; umount ${IMAGES}`)
})

test.serial('a server that is not there is said before anybody is frozen', async t => {
  const {status, stderr} = await attemptInside(client, ['permafrost', 'hibernate'])
  t.is(status, 3, stderr)
  t.regex(stderr, /Cannot send the image to 'tcp:.*': ECONNREFUSED/)
  await startServer()
})

test.serial('a server that is not there at the boot: an ordinary one that says why, and the image is given up', async t => {
  await hibernates(t)
  await inside(server, ['systemctl', 'stop', 'receive'])
  t.regex(await startsAnew(t), /not resuming: cannot connect to 'tcp:.*' \(10\.8\.0\.1\): Connection refused[\s\S]*not resuming: the image of '.*' went elsewhere as a stream and was not brought back/)
  t.regex(await inside(client, ['permafrost', 'image', 'show']), /^state +aborted$/m)
  t.regex(await inside(client, ['ip', 'addr']), new RegExp(`inet ${CLIENT}/24`))
})

test.serial('a card that is alone in its network: the next boot reaches the server through a gateway outside of it', async t => {
  await startServer()
  await insideShell(server, `ip addr add ${GATEWAY}/24 dev ${CARD}`)
  await insideShell(client, `
    card=${CARD}
    ip addr del ${CLIENT}/24 dev $card; ip addr add ${CLIENT}/32 dev $card
    ip route add ${GATEWAY} dev $card; ip route add ${SERVER} via ${GATEWAY}`)
  await startWork()
  const before = await checkMemory(client, 'hold')
  await hibernates(t)
  await goesOn(t, before)
  t.regex(await inside(client, ['ip', 'route', 'get', SERVER]), new RegExp(`via ${GATEWAY}`))
})

test.serial('over TLS, both sides show their certificates, and the next boot fetches the image', async t => {
  await useTls()
  await insideShell(server, `
    ${FORGET} receive
    mkdir -p /etc/permafrost/receive
    for name in ca server; do cp ${TLS}/$name.pem /etc/permafrost/receive/; done
    cp ${TLS}/server.key /etc/permafrost/receive/key.pem; mv /etc/permafrost/receive/server.pem /etc/permafrost/receive/certificate.pem
    systemctl start ${RECEIVE}`)
  await setTarget(`tls://${SERVER}:${PORT}/client`)
  await inside(client, ['sh', '-c', `mkdir -p /etc/permafrost/resume.d; printf '#!/bin/sh\\nexec cat ${ARCHIVE}\\n' > /etc/permafrost/resume.d/archive; chmod +x /etc/permafrost/resume.d/archive`])
  await useOwnInitramfs(client)
  t.is((await insideShell(client, 'stat -c %a /boot/initrd.img-$(uname -r)')).trim(), '600')
  await startWork()
  const before = await checkMemory(client, 'hold')
  await hibernates(t)
  await goesOn(t, before)
  await setTarget(`tls://${SERVER}:${PORT}/somebody-else`)
  const {stderr} = await attemptInside(client, ['permafrost', 'hibernate'])
  t.regex(stderr, /the certificate is that of 'client'/)
  const listed = JSON.parse(await inside(server, ['permafrost', 'receive', 'list', '/var/lib/permafrost-images', '--json'])) as Record<string, unknown>
  t.like(listed, {name: 'client', isWhole: true})
  t.regex(await inside(server, ['systemd-analyze', 'security', RECEIVE]), /exposure level for permafrost-receive\.service: (0|1)\.\d OK/)
})

test.serial('a server with a certificate of another authority gets nothing, and nothing is believed that it sends', async t => {
  await setTarget(`tls://${SERVER}:${PORT}/client`)
  await hibernates(t)
  await startServer(`--certificate ${TLS}/rogue.pem --key ${TLS}/rogue.key --ca ${TLS}/ca.pem`)
  t.regex(await startsAnew(t), /not resuming: 'tls:.*' closed the connection without an answer/)
  const {stderr} = await attemptInside(client, ['permafrost', 'hibernate'])
  t.regex(stderr, /Cannot send the image to 'tls:.*': /)
})

test.serial('a command takes the image, and a program of resume.d brings it back', async t => {
  await setTarget(`command:cat > ${ARCHIVE}`)
  await startWork()
  const before = await checkMemory(client, 'hold')
  await hibernates(t)
  await goesOn(t, before)
  t.deepEqual(kernelTrouble(client.consoleText()), [])
})

test.serial('a command that fails: the machine goes on, with what it said', async t => {
  await setTarget("command:head -c 20M > /dev/null; echo 'the tape is at its end' >&2; exit 4")
  await rollsBack(t, /it ended with 4: the tape is at its end/)
})

const TLS = '/etc/permafrost/tls'

/** A server in the place of the one before. */
async function startServer(options = ''): Promise<void> {
  await insideShell(server, `
    ${FORGET} receive ${RECEIVE}
    systemd-run --quiet --unit=receive --property=Type=notify --property=NotifyAccess=all permafrost receive --listen ${SERVER}:${PORT} --directory ${IMAGES} ${options}`)
}

async function setTarget(target: string, ...more: readonly string[]): Promise<void> {
  await insideShell(client, `printf '%s\\n' '[Image]' "$@" > ${TARGET}`, `Target=${target}`, ...more)
}

/** Something that happens to the server when some of the image has come; meanwhile the server stands still, as the image might not. */
async function whenComing(act: string): Promise<void> {
  const script = `until [ -n "$(find ${IMAGES} -name '.*.part' -size +2M)" ]; do sleep 0.05; done; systemctl kill --signal=STOP receive; ${act}`
  await insideShell(server, `${FORGET} mishap\nsystemd-run --quiet --collect --unit=mishap sh -c "$1"`, script.replaceAll('$', '$$$$'))
}

async function startWork(): Promise<void> {
  await insideShell(client, `${FORGET} diary hold\nrm -f ${DIARY}`)
  await startPayload(client, 'diary', 'append', DIARY)
  await holdMemory(client, 'hold', 60)
}

async function hibernates(t: ExecutionContext): Promise<void> {
  t.is(await askAndWait(client, ['systemctl', 'hibernate'], 'systemd-hibernate.service'), null)
  client.update({qemu: null})
  t.is((await readSpare(client.disk('spare').path)).superblock.state, 'away')
}

async function goesOn(t: ExecutionContext, before: HeldMemory): Promise<void> {
  const resumed = await resume(client, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, `${resumed.reason ?? ''} ${client.consoleText().split('\n').filter(line => line.includes('permafrost:')).join('\n')}`)
  await isAsBefore(t, before)
}

async function rollsBack(t: ExecutionContext, reason: RegExp): Promise<void> {
  const before = await checkMemory(client, 'hold')
  const {status, stderr} = await attemptInside(client, ['permafrost', 'hibernate'], {timeoutMs: 400_000})
  t.is(status, 1, stderr)
  t.regex(`${stderr}\n${await inside(client, ['permafrost', 'status'])}`, reason)
  await isAsBefore(t, before)
  t.regex(await inside(client, ['permafrost', 'image', 'show']), /^state +aborted$/m)
}

async function isAsBefore(t: ExecutionContext, before: HeldMemory): Promise<void> {
  t.notRegex(await inside(client, ['dmsetup', 'table']), /snapshot|permafrost-base|permafrost-cow/)
  t.deepEqual(await memoryComplaints(client, 'hold', before), [])
  t.deepEqual(await diaryComplaints(client, DIARY), [])
}

/** Gives what the loader has said. */
async function startsAnew(t: ExecutionContext): Promise<string> {
  const started = await resume(client, {expect: 'fresh', diesWithStarter: true})
  t.true(started.ok, started.reason ?? '')
  await attemptInside(client, ['systemctl', 'is-system-running', '--wait'])
  return await inside(client, ['journalctl', '-b', '--no-pager', '--output=cat', '-t', 'permafrost'])
}

/** An authority, certificates that it has signed for both, and a server's that it has not. */
async function useTls(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'permafrost-tls-'))
  try {
    await run('bash', ['-c', `
      cd "$1"
      authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem"; }
      signed() { # FILE CN AUTHORITY
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$1.csr"
        openssl x509 -req -in "$1.csr" -CA "$3.pem" -CAkey "$3.key" -CAcreateserial -days 30 -extfile <(echo 'subjectAltName=IP:${SERVER}') -out "$1.pem"
      }
      { authority ca; authority other; signed server server ca; signed client client ca; signed rogue server other; } 2> /dev/null`, 'bash', directory])
    const put = async (machine: ScratchMachine, name: string, to: string) =>
      await insideShell(machine, `mkdir -p ${TLS}; umask 077; printf %s "$1" > ${TLS}/${to}`, readFileSync(join(directory, name), 'utf8'))
    for (const name of ['ca.pem', 'server.pem', 'server.key', 'rogue.pem', 'rogue.key']) await put(server, name, name)
    for (const [name, to] of [['ca.pem', 'ca.pem'], ['client.pem', 'certificate.pem'], ['client.key', 'key.pem']] as const) await put(client, name, to)
  } finally {
    rmSync(directory, {recursive: true})
  }
}

function kept(): string {
  return join(client.directory, 'spare-kept')
}
