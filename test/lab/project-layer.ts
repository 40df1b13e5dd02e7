// The upper layer of the root file system: what is installed of this repository, and the laboratory's agent.
import {mkdirSync, symlinkSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
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

/** What units/stage.sh installs is made of these. */
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
  await run('bash', [join(repository(), 'units/stage.sh'), tree], {cwd: repository()})
}

/** The agent, without which nobody talks to the machine. */
export async function installAgent(tree: string): Promise<void> {
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
