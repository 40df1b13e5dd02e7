// A shell in a terminal, as a person has it open.
import {inside, insideShell} from '../../lab/execute.js'
import type {Machine} from '../../lab/machine.js'
import {waitFor} from '../../lab/workload.js'
import {startUnit, type Work} from './work.js'

const SOCKET = 'soak'

/** Typed and echoed, a word reaches the screen too: what the shell makes of it has no '$'. */
const QUESTION = 'n=$((n + 1)); echo "answer $n of $$ on $(tty) with $(stty size)"'

export const TERMINAL: Work = {
  title: 'tmux session',
  packages: ['tmux'],
  units: ['soak-terminal'],
  start: async machine => {
    await startUnit(machine, {
      unit: 'soak-terminal',
      properties: ['Type=forking'],
      argv: ['tmux', '-L', SOCKET, 'new-session', '-d', '-s', 'work', '-x', '132', '-y', '40', 'sh']
    })
    await type(machine, 'n=0')
  },
  watch: async machine => {
    const before = await ask(machine)
    return async resumed => {
      const after = await ask(resumed)
      const isRight = after.number === before.number + 1 && after.where === before.where
      return isRight && after.screen.includes(before.line) ? [] : [`it said '${before.line}' and then '${after.line}'; on the screen: ${after.screen}`]
    }
  }
}

interface Answer {
  readonly number: number
  /** Process, terminal and size. */
  readonly where: string
  readonly line: string
  readonly screen: string
}

async function ask(machine: Machine): Promise<Answer> {
  const answers = 'tmux -L soak capture-pane -p -S - -t work | grep -c "^answer [0-9]"'
  const count = Number(await insideShell(machine, `${answers} || true`))
  await type(machine, QUESTION)
  await waitFor(machine, `[ "$(${answers})" -gt ${count} ]`)
  const screen = await inside(machine, ['tmux', '-L', SOCKET, 'capture-pane', '-p', '-S', '-', '-t', 'work'])
  const line = screen.split('\n').filter(text => /^answer \d/.test(text)).at(-1) ?? ''
  const [, number, where] = /^answer (\d+) of (.*)$/.exec(line) ?? []
  return {number: Number(number ?? NaN), where: where ?? '', line, screen}
}

async function type(machine: Machine, text: string): Promise<void> {
  await inside(machine, ['tmux', '-L', SOCKET, 'send-keys', '-t', 'work', '-l', text])
  await inside(machine, ['tmux', '-L', SOCKET, 'send-keys', '-t', 'work', 'Enter'])
}
