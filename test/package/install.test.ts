// From two .deb files to a machine that hibernates, and back: on Debian as its installer leaves it.
import {closeSync, openSync, readdirSync, writeSync} from 'node:fs'
import {mkdtemp, readFile, rm} from 'node:fs/promises'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test, {type ExecutionContext} from 'ava'
import {attemptInside, inside, insideShell} from '../lab/execute.js'
import {buildServicePackage, projectVersion} from '../lab/packages.js'
import {repository} from '../lab/places.js'
import {say} from '../lab/say.js'
import type {ScratchMachine} from '../lab/scratch.js'
import {attempt, run} from '../lab/tool.js'
import {hibernate} from '../lab/verbs/hibernate.js'
import {resume} from '../lab/verbs/resume.js'
import {down} from '../lab/verbs/down.js'
import {kernelTrouble} from '../lab/workload.js'
import type {Layout} from './debian-disk.js'
import {commandsIn, manualExamples, readmeCommand, readmeExamples} from './examples.js'
import {apt, bring, debianMachine, describeSystem, reboot, typed} from './debian-machine.js'

/** Where a superblock has its format's version: service/image/FORMAT.md. */
const AT_VERSION = 16

/** Where install-debian.sh lets the first partition begin. */
const PARTITION_OFFSET = 2048 * 512

/** The name that a disk with the serial number "spare" has. */
const SPARE = '/dev/disk/by-id/virtio-spare'

/** Where README has its reader make the packages, and install them from. */
const MADE = 'dist/packages'

let directory = ''
let service = ''
let kernel = ''

test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'permafrost-packages-'))
  await run('sh', ['-c', readmeCommand('Install', 'npm run package')], {cwd: repository()})
  const made = readdirSync(join(repository(), MADE))
  service = join(repository(), MADE, made.find(name => name.startsWith('permafrost_')) ?? '')
  kernel = join(repository(), MADE, made.find(name => name.startsWith('linux-image-')) ?? '')
})

test.after.always(async () => {
  if (directory !== '') await rm(directory, {recursive: true})
})

test.serial('lintian has no complaint that is not explained', async t => {
  const own = await attempt('lintian', ['--fail-on', 'error,warning', '--allow-root', service])
  t.is(own.status, 0, own.stdout)
  // The project has no address that mail reaches.
  const other = await attempt('lintian', ['--fail-on', 'error', '--allow-root', '--suppress-tags', 'bogus-mail-host,bogus-mail-host-in-debian-changelog', kernel])
  t.is(other.status, 0, other.stdout)
})

test.serial('the same source gives the same package, byte by byte', async t => {
  const again = await mkdtemp(join(tmpdir(), 'permafrost-packages-'))
  try {
    const second = await buildServicePackage(again)
    t.true((await readFile(service)).equals(await readFile(second)))
  } finally {
    await rm(again, {recursive: true})
  }
})

for (const layout of ['plain', 'crypt'] as const) {
  test.serial(`Debian with root on ${layout === 'plain' ? 'a partition' : 'LVM in LUKS'} hibernates after apt install, setup and a reboot, and is as before after a purge`, async t => {
    await using machine = await debianMachine(`install-${layout}`, layout)
    const before = await describeSystem(machine)
    await installs(t, machine)
    await setsUp(t, machine)
    await rebootsReady(t, machine, layout)
    await hibernates(t, machine)
    if (layout === 'plain') {
      await runsExamples(t, machine)
      await takesSettings(t, machine)
      await carriesAnImage(t, machine)
      await bootsAfterGrubWasUpdated(t, machine)
      await upgrades(t, machine)
      await refusesAnOlderFormat(t, machine)
    }
    await removes(t, machine, before)
    // Debian's own kernel may say what it likes.
    const ours = machine.consoleText().split('\n==== boot ').filter(text => text.includes('-permafrost '))
    t.deepEqual(kernelTrouble(ours.join('\n')), [])
    if (layout === 'plain') await isCleanInTheEnd(t, machine)
  })
}

