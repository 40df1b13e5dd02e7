// What README tells who wants to change something: from a clone to a changed patch, booted, hibernated and resumed.
import {appendFileSync, copyFileSync, readdirSync, readFileSync} from 'node:fs'
import {mkdtemp, rm} from 'node:fs/promises'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import test from 'ava'
import {cacheDirectory} from '../lab/cache.js'
import {repository} from '../lab/places.js'
import {attempt, run} from '../lab/tool.js'
import {commandsIn, readmeCommand, readmeExamples} from './examples.js'

/** README's machine, under a name that nobody else has. */
const MACHINE = `work-${process.pid}`
/** What the changed kernel says at a snapshot, and nobody else's. */
const CHANGE = 'us of pause, changed'
const EDITOR = `sed -i "/PM: add the snapshot_kernel/a exec sed -i 's/us of pause/${CHANGE}/' kernel/power/*.c \\&\\& git commit -q -a --amend --no-edit"`

let directory = ''
let clone = ''

test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'permafrost-contributing-'))
  clone = join(directory, 'permafrost')
  await run('git', ['clone', '-q', repository(), clone])
})

test.after.always(async () => {
  if (directory === '') return
  await attempt('npm', ['run', 'lab', '--', 'down', MACHINE, '--wipe'], {cwd: clone})
  await rm(directory, {recursive: true})
})

test.serial('a changed patch is booted by the commands of README', async t => {
  const blocks = readmeExamples('Contributing', '')
  const [change = '', look = ''] = blocks
  t.is(commandsIn([change]).length, 4)
  for (const command of commandsIn([change]))
    await inClone(command)
  t.regex(await run('git', ['diff', '--', 'kernel/patches'], {cwd: clone}), new RegExp(`^\\+.*${CHANGE}`, 'm'))
  await inClone(commandsIn([look]).at(-1) ?? '')
  const said = []
  for (const command of commandsIn([look]).slice(0, -1))
    said.push(await inClone(command))
  t.regex(said.at(-1) ?? '', /Resumed/)
  t.regex(readFileSync(join(cacheDirectory(), 'machines', MACHINE, 'console.log'), 'latin1'), new RegExp(CHANGE))
  await inClone(commandsIn([look]).at(-1) ?? '')
})

test.serial('the kernel is packed with a configuration of the reader\'s own', async t => {
  const config = join(directory, 'config')
  copyFileSync(join(cacheDirectory(), 'kernel-tree/o/.config'), config)
  appendFileSync(config, '# CONFIG_VFAT_FS is not set\n')
  await inClone(readmeCommand('Install', 'npm run package -- --config').replace('/boot/config-$(uname -r)', config))
  const packages = join(clone, 'dist/packages')
  const [kernel = ''] = readdirSync(packages).filter(name => name.startsWith('linux-image-'))
  const unpacked = join(directory, 'unpacked')
  await run('dpkg-deb', ['--extract', join(packages, kernel), unpacked])
  const built = await run('sh', ['-c', 'cat "$1"/boot/config-*; find "$1" -name "*.ko" -printf "%f\n"', 'sh', unpacked])
  t.regex(built, /^# CONFIG_VFAT_FS is not set$/m)
  t.regex(built, /^CONFIG_SNAPSHOT_KERNEL=y$/m)
  // What required.config says of it, and the laboratory's does not.
  t.regex(built, /^dm-snapshot\.ko$/m)
})

/** Runs a command as README has it. */
async function inClone(command: string): Promise<string> {
  return await run('sh', ['-c', command.replace(/\bwork\b/, MACHINE)], {cwd: clone, env: {GIT_SEQUENCE_EDITOR: EDITOR}})
}
