// An image on a network block device: nbd-client is kept by the shipped policy, and Debian's own initramfs script brings the device back.
import test from 'ava'
import {inside, insideShell} from '../lab/execute.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, holdMemory, kernelTrouble, memoryComplaints, waitFor} from '../lab/workload.js'

const SERVER = '10.7.0.1'
const CLIENT = '10.7.0.2'
/** As nbd-client's initramfs script and that of initramfs-tools read them. */
const BOOT = `nbdroot=${SERVER},spare,nbd0 ip=${CLIENT}:::255.255.255.0::eth0:none net.ifnames=0`

let server: ScratchMachine
let client: ScratchMachine

test.before(async () => {
  const segment = `nbd-${process.pid}`
  server = await scratchMachine('nbd-server', {memoryMib: 384, spareBytes: 0, packages: ['nbd-server'], network: {segment, address: `${SERVER}/24`}})
  await insideShell(server, `
    truncate -s 1200M /srv/spare.img
    printf '[generic]\\nuser=root\\ngroup=root\\n[spare]\\nexportname=/srv/spare.img\\nflush=true\\nfua=true\\n' > /etc/nbd-server/config
    systemctl restart nbd-server.service`)
  client = await scratchMachine('nbd-client', {memoryMib: 768, spareBytes: 0, packages: ['nbd-client'], network: {segment, address: `${CLIENT}/24`}})
  await insideShell(client, `
    systemd-run --quiet --unit=spare-connection --property=Restart=always --property=RestartSec=1 --property=StartLimitIntervalSec=0 \\
      nbd-client ${SERVER} -N spare /dev/nbd0 -b 512 -nonetlink -nofork -timeout 10
    until [ "$(cat /sys/class/block/nbd0/size)" -gt 0 ]; do sleep 0.1; done
    permafrost setup --yes /dev/nbd0`)
  await holdMemory(client, 'hold', 100)
})

test.after.always(async () => {
  await client[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
})

test.serial('hibernates to an NBD device and is resumed from it', async t => {
  t.regex(await inside(client, ['permafrost', 'needed']), /nbd-client.*\/usr\/lib\/permafrost\/policy\.d\/50-block-devices\.conf:/)
  const before = await checkMemory(client, 'hold')
  await hibernate(client, 'systemctl')
  t.false(client.isRunning)
  t.is(await insideShell(server, 'head -c 15 /srv/spare.img'), 'PermafrostImage')
  // Connections of a client that is off; its own next ones are new.
  await inside(server, ['systemctl', 'restart', 'nbd-server.service'])
  const resumed = await resume(client, {expect: 'resumed', extra: BOOT, diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
  t.deepEqual(await memoryComplaints(client, 'hold', before), [])
})

test.serial('the connection comes back, and the image is one that was resumed', async t => {
  await waitFor(client, "permafrost image show | grep -q '^state *resumed$'")
  // What is read over the broken connection, before there is a new one, fails; nothing else does.
  t.deepEqual(kernelTrouble(client.consoleText()).filter(line => !/ dev nbd0, /.test(line)), [])
})
