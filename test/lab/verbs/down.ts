// down and cut: switch a machine off, with its consent or without.
import {inside} from '../execute.js'
import {allMachines, type Machine} from '../machine.js'
import {isAlive, killAndWait} from '../qemu.js'
import {say} from '../say.js'

/** On the usual kernel, see Machine.slowness. */
const SHUTDOWN_PATIENCE_MS = 60_000
const ANSWER_PATIENCE_MS = 5_000

/** Shuts the system down; pulls the plug when it does not go. */
export async function down(machine: Machine, options: {readonly isWiped: boolean}): Promise<void> {
  using _held = await machine.lock()
  if (machine.isRunning)
    await powerOff(machine)
  if (machine.exists)
    machine.update({qemu: null})
  machine.removeSockets()
  if (options.isWiped)
    machine.wipe()
}

async function powerOff(machine: Machine): Promise<void> {
  try {
    await inside(machine, ['systemctl', 'poweroff', '--no-block'], {signal: AbortSignal.timeout(ANSWER_PATIENCE_MS * machine.slowness)})
    await machine.ended(AbortSignal.timeout(SHUTDOWN_PATIENCE_MS * machine.slowness))
  } catch (thrown) {
    if (machine.isRunning)
      say(`${machine.name}: does not shut down (${thrown instanceof Error ? thrown.message : String(thrown)}), pulling the plug`)
    await pullPlug(machine)
  }
}

/** The plug: SIGKILL to QEMU. */
export async function cut(machine: Machine): Promise<void> {
  using _held = await machine.lock()
  await pullPlug(machine)
}

async function pullPlug(machine: Machine): Promise<void> {
  const qemu = machine.state.qemu
  if (qemu !== null)
    await killAndWait(qemu)
  machine.update({qemu: null})
}

/** Removes machines whose owner died without doing so; their QEMU died with it. */
export async function reap(): Promise<void> {
  for (const machine of allMachines().filter(one => one.exists)) {
    const {owner} = machine.state
    if (owner !== null && !isAlive(owner)) {
      say(`${machine.name}: left behind by a process that is gone, removing`)
      await pullPlug(machine)
      machine.wipe()
    }
  }
}

/** Every machine, without asking it: what tests and people left behind. */
export async function cutAll(options: {readonly isWiped: boolean}): Promise<void> {
  for (const machine of allMachines()) {
    if (machine.isRunning)
      say(`${machine.name}: pulling the plug`)
    if (machine.exists)
      await pullPlug(machine)
    machine.removeSockets()
    if (options.isWiped)
      machine.wipe()
  }
}
