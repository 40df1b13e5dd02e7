import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {createInterface} from 'node:readline'
import type {ExecutionContext} from 'ava'

/** The command of this repository. */
export function spawnCommand(words: readonly string[]) {
  return spawn(process.execPath, ['--import=./test/lib/register.mjs', 'service/cli.ts', ...words], {stdio: ['ignore', 'pipe', 'pipe']})
}

/** A server of its own process, gone with the test. */
export async function startCommand(t: ExecutionContext, directory: string, options: readonly string[] = []) {
  const child = spawnCommand(['receive', '--listen', '127.0.0.1:0', '--directory', directory, ...options])
  t.teardown(() => void child.kill('SIGKILL'))
  const ended = once(child, 'exit').then(([status]: readonly unknown[]): never => {
    throw new Error(`the server has ended with ${String(status)}`)
  })
  const [line]: readonly unknown[] = await Promise.race([once(createInterface(child.stdout), 'line'), ended])
  return {child, port: Number(/:(\d+)$/.exec(String(line))?.[1])}
}
