// The disks of a machine that is off, kept as they are, to be put back as often as wanted: one saved state for many experiments.
// A machine that resumes an image twice is for experiments only: each time all its disks are put back first.
import {rmSync} from 'node:fs'
import type {Disk} from './disks.js'
import type {Machine} from './machine.js'
import {run} from './tool.js'

export interface KeptDisks {
  readonly disks: readonly Disk[]
  /** Of the agent that answered last: who goes on with these disks is the same. */
  readonly agentIdentity: string | null
}

export async function keepDisks(machine: Machine): Promise<KeptDisks> {
  const {disks, agentIdentity} = machine.state
  for (const {path} of disks)
    await copy(path, keptPath(path))
  return {disks, agentIdentity}
}

/** The machine must be off; what is logged of its writes is forgotten. */
export async function putDisksBack(machine: Machine, {disks, agentIdentity}: KeptDisks): Promise<void> {
  for (const {logged} of machine.state.disks) {
    for (const path of logged === undefined ? [] : [logged.copy, logged.log])
      rmSync(path, {force: true})
  }
  for (const {path} of disks)
    await copy(keptPath(path), path)
  machine.update({disks, agentIdentity, qemu: null})
}

function keptPath(path: string): string {
  return `${path}.kept`
}

async function copy(from: string, to: string): Promise<void> {
  await run('cp', ['--sparse=always', '--reflink=auto', from, to])
}
