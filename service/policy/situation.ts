import {readFileSync, realpathSync} from 'node:fs'
import {type ImageType, type Policy, type Selector} from './policy.js'
import {readOpenFiles} from './process-table.js'

/** What conditions and selectors are judged by, beside the process table. */
export interface Situation extends Names {
  readonly mountTypes: ReadonlySet<string>
  readonly imageType: ImageType
  readonly openFiles: (pid: number) => readonly string[]
}

/** What the names in a policy stand for. */
export interface Names {
  /** A path with its symbolic links followed, as /proc shows it. */
  readonly canonicalPath: (path: string) => string
  readonly userId: (name: string) => number | null
}

export function readSituation(imageType: ImageType = 'spare', names: Names = NAMES): Situation {
  return {
    mountTypes: parseMountTypes(readFileSync('/proc/self/mountinfo', 'utf8')),
    imageType,
    openFiles: (pid) => readOpenFiles(pid),
    ...names,
  }
}

/** Looked up when they are asked for. */
const NAMES: Names = {
  canonicalPath,
  userId: (name) => findUserId(readFileSync('/etc/passwd', 'utf8'), name),
}

/**
 * Looks all of them up now. Once everybody is frozen a path may lead through a file system whose daemon is frozen, too, and
 * whoever asks would wait for ever.
 */
export function rememberNames({rules}: Policy, names: Names = NAMES): Names {
  const selectors = rules.flatMap((rule) => [...rule.selectors, ...rule.users])
  const valuesOf = (...kinds: readonly Selector['kind'][]) => selectors.filter(({kind}) => kinds.includes(kind)).map(({value}) => value)
  const paths = new Map(valuesOf('exe', 'holds').map((path) => [path, names.canonicalPath(path)]))
  const users = new Map(valuesOf('user').map((name) => [name, names.userId(name)]))
  return {canonicalPath: (path) => paths.get(path) ?? path, userId: (name) => users.get(name) ?? null}
}

/** The file-system types of proc_pid_mountinfo(5): the field behind the ` - `. */
export function parseMountTypes(mountinfo: string): ReadonlySet<string> {
  return new Set(mountinfo.split('\n').flatMap((line) => line.split(' - ')[1]?.split(' ')[0] ?? []))
}

export function findUserId(passwd: string, name: string): number | null {
  if (/^\d+$/.test(name)) return Number(name)
  const id = passwd.split('\n').map((line) => line.split(':')).find(([user]) => user === name)?.[2]
  return id === undefined ? null : Number(id)
}

function canonicalPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path // Not there: then nobody runs or holds it under another name either.
  }
}
