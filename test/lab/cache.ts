// What is expensive to make is made once: each thing lives in a directory named by the digest of what went into it.
import {createHash} from 'node:crypto'
import {existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync} from 'node:fs'
import {homedir} from 'node:os'
import {join} from 'node:path'
import {lock} from './lock.js'

const BUILD_PATIENCE_MS = 3_600_000

/** Where everything the laboratory makes is kept. */
export function cacheDirectory(): string {
  const base = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache')
  const directory = process.env['PERMAFROST_CACHE'] ?? join(base, 'permafrost')
  mkdirSync(directory, {recursive: true})
  return directory
}

/** One digest over named parts; the order of the parts matters. */
export function digestOf(parts: Readonly<Record<string, string>>): string {
  const hash = createHash('sha256')
  for (const [name, value] of Object.entries(parts))
    hash.update(`${name}\0${value.length}\0${value}\0`)
  return hash.digest('hex').slice(0, 16)
}

/** The digest of a file or of everything under a directory; 'absent' when there is nothing. */
export function digestOfPath(path: string): string {
  if (!existsSync(path))
    return 'absent'
  const hash = createHash('sha256')
  addToHash(hash, path)
  return hash.digest('hex').slice(0, 16)
}

function addToHash(hash: ReturnType<typeof createHash>, path: string): void {
  if (!isDirectory(path)) {
    hash.update(readFileSync(path))
    return
  }
  const entries = readdirSync(path, {withFileTypes: true}).sort((a, b) => (a.name < b.name ? -1 : 1))
  for (const entry of entries) {
    const child = join(path, entry.name)
    hash.update(`${entry.name}\0`)
    if (entry.isSymbolicLink())
      hash.update(readlinkSync(child))
    else
      addToHash(hash, child)
  }
}

function isDirectory(path: string): boolean {
  try {
    readdirSync(path)
    return true
  } catch {
    // Not a directory: the caller reads it as a file.
    return false
  }
}

export interface CacheRequest {
  readonly kind: string
  readonly digest: string
  readonly isForced: boolean
  /** Fills the directory; it is published under its name only when this returns. */
  readonly make: (directory: string) => Promise<void>
}

/** Gives the directory of that digest, made now unless it was there; two processes never make it twice. */
export async function cached(request: CacheRequest): Promise<string> {
  const shelf = join(cacheDirectory(), request.kind)
  mkdirSync(shelf, {recursive: true})
  const final = join(shelf, request.digest)
  if (existsSync(final) && !request.isForced)
    return final
  using _held = await lock(
    join(shelf, 'lock'), `the cache of ${request.kind}`, AbortSignal.timeout(BUILD_PATIENCE_MS))
  if (existsSync(final) && !request.isForced)
    return final
  const draft = join(shelf, 'draft')
  rmSync(draft, {recursive: true, force: true})
  mkdirSync(draft)
  await request.make(draft)
  rmSync(final, {recursive: true, force: true})
  renameSync(draft, final)
  return final
}
