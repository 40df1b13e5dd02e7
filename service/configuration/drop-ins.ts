import {readdirSync, readFileSync, realpathSync} from 'node:fs'
import path from 'node:path'

/** Where our files are looked for; a later directory wins over an earlier one. */
export const DIRECTORIES: readonly string[] = ['/usr/lib/permafrost', '/run/permafrost', '/etc/permafrost']

export interface TextFile {
  readonly file: string
  readonly text: string
}

/**
 * The `*.conf` files of `folder` in all directories, in the order in which they count: by
 * name, whatever directory they are in. Of two with the same name the one of the later
 * directory replaces the other; a link to /dev/null masks it.
 */
export function readDropIns(folder: string, directories: readonly string[] = DIRECTORIES): readonly TextFile[] {
  const byName = new Map<string, string>()
  for (const directory of directories) {
    const place = path.join(directory, folder)
    for (const name of namesIn(place)) byName.set(name, path.join(place, name))
  }
  return [...byName.entries()]
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .filter(([, file]) => !isMask(file))
    .map(([, file]) => ({file, text: readFileSync(file, 'utf8')}))
}

/** The one file called `name` of the last directory that has it, or null; masks count. */
export function readMainFile(name: string, directories: readonly string[] = DIRECTORIES): TextFile | null {
  for (const directory of [...directories].reverse()) {
    const file = path.join(directory, name)
    const text = readIfPresent(file)
    if (text === null) continue
    return isMask(file) ? null : {file, text}
  }
  return null
}

function namesIn(place: string): readonly string[] {
  try {
    return readdirSync(place).filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

function readIfPresent(file: string): string | null {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

function isMask(file: string): boolean {
  return realpathSync(file) === '/dev/null'
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}
