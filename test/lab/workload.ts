// What runs in a machine while it hibernates, and what must be true of it afterwards: for demo, tests and bench.
import {attemptInside, inside, insideShell} from './execute.js'
import type {Machine} from './machine.js'

const PROGRAMS = '/usr/lib/permafrost-lab'
const PATIENCE_MS = 600_000

/** A process with memory of its own that it can check byte by byte, and a count. */
export interface HeldMemory {
  readonly pid: number
  readonly count: number
  readonly pages: number
  readonly badPages: number
}

/** A program of test/lab/payload as a service of the machine. */
export async function startPayload(machine: Machine, unit: string, ...words: string[]): Promise<void> {
  const [program, ...rest] = words
  // A unit may have 15 % of the tasks there can be, which on a kernel with large stacks is less than a thousand.
  await inside(machine, ['systemd-run', '--quiet', '--property=TasksMax=infinity', `--unit=${unit}`, `${PROGRAMS}/${program ?? ''}`, ...rest])
}

export const CONTENTS = ['half', 'random', 'text', 'zeros'] as const
/** What memory is filled with: half of each page random, all of it, words, or nothing. */
export type Content = (typeof CONTENTS)[number]

/** Takes that much memory, private or shared, and returns when it is filled. */
export async function holdMemory(
  machine: Machine, unit: string, mib: number, content: Content = 'half', isShared = false
): Promise<void> {
  await startPayload(machine, unit, 'hold', String(mib), statusFile(unit), content, ...(isShared ? ['shared'] : []))
  await waitFor(machine, `test -s ${statusFile(unit)}`)
}

/** Takes as much memory as there is until that share of it, 0 to 1, is used. */
export async function holdMemoryUpTo(
  machine: Machine, unit: string, share: number, content: Content = 'half', isShared = false
): Promise<void> {
  const {total, available} = await memoryOf(machine)
  await holdMemory(machine, unit, Math.floor((available - (1 - share) * total) / 1024), content, isShared)
}

/** The share of memory that is used, 0 to 1. */
export async function usedShare(machine: Machine): Promise<number> {
  const {total, available} = await memoryOf(machine)
  return 1 - available / total
}

/** In KiB, see proc_meminfo(5). */
async function memoryOf(machine: Machine): Promise<{readonly total: number, readonly available: number}> {
  const [total = 0, available = 0] = (await insideShell(machine, "awk '/^MemTotal|^MemAvailable/ {print $2}' /proc/meminfo"))
    .trim().split('\n').map(Number)
  return {total, available}
}

/** Asks the process to check its memory. */
export async function checkMemory(machine: Machine, unit: string): Promise<HeldMemory> {
  const pid = Number(await inside(machine, ['systemctl', 'show', '--property=MainPID', '--value', unit]))
  const after = await askPayload(machine, unit)
  return {pid, count: after['count'] ?? 0, pages: after['pages'] ?? 0, badPages: after['bad'] ?? -1}
}

/** What is wrong with the memory of a process that should have gone on since; none when all is right. */
export async function memoryComplaints(machine: Machine, unit: string, before: HeldMemory): Promise<string[]> {
  const after = await checkMemory(machine, unit)
  return [
    ...(after.pid === before.pid ? [] : [`process ${before.pid} is ${after.pid} now`]),
    ...(after.badPages === 0 && after.pages === before.pages ? [] : [`${after.badPages} of ${after.pages} pages are wrong, and they were ${before.pages}`]),
    ...(after.count > before.count ? [] : [`the count was ${before.count} and is ${after.count}`])
  ]
}

/** A payload that tells about itself in a file of status, such as `hold`; returns when it is at work. */
export async function startTellingPayload(machine: Machine, unit: string, ...words: string[]): Promise<void> {
  await startPayload(machine, unit, ...words, statusFile(unit))
  await waitFor(machine, `test -s ${statusFile(unit)}`)
}

/** Ends a payload that may not be there, and lets its name be taken again. */
export async function endPayload(machine: Machine, unit: string): Promise<void> {
  await attemptInside(machine, ['systemctl', 'stop', unit])
  await attemptInside(machine, ['systemctl', 'reset-failed', unit])
  await inside(machine, ['rm', '-f', statusFile(unit)])
}

/** Returns when all of the boot is done and the page cache is as good as empty. */
export async function settle(machine: Machine): Promise<void> {
  await insideShell(machine, 'systemctl is-system-running --wait > /dev/null || true; sync; echo 3 > /proc/sys/vm/drop_caches')
}

/** What such a payload says when it is asked now. */
export async function askPayload(machine: Machine, unit: string): Promise<Record<string, number>> {
  const before = fieldsOf(await inside(machine, ['cat', statusFile(unit)]))
  await inside(machine, ['systemctl', 'kill', '--kill-whom=main', '--signal=USR1', unit])
  const round = (before['round'] ?? 0) + 1
  await waitFor(machine, `grep -q '^round=${round} ' ${statusFile(unit)}`)
  return fieldsOf(await inside(machine, ['cat', statusFile(unit)]))
}

function statusFile(unit: string): string {
  return `/run/${unit}.status`
}

function fieldsOf(line: string): Record<string, number> {
  return Object.fromEntries(line.trim().split(' ').map(word => {
    const [key, value] = word.split('=')
    return [key ?? '', Number(value)]
  }))
}

