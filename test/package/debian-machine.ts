// A machine that boots Debian 12 from a disk of its own, by its own boot loader.
import {mkdirSync} from 'node:fs'
import {basename, join} from 'node:path'
import {boot} from '../lab/boot.js'
import {MachineError} from '../lab/errors.js'
import {attemptInside, inside, insideShell, type Outcome} from '../lab/execute.js'
import {NO_FIGURES} from '../lab/figures.js'
import {identify} from '../lab/qemu.js'
import {ScratchMachine} from '../lab/scratch.js'
import {run} from '../lab/tool.js'
import {push} from '../lab/verbs/copy.js'
import {makeSpare, provideDebianDisk, type Layout} from './debian-disk.js'

const MEMORY_MIB = 1024
const SPARE_BYTES = 2560 * 2 ** 20
const BOOT_PATIENCE_MS = 480_000
const SHUTDOWN_PATIENCE_MS = 180_000
const PACKAGES_PATIENCE_MS = 1_500_000

/** Makes the machine's disks and boots it for the first time. */
export async function debianMachine(purpose: string, layout: Layout): Promise<ScratchMachine> {
  const disk = await provideDebianDisk(layout)
  const machine = new ScratchMachine(`${purpose}-${process.pid}`)
  machine.wipe()
  mkdirSync(machine.directory, {recursive: true})
  const path = (name: string) => join(machine.directory, `${name}.img`)
  await run('cp', ['--sparse=always', '--reflink=auto', disk, path('root')])
  makeSpare(path('spare'), SPARE_BYTES)
  machine.write({
    memoryMib: MEMORY_MIB,
    cpus: 2,
    kernel: null,
    initrd: null,
    isDebug: false,
    disks: [
      {name: 'root', role: 'root', path: path('root'), uuid: null, type: null},
      {name: 'spare', role: 'spare', path: path('spare'), uuid: null, type: null}
    ],
    network: null,
    boots: 0,
    qemu: null,
    owner: identify(process.pid),
    agentIdentity: null,
    figures: NO_FIGURES
  })
  try {
    await start(machine)
    // The disk's own was made on another machine.
    await inside(machine, ['update-initramfs', '-u'], {timeoutMs: PACKAGES_PATIENCE_MS})
    return machine
  } catch (thrown) {
    await machine[Symbol.asyncDispose]()
    throw thrown
  }
}

/** Switches the machine on and waits until systemd is up. */
export async function start(machine: ScratchMachine): Promise<void> {
  const {identity} = await boot(machine, {diesWithStarter: true, timeoutMs: BOOT_PATIENCE_MS})
  machine.update({agentIdentity: identity})
  await attemptInside(machine, ['systemctl', 'is-system-running', '--wait'], {timeoutMs: BOOT_PATIENCE_MS})
}

/** As a person says it: the machine ends, since QEMU is told not to restart it, and is switched on again. */
export async function reboot(machine: ScratchMachine, command = 'systemctl reboot --no-block'): Promise<void> {
  await insideShell(machine, command)
  const end = await machine.ended(AbortSignal.timeout(SHUTDOWN_PATIENCE_MS))
  if (end !== 'rebooted')
    throw new MachineError(`Machine '${machine.name}' should have restarted: ${end}`)
  machine.update({qemu: null})
  await start(machine)
}

/** Brings files into a directory of the machine that has nothing else. */
export async function bring(machine: ScratchMachine, files: readonly string[], directory: string): Promise<void> {
  await insideShell(machine, 'rm -rf "$1"; mkdir -p "$1"', directory)
  for (const file of files)
    await push(machine, file, `${directory}/${basename(file)}`)
}

/** A line for the shell that calls apt; gives what it said. */
export async function apt(machine: ScratchMachine, line: string): Promise<string> {
  return await inside(
    machine, ['sh', '-euc', `export DEBIAN_FRONTEND=noninteractive; { ${line}; } 2>&1`], {timeoutMs: PACKAGES_PATIENCE_MS})
}

export interface Typing {
  /** Typed in root's home, on a terminal that script(1) makes. */
  readonly line: string
  /** What is on the terminal when the answer is typed; a basic regular expression. */
  readonly question: string
  readonly answer: string
}

/** Types a line, as a person does, and an answer when it asks. */
export async function typed(machine: ScratchMachine, {line, question, answer}: Typing): Promise<Outcome> {
  const script = `
    terminal="$(mktemp -d)"; mkfifo "$terminal/input"; exec 3<> "$terminal/input"; : > "$terminal/log"
    (until grep -q "$2" "$terminal/log"; do sleep 0.5; done; echo "$3" >&3) & typist=$!
    cd; status=0; script -qfec "$1" "$terminal/log" <&3 > /dev/null || status=$?
    kill $typist 2> /dev/null || true
    tr -d '\\r' < "$terminal/log"; exit $status`
  return await attemptInside(machine, ['bash', '-c', script, 'bash', line, question, answer], {timeoutMs: PACKAGES_PATIENCE_MS})
}

/** What a system is made of, that installing and purging must leave as it was. */
export async function describeSystem(machine: ScratchMachine): Promise<Readonly<Record<string, string>>> {
  const questions: Readonly<Record<string, string>> = {
    mounts: "findmnt --noheadings --list --real --output TARGET,SOURCE,FSTYPE | grep -v '^/run'",
    // Kernels give virtio's disks different major numbers.
    tables: "dmsetup table 2> /dev/null | sed 's/ [0-9]*:\\([0-9]\\)/ disk:\\1/g'",
    // Drivers are those that the kernel running when it was made had found; ours has them built in.
    initramfs: "lsinitramfs /boot/initrd.img-$(uname -r) | grep -v '/kernel/\\(drivers\\|crypto\\|lib\\|arch\\|block\\)' | sort",
    units: 'systemctl list-unit-files --no-legend --no-pager | sort',
    hibernation: 'systemctl cat systemd-hibernate.service systemd-logind.service',
    fstab: 'cat /etc/fstab',
    etc: 'find /etc -name "*permafrost*" | sort',
    usr: 'find /usr -name "*permafrost*" | sort'
  }
  const answers: Record<string, string> = {}
  for (const [name, question] of Object.entries(questions))
    answers[name] = await insideShell(machine, question)
  return answers
}
