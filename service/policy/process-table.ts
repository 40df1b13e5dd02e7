import {closeSync, openSync, readdirSync, readlinkSync, readSync, statSync} from 'node:fs'
import path from 'node:path'

export interface ProcessEntry {
  readonly pid: number
  readonly ppid: number
  readonly comm: string
  /** Null where the link cannot be read. */
  readonly exe: string | null
  readonly cgroup: string
  readonly uid: number
  /** The service or scope of the system's own systemd that it belongs to. */
  readonly unit: string | null
}

/**
 * Every process there is, ordered by pid; threads of the kernel are none. Reads /proc and nothing
 * else, so that it works while everybody else is frozen; a process that ends meanwhile is left out.
 */
export function readProcessTable(proc = '/proc'): readonly ProcessEntry[] {
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((left, right) => left - right)
    .flatMap((pid) => readProcess(`${proc}/${pid}`, pid) ?? [])
}

/** Paths of what a process has open; empty when it is gone. */
export function readOpenFiles(pid: number, proc = '/proc'): readonly string[] {
  const directory = path.join(proc, String(pid), 'fd')
  try {
    return readdirSync(directory).flatMap((fd) => readLink(path.join(directory, fd)) ?? [])
  } catch {
    return [] // The process ended: it holds nothing any more.
  }
}

// PF_KTHREAD of include/linux/sched.h.
const KERNEL_THREAD_FLAG = 0x0020_0000

function readProcess(directory: string, pid: number): ProcessEntry | null {
  try {
    const stat = readProcText(`${directory}/stat`)
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ', 7)
    if ((Number(fields[6]) & KERNEL_THREAD_FLAG) !== 0) return null
    const cgroup = parseCgroup(readProcText(`${directory}/cgroup`))
    return {
      pid,
      ppid: Number(fields[1]),
      comm: stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')')),
      exe: readLink(`${directory}/exe`),
      cgroup,
      uid: statSync(directory).uid,
      unit: unitOf(cgroup),
    }
  } catch {
    return null // It ended between readdir and here.
  }
}

/** More than stat and cgroup of proc_pid(5) ever have: a path and a few dozen numbers. */
const textBuffer = Buffer.alloc(64 * 1024)

/**
 * Everybody waits while this runs, so there is one buffer for all files, and one read: of these
 * files the kernel gives all at once what fits (single_open() of fs/seq_file.c).
 */
function readProcText(file: string): string {
  const fd = openSync(file, 'r')
  try {
    return textBuffer.toString('utf8', 0, readSync(fd, textBuffer))
  } finally {
    closeSync(fd)
  }
}

/** The path in the unified hierarchy, or in systemd's own where there is none: cgroups(7). */
function parseCgroup(text: string): string {
  const lines = text.split('\n')
  const line = lines.find((each) => each.startsWith('0::')) ?? lines.find((each) => each.includes(':name=systemd:'))
  return line?.replace(/^[^:]*:[^:]*:/, '') ?? '/'
}

function unitOf(cgroup: string): string | null {
  return cgroup.split('/').find((part) => /\.(service|scope|socket|mount|swap)$/.test(part)) ?? null
}

function readLink(link: string): string | null {
  try {
    return readlinkSync(link).replace(/ \(deleted\)$/, '')
  } catch {
    return null
  }
}
