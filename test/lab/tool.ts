// Runs programs of the host; a missing one is named together with the Debian package that has it.
import {spawn} from 'node:child_process'
import {hasCode, LaboratoryError} from './errors.js'

const PACKAGES: Readonly<Record<string, string>> = {
  mmdebstrap: 'mmdebstrap',
  'qemu-system-x86_64': 'qemu-system-x86',
  mke2fs: 'e2fsprogs',
  'mkfs.ext4': 'e2fsprogs',
  debugfs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  'mkfs.xfs': 'xfsprogs',
  xfs_repair: 'xfsprogs',
  mkswap: 'util-linux',
  unshare: 'util-linux',
  setpriv: 'util-linux',
  gcc: 'gcc libc6-dev',
  make: 'make',
  patch: 'patch',
  zstd: 'zstd',
  lz4: 'lz4',
  depmod: 'kmod'
}

export interface ToolOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
  readonly onOutput?: (text: string) => void
}

export interface ToolResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program and gives its output; throws LaboratoryError when it cannot run or fails. */
export async function run(command: string, args: readonly string[], options: ToolOptions = {}): Promise<string> {
  const result = await attempt(command, args, options)
  if (result.status !== 0) {
    const output = (result.stderr + result.stdout).trim().split('\n').slice(-15).join('\n')
    throw new LaboratoryError(`Cannot run '${command} ${args.join(' ')}': exit status ${result.status}\n${output}`)
  }
  return result.stdout
}

/** Runs a program whose failure is an answer, too. */
export async function attempt(
  command: string, args: readonly string[], options: ToolOptions = {}
): Promise<ToolResult> {
  return await new Promise((resolve, reject) => {
    const child = spawn(command, [...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {...process.env, ...options.env},
      ...(options.cwd === undefined ? {} : {cwd: options.cwd}),
      ...(options.signal === undefined ? {} : {signal: options.signal})
    })
    let stdout = ''
    let stderr = ''
    const collect = (take: (text: string) => void) => (text: string) => {
      take(text)
      options.onOutput?.(text)
    }
    child.stdout.setEncoding('utf8').on('data', collect(text => { stdout += text }))
    child.stderr.setEncoding('utf8').on('data', collect(text => { stderr += text }))
    child.on('error', error => { reject(explainMissing(command, error)) })
    child.on('close', (code, signal) => {
      resolve({status: code ?? 128, stdout, stderr: signal === null ? stderr : `${stderr}ended by ${signal}\n`})
    })
  })
}

function explainMissing(command: string, error: Error): Error {
  if (!hasCode(error, 'ENOENT'))
    return error
  const packageName = PACKAGES[command]
  const remedy = packageName === undefined ? '' : `, apt-get install ${packageName}`
  return new LaboratoryError(`Cannot run '${command}': not installed${remedy}`, {cause: error})
}
