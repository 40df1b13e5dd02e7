// The machine's system: base layer, project, initramfs, made into a raw ext4 image without mounting anything.
import {cpSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {provideBase} from './base-layer.js'
import {cached, digestOf} from './cache.js'
import {provideKernel, type Kernel} from './kernel.js'
import {installProject, projectDigest} from './project-layer.js'
import {say} from './say.js'
import {run} from './tool.js'

const ROOT_SIZE = '2G'

/** Every machine's root has the same UUID: they never meet. */
export const ROOT_UUID = 'b1c5b1a0-7065-4726-8d61-66726f737431'
const MACHINE_ID = '7065726d6166726f73746c61626f7261'

export interface SystemRequest {
  readonly packages: readonly string[]
  readonly isDebug: boolean
  readonly isForced: boolean
}

export interface System {
  readonly kernel: Kernel
  readonly rootImage: string
  readonly initrd: string
}

/** Gives kernel, initramfs and root image of the repository as it stands, making what is not cached. */
export async function provideSystem(request: SystemRequest): Promise<System> {
  const kernel = await provideKernel(request)
  const base = await provideBase(request)
  const digest = digestOf({base: base.digest, project: projectDigest(), release: kernel.release, recipe: '1'})
  const directory = await cached({
    kind: 'system',
    digest,
    isForced: request.isForced,
    make: async target => { await makeSystem(target, base.tree, kernel) }
  })
  return {kernel, rootImage: join(directory, 'root.img'), initrd: join(directory, 'initrd.img')}
}

async function makeSystem(target: string, base: string, kernel: Kernel): Promise<void> {
  const tree = join(target, 'tree')
  say('root file system: adding the project')
  await run('cp', ['-a', '--reflink=auto', base, tree])
  writeSettings(tree)
  await installProject(tree)
  say('root file system: making the initramfs')
  await makeInitramfs(tree, kernel)
  renameSync(join(tree, 'boot', `initrd.img-${kernel.release}`), join(target, 'initrd.img'))
  say('root file system: making the image')
  const image = join(target, 'root.img')
  await run('mke2fs', ['-q', '-t', 'ext4', '-U', ROOT_UUID, '-L', 'root', '-d', tree, image, ROOT_SIZE])
  rmSync(tree, {recursive: true})
}

function writeSettings(tree: string): void {
  const files: Readonly<Record<string, string>> = {
    'etc/fstab': `UUID=${ROOT_UUID} / ext4 errors=remount-ro 0 1\n`,
    'etc/hostname': 'permafrost-lab\n',
    'etc/hosts': '127.0.0.1 localhost\n127.0.1.1 permafrost-lab\n',
    'etc/machine-id': `${MACHINE_ID}\n`,
    'etc/initramfs-tools/conf.d/laboratory': 'COMPRESS=zstd\nCOMPRESSLEVEL=3\nRESUME=none\n',
    'etc/systemd/journald.conf.d/laboratory.conf': '[Journal]\nSystemMaxUse=32M\nRateLimitIntervalSec=0\n'
  }
  mkdirSync(join(tree, 'etc/systemd/journald.conf.d'), {recursive: true})
  for (const [name, text] of Object.entries(files))
    writeFileSync(join(tree, name), text)
}

/** The mounts that mkinitramfs wants are made in a mount namespace of its own, so none can be left behind. */
async function makeInitramfs(tree: string, kernel: Kernel): Promise<void> {
  const modules = join(tree, 'lib/modules', kernel.release)
  mkdirSync(modules, {recursive: true})
  for (const name of ['modules.order', 'modules.builtin', 'modules.builtin.modinfo']) {
    if (kernel.about !== null && existsSync(join(kernel.about, name)))
      cpSync(join(kernel.about, name), join(modules, name))
    else
      writeFileSync(join(modules, name), '')
  }
  const config = kernel.about === null ? null : join(kernel.about, 'config')
  if (config === null)
    writeFileSync(join(tree, 'boot', `config-${kernel.release}`), 'CONFIG_RD_ZSTD=y\n')
  else
    cpSync(config, join(tree, 'boot', `config-${kernel.release}`))
  const inside = 'set -e; mount --bind /dev "$1/dev"; mount -t proc proc "$1/proc"; mount -t sysfs sysfs "$1/sys"; ' +
    'chroot "$1" depmod "$2"; chroot "$1" update-initramfs -c -k "$2"'
  await run('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', inside, 'sh', tree, kernel.release])
}
