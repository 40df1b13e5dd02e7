// push and pull: copy one file into the machine or out of it.
import {createReadStream, createWriteStream, existsSync, renameSync, rmSync, statSync} from 'node:fs'
import {basename, join} from 'node:path'
import {finished} from 'node:stream/promises'
import {MachineError, UsageError} from '../errors.js'
import {attemptInside, statusOf} from '../execute.js'
import type {Machine} from '../machine.js'

const TIMEOUT_MS = 600_000

export async function push(machine: Machine, source: string, target: string): Promise<void> {
  if (!existsSync(source) || !statSync(source).isFile())
    throw new UsageError(`Cannot read '${source}': not a file`)
  const mode = (statSync(source).mode & 0o7777).toString(8)
  const script = 'set -e; t=$1; [ ! -d "$t" ] || t=$t/$2; cat > "$t.part"; chmod "$3" "$t.part"; mv "$t.part" "$t"'
  const errors: Buffer[] = []
  const end = await machine.run({
    argv: ['sh', '-c', script, 'sh', target, basename(source), mode],
    timeoutMs: TIMEOUT_MS,
    input: createReadStream(source),
    onOutput: () => undefined,
    onErrorOutput: bytes => { errors.push(bytes) }
  })
  if (statusOf(end) !== 0)
    throw new MachineError(`Cannot write '${target}' in '${machine.name}': ${Buffer.concat(errors).toString().trim()}`)
}

export async function pull(machine: Machine, source: string, target: string): Promise<void> {
  const final = existsSync(target) && statSync(target).isDirectory() ? join(target, basename(source)) : target
  const {stdout} = await attemptInside(machine, ['stat', '-Lc', '%a', source])
  const errors: Buffer[] = []
  const draft = `${final}.part`
  const file = createWriteStream(draft, {mode: Number.parseInt(stdout.trim() || '644', 8)})
  const end = await machine.run({
    argv: ['cat', '--', source],
    timeoutMs: TIMEOUT_MS,
    onOutput: bytes => { file.write(bytes) },
    onErrorOutput: bytes => { errors.push(bytes) }
  })
  file.end()
  await finished(file)
  if (statusOf(end) !== 0) {
    rmSync(draft)
    throw new MachineError(`Cannot read '${source}' in '${machine.name}': ${Buffer.concat(errors).toString().trim()}`)
  }
  renameSync(draft, final)
}
