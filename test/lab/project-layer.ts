// The upper layer of the root file system: what is installed of this repository, and the laboratory's agent.
import {cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync} from 'node:fs'
import {dirname, join} from 'node:path'
import {digestOf, digestOfPath} from './cache.js'
import {repository} from './places.js'
import {run} from './tool.js'

const AGENT_UNIT = `[Unit]
Description=Agent of the laboratory

[Service]
ExecStart=/usr/lib/permafrost-lab/agent
Restart=always
RestartSec=200ms
OOMScoreAdjust=-1000
KillMode=process

[Install]
WantedBy=multi-user.target
`

/** What lies in units/ knows where it belongs. */
const INSTALLERS = ['units/install.sh', 'units/initramfs/install.sh']

const INSTALLED = ['service', 'units', 'dm-tables', 'kernel/loader', 'package.json', 'package-lock.json', 'tsconfig.json']

/** Everything of the repository that ends up in the machine, as one digest. */
export function projectDigest(): string {
  const paths = [...INSTALLED, 'test/lab/agent.c', 'test/lab/payload', 'test/lab/project-layer.ts']
  return digestOf(Object.fromEntries(paths.map(path => [path, digestOfPath(join(repository(), path))])))
}

/** Installs the project, the agent and the payload programs of demo and tests into a root file system. */
export async function installProject(tree: string): Promise<void> {
  await installAgent(tree)
  await installPayload(tree)
  await installService(join(tree, 'usr/lib/permafrost'))
  for (const installer of INSTALLERS.map(path => join(repository(), path)).filter(path => existsSync(path)))
    await run('bash', [installer, tree], {cwd: repository()})
}

async function installAgent(tree: string): Promise<void> {
  const home = join(tree, 'usr/lib/permafrost-lab')
  mkdirSync(home, {recursive: true})
  await compile(join(repository(), 'test/lab/agent.c'), join(home, 'agent'))
  const unit = 'permafrost-lab-agent.service'
  writeFileSync(join(tree, 'etc/systemd/system', unit), AGENT_UNIT)
  const wants = join(tree, 'etc/systemd/system/multi-user.target.wants')
  mkdirSync(wants, {recursive: true})
  symlinkSync(`../${unit}`, join(wants, unit))
}

async function installPayload(tree: string): Promise<void> {
  const source = join(repository(), 'test/lab/payload')
  const programs = (await run('ls', [source])).split('\n').filter(name => name.endsWith('.c'))
  for (const name of programs)
    await compile(join(source, name), join(tree, 'usr/lib/permafrost-lab', name.replace(/\.c$/, '')))
}

async function compile(source: string, target: string): Promise<void> {
  await run('gcc', ['-O2', '-static', '-Wall', '-Wextra', '-Werror', '-pthread', '-o', target, source])
}

async function installService(home: string): Promise<void> {
  mkdirSync(home, {recursive: true})
  await run('node', [
    join(repository(), 'node_modules/typescript/bin/tsc'), '--project', join(repository(), 'tsconfig.json'),
    '--noCheck', '--outDir', home
  ], {cwd: repository()})
  for (const name of ['package.json', 'dm-tables'])
    cpSync(join(repository(), name), join(home, name), {recursive: true})
  // What is not TypeScript but read at run time, such as the D-Bus description, lies beside the code.
  cpSync(join(repository(), 'service'), join(home, 'service'), {
    recursive: true,
    filter: source => !/\.(ts|md)$/.test(source)
  })
  for (const name of productionPackages(join(repository(), 'node_modules')))
    copyPackage(name, join(home, 'node_modules'))
}

function copyPackage(name: string, target: string): void {
  mkdirSync(dirname(join(target, name)), {recursive: true})
  cpSync(join(repository(), 'node_modules', name), join(target, name), {recursive: true, verbatimSymlinks: true})
}

/** The packages the service needs at run time, with all they need themselves; those of other platforms are not there. */
export function productionPackages(modules: string): string[] {
  const found = new Set<string>()
  const pending = Object.keys(dependenciesOf(join(modules, '..', 'package.json')))
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const description = join(modules, name, 'package.json')
    if (found.has(name) || !existsSync(description))
      continue
    found.add(name)
    pending.push(...Object.keys(dependenciesOf(description)))
  }
  return [...found].sort()
}

function dependenciesOf(description: string): Record<string, unknown> {
  const parsed: unknown = JSON.parse(readFileSync(description, 'utf8'))
  return {...fieldOf(parsed, 'dependencies'), ...fieldOf(parsed, 'optionalDependencies')}
}

function fieldOf(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null)
    return {}
  const field = Object.entries(value).find(([key]) => key === name)?.[1] as unknown
  return typeof field === 'object' && field !== null ? {...field} : {}
}
