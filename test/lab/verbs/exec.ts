// exec NAME -- CMD…: runs a command in the machine; its output and its exit status become ours.
import {once} from 'node:events'
import {statusOf} from '../execute.js'
import type {Machine} from '../machine.js'
import {say} from '../say.js'

export interface ExecOptions {
  readonly argv: readonly string[]
  readonly timeoutMs: number
}

export async function exec(machine: Machine, options: ExecOptions): Promise<number> {
  const end = await machine.run({
    ...options,
    onOutput: bytes => { process.stdout.write(bytes) },
    onErrorOutput: bytes => { process.stderr.write(bytes) }
  })
  if (end.kind === 'timed-out')
    say(`'${options.argv.join(' ')}' took longer than ${options.timeoutMs / 1000} s and was killed`)
  if (process.stdout.writableNeedDrain)
    await once(process.stdout, 'drain')
  return statusOf(end)
}
