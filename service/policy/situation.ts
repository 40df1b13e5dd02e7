import {readFileSync, realpathSync} from 'node:fs'
import {type ImageType} from './policy.js'
import {readOpenFiles} from './process-table.js'

/** What conditions and selectors are judged by, beside the process table. */
export interface Situation {
  readonly mountTypes: ReadonlySet<string>
  readonly imageType: ImageType
  readonly openFiles: (pid: number) => readonly string[]
  /** A path with its symbolic links followed, as /proc shows it. */
  readonly canonicalPath: (path: string) => string
  readonly userId: (name: string) => number | null
}

export function readSituation(imageType: ImageType = 'spare'): Situation {
  return {
    mountTypes: parseMountTypes(readFileSync('/proc/self/mountinfo', 'utf8')),
    imageType,
    openFiles: (pid) => readOpenFiles(pid),
    canonicalPath,
    userId: (name) => findUserId(readFileSync('/etc/passwd', 'utf8'), name),
  }
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
