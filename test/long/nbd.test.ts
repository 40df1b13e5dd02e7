// An image on a network block device: nbd-client is kept by the shipped policy, and Debian's own initramfs script brings the device back.
// The stock path, on swap on such a device, freezes nbd-client and cannot write.
import test from 'ava'
import {inside, insideShell} from '../lab/execute.js'
import {scratchMachine, type ScratchMachine} from '../lab/scratch.js'
import {takeStockPath} from '../lab/stock-path.js'
import {askAndWait, hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {checkMemory, holdMemory, kernelLogOf, kernelTrouble, memoryComplaints, waitFor} from '../lab/workload.js'

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
    truncate -s 1200M /srv/spare.img /srv/swap.img
    printf '[generic]\\nuser=root\\ngroup=root\\n' > /etc/nbd-server/config
    for name in spare swap; do
      printf "[$name]\\nexportname=/srv/$name.img\\nflush=true\\nfua=true\\n" >> /etc/nbd-server/config
    done
    systemctl restart nbd-server.service`)
  client = await scratchMachine('nbd-client', {memoryMib: 768, spareBytes: 0, packages: ['nbd-client'], network: {segment, address: `${CLIENT}/24`}})
  await connect('spare', 'nbd0')
  await inside(client, ['permafrost', 'setup', '--yes', '/dev/nbd0'])
  await holdMemory(client, 'hold', 100)
})

test.after.always(async () => {
  await client[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
})

test.serial('stock hibernation, with swap on an NBD device, cannot write its image', async t => {
  await connect('swap', 'nbd1')
  await insideShell(client, 'mkswap /dev/nbd1 && swapon /dev/nbd1')
  const before = await checkMemory(client, 'hold')
  await takeStockPath(client, 'lz4')
  const reason = await askAndWait(client, ['systemctl', 'hibernate'], 'systemd-hibernate.service')
  t.regex(reason ?? 'stock hibernation managed it', /Input\/output error/)
  t.true(client.isRunning)
  t.regex(await kernelLogOf(client), /I\/O error, dev nbd1, sector \d+ op 0x1:\(WRITE\)/)
  await insideShell(client, 'swapoff /dev/nbd1; systemctl stop swap-connection')
  t.deepEqual(await memoryComplaints(client, 'hold', before), [])
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
  // What is read over a broken connection, before there is a new one, fails; nothing else does.
  t.deepEqual(kernelTrouble(client.consoleText()).filter(line => !/ dev nbd[01], /.test(line)), [])
})

/** The client's connection to an export of the server, made anew whenever it breaks. */
async function connect(exportName: string, device: string): Promise<void> {
  await insideShell(client, `
    systemd-run --quiet --unit="$1-connection" --property=Restart=always --property=RestartSec=1 --property=StartLimitIntervalSec=0 \\
      nbd-client ${SERVER} -N "$1" "/dev/$2" -b 512 -nonetlink -nofork -timeout 10
    until [ "$(cat "/sys/class/block/$2/size")" -gt 0 ]; do sleep 0.1; done`, exportName, device)
}
