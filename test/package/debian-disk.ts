// A disk with Debian 12 as its installer leaves it: a partition table, GRUB, Debian's own kernel; root on a plain
// partition, or on a logical volume in an encrypted one. Nothing of Permafrost is on it, but the packages that
// ours depends on are in apt's cache, since the machine has no network. The laboratory's agent is on it.
import {closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {debianSources, hostAptOptions} from '../lab/base-layer.js'
import {cached, digestOf, digestOfPath} from '../lab/cache.js'
import {inside, insideShell} from '../lab/execute.js'
import {repository} from '../lab/places.js'
import {installAgent} from '../lab/project-layer.js'
import {say} from '../lab/say.js'
import {scratchMachine} from '../lab/scratch.js'
import {run} from '../lab/tool.js'
import {down} from '../lab/verbs/down.js'

export type Layout = 'plain' | 'crypt'

const DISK_BYTES = 5 * 2 ** 30
const SOURCE_BYTES = 3 * 2 ** 30

/** What the machine needs to be worked with comes beside what Debian's installer puts there. */
const PACKAGES: Readonly<Record<Layout, readonly string[]>> = {
  plain: [],
  crypt: ['cryptsetup', 'cryptsetup-initramfs', 'lvm2']
}
const SHARED_PACKAGES = [
  'linux-image-amd64', 'grub-pc', 'initramfs-tools', 'systemd', 'systemd-sysv', 'dbus', 'polkitd', 'udev', 'e2fsprogs',
  'zstd', 'kmod', 'procps', 'util-linux', 'fdisk', 'init', 'sqlite3', 'bash-completion', 'man-db', 'dialog'
]

const GRUB = `GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=ttyS0 loglevel=7 panic=-1 mitigations=off systemd.getty_auto=no systemd.show_status=no"
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_DISABLE_OS_PROBER=true
`

/** They would wake up in the middle of a test and do something. */
const MASKED = ['apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer', 'fstrim.timer', 'man-db.timer']

/** Gives the raw image of such a disk, made now unless it is cached. */
export async function provideDebianDisk(layout: Layout): Promise<string> {
  const own = join(repository(), 'test/package/debian-disk.ts')
  const directory = await cached({
    kind: 'debian-disk',
    digest: digestOf({
      layout,
      recipe: digestOfPath(own),
      installer: digestOfPath(join(repository(), 'test/package/install-debian.sh')),
      agent: digestOfPath(join(repository(), 'test/lab/agent.c')),
      depends: dependencies().join()
    }),
    isForced: false,
    make: async target => { await makeDisk(target, layout) }
  })
  return join(directory, 'disk.img')
}

/** The names of units/debian/control's dependencies, without those that are known when the package is built. */
function dependencies(): string[] {
  const control = readFileSync(join(repository(), 'units/debian/control'), 'utf8')
  const fields = [...control.matchAll(/^(?:Depends|Recommends): (.*)$/mg)].map(match => match[1] ?? '')
  return fields.join(', ').split(', ').map(text => text.split(' ')[0] ?? '')
    .filter(name => name !== '' && !name.startsWith('@') && !name.startsWith('permafrost-'))
}

async function makeDisk(target: string, layout: Layout): Promise<void> {
  const tree = join(target, 'tree')
  await makeTree(tree, target, layout)
  await using machine = await scratchMachine(`debian-${layout}`, {
    memoryMib: 1024,
    spareBytes: 0,
    disks: [{name: 'target', bytes: DISK_BYTES, type: 'none'}, {name: 'source', bytes: SOURCE_BYTES, type: 'none'}]
  })
  const [, targetDisk, sourceDisk] = machine.state.disks
  if (targetDisk === undefined || sourceDisk === undefined)
    throw new Error('The installing machine has no disks')
  say(`Debian on a disk of its own (${layout}): copying`)
  await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', tree, sourceDisk.path, `${SOURCE_BYTES / 1024}k`])
  await run('rm', ['-r', tree])
  const script = readFileSync(join(repository(), 'test/package/install-debian.sh'), 'utf8')
  await inside(machine, ['bash', '-euc', script, 'bash', layout], {timeoutMs: 1_500_000})
  await insideShell(machine, 'sync')
  await down(machine, {isWiped: false})
  renameSync(targetDisk.path, join(target, 'disk.img'))
}

async function makeTree(tree: string, target: string, layout: Layout): Promise<void> {
  say(`Debian on a disk of its own (${layout}): packages, by mmdebstrap`)
  const sources = join(target, 'debian.sources')
  writeFileSync(sources, debianSources())
  const download = `chroot "$1" sh -c "apt-get clean; apt-get install -y -q --download-only ${dependencies().join(' ')}"`
  await run('mmdebstrap', [
    '--mode=root', '--variant=important', '--format=directory', '--quiet', '--skip=cleanup/apt',
    '--aptopt=Apt::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"',
    ...hostAptOptions(await run('apt-config', ['dump'])),
    `--include=${[...SHARED_PACKAGES, ...PACKAGES[layout]].join()}`,
    `--customize-hook=${download}`,
    'bookworm', tree, sources
  ], {env: {DEBIAN_FRONTEND: 'noninteractive'}})
  await installAgent(tree)
  const files: Readonly<Record<string, string>> = {
    'etc/hostname': 'debian\n',
    'etc/hosts': '127.0.0.1 localhost\n127.0.1.1 debian\n',
    'etc/default/grub': GRUB,
    'etc/initramfs-tools/conf.d/laboratory': 'COMPRESS=zstd\nCOMPRESSLEVEL=1\n'
  }
  for (const [name, text] of Object.entries(files))
    writeFileSync(join(tree, name), text)
  mkdirSync(join(tree, 'var/log/journal'), {recursive: true})
  for (const unit of MASKED)
    await run('ln', ['-sf', '/dev/null', join(tree, 'etc/systemd/system', unit)])
}

/** An empty disk: takes room only where it is written. */
export function makeSpare(path: string, bytes: number): void {
  const fd = openSync(path, 'wx')
  ftruncateSync(fd, bytes)
  closeSync(fd)
}
