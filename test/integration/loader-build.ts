import {execFileSync, spawnSync} from 'node:child_process'
import {existsSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {dirname, join} from 'node:path'
import {fileURLToPath} from 'node:url'

/** Two builds of the loader in a temporary directory, and what they say about images. */
export class LoaderBuild {
  readonly directory = mkdtempSync(join(tmpdir(), 'permafrost-loader-'))
  #count = 0

  /** What a build needs and is not there, as the package to install; null when nothing is missing. */
  static findMissing(): string | null {
    if (spawnSync('make', ['--version']).status !== 0) return 'make'
    if (spawnSync('gcc', ['--version']).status !== 0) return 'gcc'
    if (!hasLibrary('liblz4.a')) return 'liblz4-dev'
    if (!hasLibrary('libxxhash.a')) return 'libxxhash-dev'
    return null
  }

  build(): void {
    const source = join(dirname(fileURLToPath(import.meta.url)), '../../kernel/loader')
    const program = join(this.directory, 'permafrost-loader')
    execFileSync('make', ['--silent', '-j2', '-C', source, `O=${this.directory}`, program, `${program}.sanitize`], {
      stdio: 'pipe',
    })
  }

  /** A new file with these bytes. */
  write(bytes: Uint8Array): string {
    const path = join(this.directory, `image-${this.#count++}`)
    writeFileSync(path, bytes)
    return path
  }

  inspect(path: string, options: readonly string[] = ['--verify']): Answer {
    return this.#run('permafrost-loader', ['inspect', ...options, path])
  }

  inspectSanitized(path: string, options: readonly string[]): Answer {
    return this.#run('permafrost-loader.sanitize', ['inspect', ...options, path])
  }

  run(args: readonly string[]): Answer {
    return this.#run('permafrost-loader', args)
  }

  remove(): void {
    rmSync(this.directory, {recursive: true})
  }

  #run(name: string, args: readonly string[]): Answer {
    const {status, signal, stdout, stderr} = spawnSync(join(this.directory, name), args, {encoding: 'utf8'})
    const refused = /^refused: (.*)$/m.exec(stdout)?.[1] ?? null
    return {status, signal, stdout, stderr, refused, isGood: /^good$/m.test(stdout)}
  }
}

export interface Answer {
  readonly status: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
  /** The reason printed, null when there is none. */
  readonly refused: string | null
  readonly isGood: boolean
}

function hasLibrary(name: string): boolean {
  return existsSync(execFileSync('gcc', [`-print-file-name=${name}`], {encoding: 'utf8'}).trim())
}