async function installs(t: ExecutionContext, machine: ScratchMachine): Promise<void> {
  const line = readmeCommand('Install', 'apt')
  say(line)
  await bring(machine, [service, kernel], `/root/${MADE}`)
  const {status, stdout: said} = await typed(machine, {line, question: 'Do you want to continue', answer: 'y'})
  t.is(status, 0, said)
  t.regex(said, /permafrost setup DEVICE/)
  t.notRegex(said, /^(E: |dpkg: error|Failed to)/m, said)
  t.is(await inside(machine, ['systemctl', 'is-active', 'permafrostd.service']), 'active\n')
  t.is(await inside(machine, ['systemctl', 'is-enabled', 'permafrostd.service']), 'enabled\n')
  for (const initramfs of (await insideShell(machine, 'ls /boot/initrd.img-*')).trim().split('\n'))
    t.regex(await inside(machine, ['lsinitramfs', initramfs]), /permafrost-loader/, initramfs)
}

async function setsUp(t: ExecutionContext, machine: ScratchMachine): Promise<void> {
  const line = readmeCommand('Install', 'permafrost setup', SPARE)
  say(line)
  const question = "Type 'yes'"
  const declined = await typed(machine, {line, question, answer: 'no'})
  t.is(declined.status, 2, declined.stdout)
  t.regex(declined.stdout, /vdb .*2\.5G disk/)
  t.not((await attemptInside(machine, ['permafrost', 'image', 'show', '/dev/vdb'])).status, 0)
  const held = await attemptInside(machine, ['permafrost', 'setup', '--yes', '/dev/vda'])
  t.is(held.status, 3, 'the disk with the system on it')
  const accepted = await typed(machine, {line, question, answer: 'yes'})
  t.is(accepted.status, 0, accepted.stdout)
  t.regex(accepted.stdout, /has room for an image of \d{4} MiB/)
  t.regex(accepted.stdout, /^missing {2}The kernel can freeze processes/m)
  t.regex(accepted.stdout, /Boot a Permafrost kernel/)
  t.notRegex(accepted.stdout, /Making the initramfs/, 'those of the installation are new enough')
}

async function rebootsReady(t: ExecutionContext, machine: ScratchMachine, layout: Layout): Promise<void> {
  const line = readmeCommand('Install', 'reboot')
  say(line)
  await reboot(machine, line)
  t.regex(await inside(machine, ['uname', '-r']), /-permafrost$/m)
  const root = await inside(machine, ['findmnt', '--noheadings', '--output', 'SOURCE', '/'])
  t.is(root, layout === 'plain' ? '/dev/mapper/permafrost-vda1\n' : '/dev/mapper/system-root\n')
  const check = await attemptInside(machine, ['sh', '-c', readmeCommand('Install', 'permafrost check')])
  t.is(check.status, 0, check.stdout)
  t.notRegex(check.stdout, /^missing/m)
  const again = await attemptInside(machine, ['permafrost', 'setup', '--yes', SPARE])
  t.regex(again.stdout, /Ready: 'systemctl hibernate'/, 'a second setup, now with everything there')
}

async function hibernates(t: ExecutionContext, machine: ScratchMachine): Promise<void> {
  say(readmeCommand('Install', 'systemctl hibernate'))
  await inside(machine, ['systemd-run', '--quiet', '--collect', '--unit=counter', 'sh', '-c', 'n=0; while sleep 0.1; do n=$((n+1)); echo $n > /run/counter; done'])
  const bootId = await inside(machine, ['cat', '/proc/sys/kernel/random/boot_id'])
  const saved = await hibernate(machine, 'systemctl')
  t.true(saved.ok, saved.reason ?? '')
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, `${resumed.reason ?? ''}\n${machine.consoleOfLastBoot().slice(-4000)}`)
  t.is(await inside(machine, ['cat', '/proc/sys/kernel/random/boot_id']), bootId)
  const count = Number(await inside(machine, ['cat', '/run/counter']))
  await insideShell(machine, `until [ "$(cat /run/counter)" -gt ${count} ]; do sleep 0.1; done`)
  await insideShell(machine, "until permafrost status | grep -q '^State *idle'; do sleep 0.5; done")
  await inside(machine, ['systemctl', 'stop', 'counter'])
  say(`saved in ${saved.seconds} s, resumed in ${resumed.seconds} s, ${Math.round((saved.storedBytes ?? 0) / 2 ** 20)} MiB stored`)
}

/** Everything that asks; what needs an image is run where there is one, and what sets up or hibernates is the rest of this. */
async function runsExamples(t: ExecutionContext, machine: ScratchMachine): Promise<void> {
  say('the examples of README and manual')
  await runAll(t, machine, examples(SPARE).filter(line => /needed|status$|check$|CanHibernate|journalctl|image show|image verify$/.test(line)))
  const watched = await attemptInside(machine, ['timeout', '--signal=INT', '20', 'sh', '-c', `exec ${readmeCommand('Configure', 'permafrost status --watch')}`])
  t.regex(watched.stdout, /idle/)
}

