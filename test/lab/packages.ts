// The .deb files: the kernel of the series, and everything else of this repository.
import {mkdirSync, readdirSync, readFileSync} from 'node:fs'
import {join, resolve} from 'node:path'
import {cached, digestOf, digestOfPath} from './cache.js'
import {LaboratoryError} from './errors.js'
import {applySeries, buildObjects, kernelDigest, kernelNumber, lockTree, runSaying, type KernelRequest} from './kernel.js'
import {repository} from './places.js'
import {attempt} from './tool.js'

const RELEASE_KERNEL: KernelRequest = {isDebug: false, isForced: false}

/** Gives the path of the kernel's package, built with the laboratory's configuration; made once for each state of the series. */
export async function provideKernelPackage(): Promise<string> {
  const directory = await cached({
    kind: 'kernel-package',
    digest: digestOf({
      kernel: kernelDigest(RELEASE_KERNEL),
      recipe: digestOfPath(join(repository(), 'kernel/package.sh')),
      version: projectVersion()
    }),
    isForced: false,
    make: async target => {
      using _held = await lockTree()
      const tree = await applySeries(RELEASE_KERNEL)
      await buildObjects(tree, RELEASE_KERNEL)
      await packKernel(tree, target, `${projectVersion()}+${kernelNumber(RELEASE_KERNEL)}`, [])
    }
  })
  return onlyPackage(directory)
}

/** Builds the kernel of the series with another configuration, such as that of the running kernel; hours with Debian's. */
export async function buildKernelPackage(config: string, target: string): Promise<void> {
  using _held = await lockTree()
  const tree = await applySeries(RELEASE_KERNEL)
  const number = Number.parseInt(digestOf({kernel: kernelDigest(RELEASE_KERNEL), config: digestOfPath(config)}).slice(0, 7), 16)
  await packKernel(tree, target, `${projectVersion()}+${number}`, [resolve(config)])
}

/** Builds the package of service, command, units and loader; gives its path. */
export async function buildServicePackage(target: string): Promise<string> {
  mkdirSync(target, {recursive: true})
  const name = `permafrost_${projectVersion()}_amd64.deb`
  await runSaying(join(repository(), 'units/debian/build.sh'), [target], {SOURCE_DATE_EPOCH: await sourceDate()})
  return join(target, name)
}

/** package.json's, which is that of the packages. */
export function projectVersion(): string {
  const parsed: unknown = JSON.parse(readFileSync(join(repository(), 'package.json'), 'utf8'))
  const version: unknown = Reflect.get(Object(parsed), 'version')
  if (typeof version !== 'string')
    throw new LaboratoryError("Cannot find the version in 'package.json'")
  return version
}

async function packKernel(tree: string, target: string, version: string, more: readonly string[]): Promise<void> {
  await runSaying(join(repository(), 'kernel/package.sh'), [tree, target, version, ...more], {})
}

/** Seconds since 1970: the last commit's date, so that the same commit gives the same package; a fixed one outside git. */
async function sourceDate(): Promise<string> {
  const given = process.env['SOURCE_DATE_EPOCH']
  if (given !== undefined && given !== '')
    return given
  const commit = await attempt('git', ['-C', repository(), 'log', '-1', '--format=%ct'])
  return commit.status === 0 ? commit.stdout.trim() : '1735689600'
}

function onlyPackage(directory: string): string {
  const [name, ...others] = readdirSync(directory).filter(each => each.endsWith('.deb'))
  if (name === undefined || others.length > 0)
    throw new LaboratoryError(`Cannot find one package in '${directory}'`)
  return join(directory, name)
}
