// The kernel of the machine: Debian's source, our series, our small configuration; or one made elsewhere.
import {spawn} from 'node:child_process'
import {
  closeSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync, readSync, statSync, writeFileSync
} from 'node:fs'
import {dirname, join} from 'node:path'
import {createInterface} from 'node:readline'
import {cacheDirectory, cached, digestOf, digestOfPath} from './cache.js'
import {LaboratoryError} from './errors.js'
import {lock} from './lock.js'
import {repository} from './places.js'
import {say} from './say.js'
import {run} from './tool.js'

const TARBALL = '/usr/src/linux-source-6.12.tar.xz'
const KEPT = ['modules.order', 'modules.builtin', 'modules.builtin.modinfo', 'System.map']
const TREE_PATIENCE_MS = 3_600_000

export interface Kernel {
  readonly image: string
  /** What uname -r says, such as 6.12.117-permafrost. */
  readonly release: string
  /** Directory with what depmod and mkinitramfs want to know; null for a kernel made elsewhere. */
  readonly about: string | null
}

export interface KernelRequest {
  readonly isDebug: boolean
  readonly isForced: boolean
}

/**
 * Gives the kernel of the series as it stands, building it when it is not cached.
 * PERMAFROST_KERNEL=path names a bzImage made elsewhere and stands in its place: for those who work on the series.
 */
export async function provideKernel(request: KernelRequest): Promise<Kernel> {
  const override = process.env['PERMAFROST_KERNEL']
  if (override !== undefined && override !== '')
    return {image: override, release: releaseOfImage(override), about: null}
  const directory = await cached({
    kind: 'kernel',
    digest: kernelDigest(request),
    isForced: request.isForced,
    make: async target => { await buildKernel(target, request) }
  })
  const release = readFileSync(join(directory, 'release'), 'utf8').trim()
  return {image: join(directory, 'bzImage'), release, about: directory}
}

export function kernelDigest(request: KernelRequest): string {
  if (!existsSync(TARBALL))
    throw new LaboratoryError(`Cannot read '${TARBALL}': not installed, apt-get install linux-source-6.12`)
  const tarball = statSync(TARBALL)
  const kernel = join(repository(), 'kernel')
  return digestOf({
    tarball: `${tarball.size} ${tarball.mtimeMs}`,
    series: digestOfPath(join(kernel, 'series')),
    patches: digestOfPath(join(kernel, 'patches')),
    fragments: fragments(request).map(digestOfPath).join(),
    recipe: digestOfPath(join(kernel, 'build.sh'))
  })
}

function fragments(request: KernelRequest): string[] {
  const config = join(repository(), 'kernel', 'config')
  return ['base.config', ...(request.isDebug ? ['debug.config'] : [])].map(name => join(config, name))
}

/** Two kernels that differ must not look alike to an image: the number after '#' in uname -v is of the digest. */
export function kernelNumber(request: KernelRequest): string {
  return String(Number.parseInt(kernelDigest(request).slice(0, 7), 16))
}

/** The source tree with the series applied. The caller holds it, see lockTree(). */
export async function applySeries(request: KernelRequest): Promise<string> {
  const tree = join(cacheDirectory(), request.isDebug ? 'kernel-tree-debug' : 'kernel-tree')
  mkdirSync(tree, {recursive: true})
  await runSaying(join(repository(), 'kernel/apply.sh'), [join(tree, 'linux'), TARBALL], {})
  return tree
}

/** The tree is shared by all that is made from it: whoever works in it holds the lock of the cache of kernels. */
export async function lockTree(): Promise<Disposable> {
  const file = join(cacheDirectory(), 'kernel', 'lock')
  mkdirSync(dirname(file), {recursive: true})
  return await lock(file, 'the kernel tree', AbortSignal.timeout(TREE_PATIENCE_MS))
}

/** Builds what changed since the last build of that tree. */
export async function buildObjects(tree: string, request: KernelRequest): Promise<void> {
  say(`kernel: building${request.isDebug ? ' with debugging' : ''}, about ten minutes on two cores when nothing is cached`)
  await runSaying(
    join(repository(), 'kernel/build.sh'), [tree, ...fragments(request)], {KBUILD_BUILD_VERSION: kernelNumber(request)})
}

async function buildKernel(target: string, request: KernelRequest): Promise<void> {
  const tree = await applySeries(request)
  await buildObjects(tree, request)
  const objects = join(tree, 'o')
  copyFileSync(join(objects, 'arch/x86/boot/bzImage'), join(target, 'bzImage'))
  copyFileSync(join(objects, '.config'), join(target, 'config'))
  for (const name of KEPT.filter(file => existsSync(join(objects, file))))
    copyFileSync(join(objects, name), join(target, name))
  const release = await run('make', ['-s', '-C', join(tree, 'linux'), `O=${objects}`, 'LOCALVERSION=', 'kernelrelease'])
  writeFileSync(join(target, 'release'), release)
}

/** Runs a script of the repository whose lines are for the person in front of it. */
export async function runSaying(
  script: string, args: readonly string[], env: Readonly<Record<string, string>>
): Promise<void> {
  const child = spawn(script, [...args], {stdio: ['ignore', 'pipe', 'pipe'], env: {...process.env, ...env}})
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  const last: string[] = []
  const follow = (stream: NodeJS.ReadableStream) => {
    createInterface({input: stream}).on('line', line => {
      say(line)
      last.push(line)
    })
  }
  follow(child.stdout)
  follow(child.stderr)
  const status = await ended
  if (status !== 0)
    throw new LaboratoryError(`Cannot run '${script}': ${last.slice(-5).join('\n')}`)
}

/** The version string a bzImage carries: Documentation/arch/x86/boot.rst, kernel_version at 0x20e. */
export function releaseOfImage(image: string): string {
  const head = Buffer.alloc(0x8000)
  const fd = openSync(image, 'r')
  try {
    readSync(fd, head, 0, head.length, 0)
  } finally {
    closeSync(fd)
  }
  if (head.toString('latin1', 0x202, 0x206) !== 'HdrS')
    throw new LaboratoryError(`Cannot use kernel '${image}': not a bzImage`)
  const start = head.readUInt16LE(0x20e) + 0x200
  const text = head.toString('latin1', start, head.indexOf(0, start))
  return text.split(' ')[0] ?? text
}
