// QEMU gets kernel and initramfs from outside; what a test puts into the machine's initramfs needs one made there.
import {join} from 'node:path'
import {insideShell} from './execute.js'
import {MachineError} from './errors.js'
import type {ScratchMachine} from './scratch.js'
import {run} from './tool.js'
import {cut} from './verbs/down.js'
import {resume} from './verbs/resume.js'

/** Makes the initramfs anew with what the machine's /etc says, and starts the machine with it. */
export async function useOwnInitramfs(machine: ScratchMachine): Promise<void> {
  await insideShell(machine, `
    update-initramfs -c -k "$(uname -r)"
    cp "/boot/initrd.img-$(uname -r)" /boot/initrd.img
    sync`)
  await cut(machine)
  const initrd = join(machine.directory, 'initrd.img')
  await run('debugfs', ['-R', `dump /boot/initrd.img ${initrd}`, machine.disk('root').path])
  machine.update({initrd})
  const started = await resume(machine, {expect: 'fresh', diesWithStarter: true})
  if (!started.ok)
    throw new MachineError(started.reason ?? `Machine '${machine.name}' does not start`)
}