/** What `permafrost check` misses where the server that the manual names is not. */
const WANT_THE_SERVER = ['Whoever takes the image is there', 'The next boot can get the image back', 'There is room for the image']

/** Files that the reader is shown, each in its place, and what he is told to type about them. */
async function takesSettings(t: ExecutionContext, machine: ScratchMachine): Promise<void> {
  say('the files of settings of README and manual')
  const policies = [...readmeExamples('Configure', ''), ...manualExamples('permafrost-policy.5', '')].filter(text => /^\[Needed\]/m.test(text))
  const settings = manualExamples('permafrost.conf.5', '').filter(text => /^\[/m.test(text))
  t.true(policies.length > 1 && settings.length > 0)
  await insideShell(machine, 'mkdir -p /etc/permafrost/policy.d /etc/permafrost/permafrost.conf.d')
  const files = [
    ...policies.map((text, index) => [`/etc/permafrost/policy.d/9${index}-example.conf`, text] as const),
    ...settings.map((text, index) => [`/etc/permafrost/permafrost.conf.d/9${index}-example.conf`, text] as const)
  ]
  for (const [path, text] of files)
    await insideShell(machine, 'printf "%s" "$2" > "$1"', path, text)
  const [mask = ''] = commandsIn(manualExamples('permafrost-policy.5', ''))
  await insideShell(machine, mask)
  await runAll(t, machine, [readmeCommand('Configure', 'permafrost needed')])
  const check = await attemptInside(machine, ['sh', '-c', readmeCommand('Install', 'permafrost check')])
  t.deepEqual([...check.stdout.matchAll(/^missing +([^:]+)/mg)].map(([, title]) => title), WANT_THE_SERVER, check.stdout)
  await insideShell(machine, 'rm "$@"', ...files.map(([path]) => path), mask.split(' ').at(-1) ?? '')
}

/** Where the spare device is carried to, or a rescue system has it, an image is copied as the reader is told to. */
async function carriesAnImage(t: ExecutionContext, machine: ScratchMachine): Promise<void> {
  say('the image, carried elsewhere')
  t.true((await hibernate(machine, 'systemctl')).ok)
  const lines = examples(machine.disk('spare').path).filter(line => /image copy|verify image/.test(line))
  t.is(lines.length, 3)
  for (const line of lines) {
    const command = line.replace(/^permafrost/, `"$0" --import=${repository()}/test/lib/register.mjs ${repository()}/service/cli.ts`)
    const {status, stderr} = await attempt('sh', ['-c', command, process.execPath], {cwd: directory})
    t.is(status, 0, `${line}: ${stderr}`)
  }
  const resumed = await resume(machine, {expect: 'resumed', diesWithStarter: true})
  t.true(resumed.ok, resumed.reason ?? '')
}

/** As they are printed, but for the device, and for where the reader is to choose what an image goes to. */
function examples(device: string): readonly string[] {
  const printed = [...readmeExamples('Configure', device), ...['permafrost.1', 'permafrostd.8'].flatMap(page => manualExamples(page, device))]
  return commandsIn(printed).map(line => line.replace('| …', '| cat > copy'))
}

/** One after the other in one directory, since later ones use what earlier ones left. */
async function runAll(t: ExecutionContext, machine: ScratchMachine, lines: readonly string[]): Promise<void> {
  t.true(lines.length > 0)
  for (const line of lines) {
    const {status, stdout, stderr} = await attemptInside(machine, ['sh', '-c', `cd /var/tmp; ${line}`], {timeoutMs: 300_000})
    t.is(status, 0, `${line}: ${stdout}${stderr}`)
  }
}

/** A kernel's upgrade does so: grub-probe has to see through the devices under the file systems. */
async function bootsAfterGrubWasUpdated(t: ExecutionContext, machine: ScratchMachine): Promise<void> {
  say('update-grub, update-initramfs, reboot')
  const kernels = ['grep', '-E', '^\\s*(linux|initrd)\\s', '/boot/grub/grub.cfg']
  const before = await inside(machine, kernels)
  await inside(machine, ['sh', '-c', 'update-grub 2>&1 && update-initramfs -u 2>&1'], {timeoutMs: 900_000})
  t.is(await inside(machine, kernels), before)
  await reboot(machine)
  t.is((await attemptInside(machine, ['permafrost', 'check'])).status, 0)
}

/** The package with a higher version, and nothing else changed. */
async function packNewer(): Promise<string> {
  const tree = join(directory, 'newer')
  const file = join(directory, `permafrost_${projectVersion()}.1_amd64.deb`)
  await run('dpkg-deb', ['--raw-extract', service, tree])
  await run('sed', ['-i', 's/^Version: .*/&.1/', join(tree, 'DEBIAN/control')])
  await run('dpkg-deb', ['--root-owner-group', '--build', tree, file])
  return file
}

async function upgrades(t: ExecutionContext, machine: ScratchMachine): Promise<void> {
  say('upgrade')
  const mine = '\n[Freeze]\nFreezeTimeoutSec=25\n'
  await insideShell(machine, 'printf "%s" "$1" >> /etc/permafrost/permafrost.conf; systemctl disable --quiet permafrostd.service', mine)
  const files = 'cat /etc/permafrost/permafrost.conf /etc/permafrost/permafrost.conf.d/spare.conf'
  const before = await insideShell(machine, files)
  await bring(machine, [await packNewer()], '/root/newer')
  await apt(machine, 'apt install -y /root/newer/*.deb')
  t.is(await inside(machine, ['dpkg-query', '-W', '-f', '${Status} ${Version}', 'permafrost']), `install ok installed ${projectVersion()}.1`)
  t.is(await insideShell(machine, files), before)
  t.is((await attemptInside(machine, ['systemctl', 'is-enabled', 'permafrostd.service'])).stdout, 'disabled\n', "the administrator's choice")
  await inside(machine, ['systemctl', 'enable', '--quiet', 'permafrostd.service'])
  t.is((await attemptInside(machine, ['permafrost', 'check'])).status, 0)
}

async function refusesAnOlderFormat(t: ExecutionContext, machine: ScratchMachine): Promise<void> {
  say('an image of an older format')
  t.true((await hibernate(machine, 'systemctl')).ok)
  const spare = machine.state.disks.find(disk => disk.role === 'spare')
  const disk = openSync(spare?.path ?? '', 'r+')
  writeSync(disk, Buffer.from([0, 0, 0, 0]), 0, 4, AT_VERSION)
  closeSync(disk)
  const booted = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  t.true(booted.ok, booted.reason ?? '')
  t.regex(await inside(machine, ['journalctl', '-b', '-t', 'permafrost']), /not resuming: '\/dev\/\S*' has image format version 0, this loader knows version \d+/)
  const check = await attemptInside(machine, ['permafrost', 'check'])
  t.is(check.status, 3)
  t.regex(check.stdout, /version 0.*permafrost setup/)
  await inside(machine, ['permafrost', 'setup', '--yes', SPARE])
  t.is((await attemptInside(machine, ['permafrost', 'check'])).status, 0)
}

async function removes(t: ExecutionContext, machine: ScratchMachine, before: Readonly<Record<string, string>>): Promise<void> {
  say('apt remove')
  await apt(machine, 'apt remove -y permafrost')
  t.true((await attemptInside(machine, ['test', '-e', '/etc/permafrost/permafrost.conf'])).status === 0, 'removal keeps configuration')
  await reboot(machine)
  t.regex(await inside(machine, ['uname', '-r']), /-permafrost$/m, 'the kernel is there still')
  const removed = await describeSystem(machine)
  t.is(removed['mounts'], before['mounts'])
  t.is(removed['tables'], before['tables'])
  t.is(removed['units'], before['units'])
  t.is(removed['hibernation'], before['hibernation'])
  say('apt purge')
  await apt(machine, "apt purge -y permafrost 'linux-image-*-permafrost'")
  await reboot(machine)
  t.deepEqual(await describeSystem(machine), before)
  t.is((await attemptInside(machine, ['test', '-e', '/etc/permafrost'])).status, 1)
}

async function isCleanInTheEnd(t: ExecutionContext, machine: ScratchMachine): Promise<void> {
  await down(machine, {isWiped: false})
  const {status, stdout} = await attempt('e2fsck', ['-f', '-n', `${join(machine.directory, 'root.img')}?offset=${PARTITION_OFFSET}`])
  t.is(status, 0, stdout)
}