/** A database that one client keeps open and writes ten rows a second to, each its own transaction. */
export async function startDatabase(machine: Machine, unit: string, path: string): Promise<void> {
  const script = `
    (echo 'pragma journal_mode=wal; create table beat (id integer primary key, body text);'
     while sleep 0.1; do echo "insert into beat (body) values (hex(randomblob(200)));"; done) | sqlite3 "$1"`
  // systemd puts values where it sees a variable (systemd.service(5)); $$ is one dollar.
  await inside(machine, ['systemd-run', '--quiet', `--unit=${unit}`, 'sh', '-c', script.replaceAll('$', '$$$$'), 'sh', path])
}

export interface DatabaseState {
  readonly rows: number
  readonly lastId: number
  readonly integrity: string
}

export async function checkDatabase(machine: Machine, path: string): Promise<DatabaseState> {
  const query = 'select count(*), max(id) from beat; pragma integrity_check;'
  const answer = await inside(machine, ['sqlite3', '-cmd', '.timeout 5000', path, query])
  const [counts, integrity] = answer.trim().split('\n')
  const [rows, lastId] = (counts ?? '').split('|').map(Number)
  return {rows: rows ?? 0, lastId: lastId ?? 0, integrity: integrity ?? 'no answer'}
}

/** The lines of a file that `append` writes. */
export async function appendedLines(machine: Machine, path: string): Promise<string[]> {
  return (await inside(machine, ['cat', path])).split('\n').filter(line => line !== '')
}

/** The first line whose number does not follow the one before; null when there is none. */
export function firstBreak(lines: readonly string[]): string | null {
  return lines.find((line, index) => numberOf(line) !== index + 1) ?? null
}

/** What is wrong with a file that `append` should be writing: no gap, no repetition, and new lines; none when all is right. */
export async function diaryComplaints(machine: Machine, path: string): Promise<string[]> {
  const {length} = await appendedLines(machine, path)
  await waitFor(machine, `[ "$(wc -l < ${path})" -gt ${length} ]`)
  const broken = firstBreak(await appendedLines(machine, path))
  return broken === null ? [] : [`'${path}' does not go on at '${broken}'`]
}

/**
 * What `append` writes with that mark, for looking through a raw disk. There a block may end in the middle of a line, and
 * whatever digits the block before it ended with are no part of the number.
 */
export function lineOnDisk(mark: string): RegExp {
  return new RegExp(`(?<!\\d)\\d{1,9} ${mark} \\d{19}`, 'g')
}

/**
 * The lines of `append` that were begun after the snapshot. The one next to the last on the frozen disk may have been
 * on its way at that instant: then it is in the process's memory, and the resumed process writes it as well.
 */
export function linesAfter(onFrozenDisk: ReadonlySet<string>, elsewhere: ReadonlySet<string>): Set<string> {
  const last = Math.max(0, ...[...onFrozenDisk].map(numberOf))
  return new Set([...elsewhere].filter(line => numberOf(line) > last + 1))
}

function numberOf(line: string): number {
  return Number(line.split(' ')[0])
}

/** Waits until a shell command succeeds in the machine. */
export async function waitFor(machine: Machine, condition: string): Promise<void> {
  await inside(machine, ['sh', '-c', `until ${condition}; do sleep 0.1; done`], {timeoutMs: PATIENCE_MS})
}

const TROUBLE = /\b(BUG|WARNING|Oops|KASAN|UBSAN)\b:?|Call Trace|general protection|possible .*deadlock|blocked for more than|soft lockup|EXT4-fs error|XFS .*[Cc]orruption|I\/O error|has changed while it was in place/

/** Lines of the console that no healthy kernel writes. */
export function kernelTrouble(console: string): string[] {
  return console.split(/^(?===== boot )/m).flatMap(boot => {
    const lines = boot.split('\n')
    const powerOffs = lines.filter(line => POWER_OFF.test(line)).map(secondsOf)
    return lines.filter(line => TROUBLE.test(line) && !isOfPowerOff(line, powerOffs))
  })
}

/** The last two lines of a machine that switches itself off; either may be lost when another processor is at the console. */
const POWER_OFF = /ACPI: PM: Preparing to enter system sleep state S5|reboot: Power down/

/** Switching off takes no longer, whatever the host has to do. */
const POWER_OFF_SECONDS = 5

/**
 * From when a machine switches itself off until it is off, disks of virtio answer every request with an error, whoever
 * still runs: virtio_dev_shutdown(), drivers/virtio/virtio.c.
 */
function isOfPowerOff(line: string, powerOffs: readonly number[]): boolean {
  return /I\/O error/.test(line) && powerOffs.some(seconds => Math.abs(seconds - secondsOf(line)) <= POWER_OFF_SECONDS)
}

/** The kernel's clock in front of a line; not a number where there is none. */
function secondsOf(line: string): number {
  return Number(/^\[\s*(\d+\.\d+)\]/.exec(line)?.[1] ?? Number.NaN)
}

/** The kernel's own buffer holds more than the console shows. */
export async function kernelLogOf(machine: Machine): Promise<string> {
  return await inside(machine, ['dmesg'])
}
