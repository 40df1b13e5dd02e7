// npm run package: both .deb files in dist/packages; with --config FILE the kernel is built with that configuration.
import {copyFileSync, mkdirSync, readdirSync, rmSync} from 'node:fs'
import {basename, join} from 'node:path'
import {parseArgs} from 'node:util'
import {messageOf} from './errors.js'
import {buildKernelPackage, buildServicePackage, provideKernelPackage} from './packages.js'
import {repository} from './places.js'
import {say} from './say.js'

async function main(words: readonly string[]): Promise<void> {
  const {values} = parseArgs({args: [...words], options: {config: {type: 'string'}}})
  const target = join(repository(), 'dist', 'packages')
  rmSync(target, {recursive: true, force: true})
  mkdirSync(target, {recursive: true})
  say('package: service, command, units, loader')
  await buildServicePackage(target)
  say('package: kernel')
  if (values.config === undefined) {
    const kernel = await provideKernelPackage()
    copyFileSync(kernel, join(target, basename(kernel)))
  } else {
    await buildKernelPackage(values.config, target)
  }
  for (const name of readdirSync(target))
    process.stdout.write(`${join('dist', 'packages', name)}\n`)
}

try {
  await main(process.argv.slice(2))
} catch (thrown) {
  process.stderr.write(`package: ${messageOf(thrown)}\n`)
  process.exitCode = 1
}
