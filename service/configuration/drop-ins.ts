import {closeSync, fstatSync, openSync, readdirSync, readFileSync, realpathSync, type Stats, statSync} from 'node:fs'
import path from 'node:path'
import {UnreadableFileError, UntrustedFileError} from '../errors.js'

/** Where our files are looked for; a later directory wins over an earlier one. */
export const DIRECTORIES: readonly string[] = ['/usr/lib/permafrost', '/run/permafrost', '/etc/permafrost']

export interface TextFile {
  readonly file: string
  readonly text: string
}

/**
 * The `*.conf` files of `folder` in all directories, in the order in which they count: by
 * name, whatever directory they are in. Of two with the same name the one of the later
 * directory replaces the other; a link to /dev/null masks it. Throws UntrustedFileError where
 * somebody else may have written what is read, UnreadableFileError where a link leads nowhere.
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
    .map(([, file]) => ({file, text: readTrusted(file)}))
}

/**
 * The one file called `name` of the last directory that has it, or null; masks count. Throws
 * what readDropIns() throws, and for the same.
 */
export function readMainFile(name: string, directories: readonly string[] = DIRECTORIES): TextFile | null {
  for (const directory of [...directories].reverse()) {
    const file = path.join(directory, name)
    const text = readIfPresent(file, readTrusted)
    if (text === null) continue
    refuseUnlessTrusted(directory, statSync(directory))
    return isMask(file) ? null : {file, text}
  }
  return null
}

function namesIn(place: string): readonly string[] {
  try {
    const names = readdirSync(place).filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
    // Who may write to a directory may mask and replace what is in it.
    for (const directory of [path.dirname(place), place]) refuseUnlessTrusted(directory, statSync(directory))
    return names
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

function readIfPresent(file: string, read: (file: string) => string): string | null {
  try {
    return read(file)
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

function readTrusted(file: string): string {
  const fd = openSync(file, 'r')
  try {
    const status = fstatSync(fd)
    // The target of a mask is everybody's to write to, and gives nothing.
    if (!status.isCharacterDevice()) refuseUnlessTrusted(file, status)
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

const GROUP_MAY_WRITE = 0o020
const ALL_MAY_WRITE = 0o002

/** Whether only root may write to it, or whoever runs this: the daemon is root. */
export function isTrusted(status: Stats): boolean {
  return findOthers(status) === null
}

function refuseUnlessTrusted(file: string, status: Stats): void {
  const others = findOthers(status)
  if (others !== null) throw new UntrustedFileError(file, others.who(), others.deed)
}

/** Who else may write to it. */
function findOthers({uid, gid, mode}: Stats): {readonly who: () => string, readonly deed: 'owns' | 'may write to'} | null {
  if (uid !== 0 && uid !== process.geteuid?.()) return {who: () => nameOf(uid, '/etc/passwd'), deed: 'owns'}
  if ((mode & ALL_MAY_WRITE) !== 0) return {who: () => 'everybody', deed: 'may write to'}
  if ((mode & GROUP_MAY_WRITE) !== 0) return {who: () => `group ${nameOf(gid, '/etc/group')}`, deed: 'may write to'}
  return null
}

/** passwd(5) and group(5) have the name first and the number third. */
function nameOf(id: number, database: string): string {
  const entry = (readIfPresent(database, (name) => readFileSync(name, 'utf8')) ?? '').split('\n').map((line) => line.split(':')).find((fields) => fields[2] === String(id))
  return entry?.[0] === undefined ? String(id) : `'${entry[0]}' (${id})`
}

function isMask(file: string): boolean {
  try {
    return realpathSync(file) === '/dev/null'
  } catch (error) {
    if (!isMissing(error)) throw error
    throw new UnreadableFileError(file, 'it is a link to what is not there')
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}
