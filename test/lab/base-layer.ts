// The lower layer of the root file system: Debian's own packages, as mmdebstrap leaves them.
import {existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {cached, digestOf} from './cache.js'
import {LaboratoryError} from './errors.js'
import {say} from './say.js'
import {run} from './tool.js'

const RELEASE = 'bookworm'

const PACKAGES = [
  'systemd', 'systemd-sysv', 'dbus', 'polkitd', 'udev', 'dmsetup', 'nodejs', 'liblz4-1', 'libxxhash0',
  'e2fsprogs', 'xfsprogs', 'initramfs-tools', 'zstd', 'kmod', 'procps', 'util-linux', 'sqlite3'
]

/** Documentation and translations only make the image bigger. */
const LEFT_OUT = ['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/info/*', '/usr/share/locale/*', '/usr/share/lintian/*']

/** They would wake up in the middle of a test and do something. */
const MASKED = [
  'apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer', 'e2scrub_reap.service',
  'fstrim.timer', 'systemd-firstboot.service', 'getty@tty1.service'
]

export interface BaseRequest {
  readonly packages: readonly string[]
  readonly isForced: boolean
}

/** Gives the digest of the layer and the directory that holds it. */
export async function provideBase(request: BaseRequest): Promise<{digest: string, tree: string}> {
  const packages = [...new Set([...PACKAGES, ...request.packages])].sort()
  const digest = digestOf({
    release: RELEASE,
    packages: packages.join(),
    leftOut: LEFT_OUT.join(),
    masked: MASKED.join(),
    recipe: '1'
  })
  const directory = await cached({
    kind: 'base',
    digest,
    isForced: request.isForced,
    make: async target => { await makeBase(target, packages) }
  })
  return {digest, tree: join(directory, 'tree')}
}

async function makeBase(target: string, packages: readonly string[]): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new LaboratoryError('Cannot make the root file system: only root can')
  say(`root file system: ${packages.length} packages and what they need, by mmdebstrap`)
  const sources = join(target, 'debian.sources')
  writeFileSync(sources, debianSources())
  const tree = join(target, 'tree')
  await run('mmdebstrap', [
    '--mode=root', '--variant=minbase', '--format=directory', '--quiet',
    '--aptopt=Apt::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"',
    ...hostAptOptions(await run('apt-config', ['dump'])),
    ...LEFT_OUT.map(path => `--dpkgopt=path-exclude=${path}`),
    `--include=${packages.join()}`, RELEASE, tree, sources
  ])
  for (const unit of MASKED) {
    const link = join(tree, 'etc/systemd/system', unit)
    rmSync(link, {force: true})
    symlinkSync('/dev/null', link)
  }
  mkdirSync(join(tree, 'var/log/journal'), {recursive: true})
}

/** Those of the host's apt sources that are Debian's own: the machine gets no package of anybody else. */
export function debianSources(directory = '/etc/apt'): string {
  const files = [join(directory, 'sources.list'), ...listed(join(directory, 'sources.list.d'))]
  const stanzas: string[] = []
  for (const file of files.filter(existsSync)) {
    const text = readFileSync(file, 'utf8')
    stanzas.push(...(file.endsWith('.sources') ? stanzasOf(text) : linesOf(text)))
  }
  if (stanzas.length === 0)
    throw new LaboratoryError(`Cannot find Debian 12 ('${RELEASE}') among the apt sources in '${directory}'`)
  return `${stanzas.join('\n\n')}\n`
}

function listed(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).sort().map(name => join(directory, name)) : []
}

/** deb822 paragraphs, without comments, whose suites are all Debian 12's. */
function stanzasOf(text: string): string[] {
  return text.split(/\n\s*\n/)
    .map(stanza => stanza.split('\n').filter(line => line.trim() !== '' && !line.startsWith('#')).join('\n'))
    .filter(stanza => isOurs(/^Suites:\s*(.*)$/mi.exec(stanza)?.[1] ?? '') && !/^Enabled:\s*no/mi.test(stanza))
    .map(stanza => stanza.replace(/^Types:.*$/mi, 'Types: deb'))
}

/** One-line entries, turned to paragraphs: a file given to apt is of one kind. */
function linesOf(text: string): string[] {
  const pattern = /^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)$/
  return text.split('\n').flatMap(line => {
    const [, options, uri, suite, components] = pattern.exec(line.trim()) ?? []
    if (uri === undefined || suite === undefined || components === undefined || !isOurs(suite))
      return []
    const signedBy = /signed-by=(\S+)/.exec(options ?? '')?.[1] ?? '/usr/share/keyrings/debian-archive-keyring.gpg'
    return [`Types: deb\nURIs: ${uri}\nSuites: ${suite}\nComponents: ${components}\nSigned-By: ${signedBy}`]
  })
}

function isOurs(suites: string): boolean {
  const names = suites.trim().split(/\s+/)
  return names.every(name => [RELEASE, `${RELEASE}-updates`, `${RELEASE}-security`].includes(name))
}

/** How the host reaches its mirror (proxies, certificates, dates) holds for the machine's packages, too. */
export function hostAptOptions(dump: string): string[] {
  return dump.split('\n')
    .filter(line => /^Acquire::(http|https|Check-Valid-Until|Check-Date|Retries)\b/.test(line))
    .filter(line => !/ "";$/.test(line))
    .map(line => `--aptopt=${line.replace(/;$/, '')}`)
}
