import {readdirSync, readFileSync} from 'node:fs'
import {type FileHandle, open, readFile} from 'node:fs/promises'
import {PAGE_BYTES} from '../page.js'

/** 1.5 MiB in all: enough that a fraction of memory is known to some percent, and read in the time of one disk write. */
const BLOCKS = 48
/** 32 KiB a block: half of what LZ4 looks back for something known. */
const BLOCK_PAGES = 8
/** Where that many of the biggest do not have most of the memory, they are like the others. */
const PROCESSES = 12
/** In an arena that is filled here and there, so often is looked for pages before a block is given up. */
const LOOKS = 4
/** Pages looked at with one read of pagemap. */
const WINDOW_PAGES = 64
/** A process that hangs in the middle of a system call may keep others from its memory for ever. */
const PATIENCE_MS = 2000

/**
 * Anonymous memory of the biggest of these processes, a few pages from each part of it: what they would
 * compress to is what memory would. Nobody is stopped, nothing is brought in from swap, and nobody is waited for
 * longer than two seconds. Who cannot be read, or is gone, is left out; there may be no blocks at all.
 */
export async function sampleMemory(pids: readonly number[], proc = '/proc'): Promise<readonly Buffer[]> {
  const biggest = findBiggest(pids, proc)
  const allBytes = biggest.reduce((sum, {bytes}) => sum + bytes, 0)
  const blocks: Buffer[] = []
  const patience = AbortSignal.timeout(PATIENCE_MS)
  const late = new Promise<void>((resolve) => patience.addEventListener('abort', () => resolve(), {once: true}))
  const walk = async (): Promise<void> => {
    for (const {pid, bytes} of biggest) {
      if (patience.aborted) return
      const share = Math.max(1, Math.round((BLOCKS * bytes) / allBytes))
      await sampleProcess(`${proc}/${pid}`, share, blocks).catch(() => undefined) // It has ended, or lets nobody in.
    }
  }
  await Promise.race([walk(), late])
  return [...blocks]
}

interface Candidate {
  readonly pid: number
  readonly bytes: number
}

function findBiggest(pids: readonly number[], proc: string): readonly Candidate[] {
  return pids
    .map((pid) => ({pid, bytes: readAnonymousBytes(`${proc}/${pid}`)}))
    .filter(({bytes}) => bytes > 0)
    .sort((left, right) => right.bytes - left.bytes)
    .slice(0, PROCESSES)
    .filter(({pid}) => !hasHangingThread(`${proc}/${pid}/task`))
}

/** statm of proc_pid_statm(5): what is resident, less what belongs to files and shared memory. */
function readAnonymousBytes(directory: string): number {
  const [, resident = 0, shared = 0] = readQuietly(`${directory}/statm`).split(' ').map(Number)
  return (resident - shared) * PAGE_BYTES
}

/** One that sleeps in the kernel may hold the lock of its memory map, as a page fault does that waits for a server. */
function hasHangingThread(tasks: string): boolean {
  return listQuietly(tasks).some((tid) => /\) D [^)]*$/.test(readQuietly(`${tasks}/${tid}/stat`)))
}

async function sampleProcess(directory: string, share: number, blocks: Buffer[]): Promise<void> {
  const mappings = parseMappings(await readFile(`${directory}/maps`, 'latin1'))
  const pageCount = mappings.reduce((sum, {pages}) => sum + pages, 0)
  const pagemap = await open(`${directory}/pagemap`)
  try {
    const memory = await open(`${directory}/mem`)
    try {
      for (let part = 0; part < share; part += 1) {
        const block = await sampleStratum({mappings, pagemap, memory}, {from: (part * pageCount) / share, pages: pageCount / share})
        if (block.length > 0) blocks.push(block)
      }
    } finally {
      await memory.close()
    }
  } finally {
    await pagemap.close()
  }
}

interface Mapping {
  readonly firstPage: number
  readonly pages: number
}

/** Private anonymous mappings that may be written to, of proc_pid_maps(5): inode 0. */
function parseMappings(maps: string): readonly Mapping[] {
  return [...maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw.p \S+ \S+ 0(\s|$)/gm)].map(([, start = '', end = '']) => {
    const firstPage = Number.parseInt(start, 16) / PAGE_BYTES
    return {firstPage, pages: Number.parseInt(end, 16) / PAGE_BYTES - firstPage}
  })
}

interface Source {
  readonly mappings: readonly Mapping[]
  readonly pagemap: FileHandle
  readonly memory: FileHandle
}

/** The first pages that are there, behind one of a few evenly spread places of the stratum; empty where there are none. */
async function sampleStratum(source: Source, stratum: {readonly from: number; readonly pages: number}): Promise<Buffer> {
  for (let look = 0; look < LOOKS; look += 1) {
    const place = locate(source.mappings, Math.floor(stratum.from + ((look + 0.5) * stratum.pages) / LOOKS))
    if (place === null) continue
    const present = await findPresent(source.pagemap, place)
    if (present.length > 0) return await readPages(source.memory, present.slice(0, BLOCK_PAGES))
  }
  return Buffer.alloc(0)
}

/** The page of that number among all pages of the mappings, and how many follow it in its own. */
function locate(mappings: readonly Mapping[], index: number): Mapping | null {
  let left = index
  for (const {firstPage, pages} of mappings) {
    if (left < pages) return {firstPage: firstPage + left, pages: Math.min(WINDOW_PAGES, pages - left)}
    left -= pages
  }
  return null
}

async function findPresent(pagemap: FileHandle, {firstPage, pages}: Mapping): Promise<readonly number[]> {
  const entries = Buffer.alloc(pages * 8)
  const {bytesRead} = await pagemap.read(entries, 0, entries.length, firstPage * 8)
  // Bit 63: in memory. Documentation/admin-guide/mm/pagemap.rst
  return Array.from({length: Math.floor(bytesRead / 8)}, (_, index) => index)
    .filter((index) => (entries.readUInt8(index * 8 + 7) & 0x80) !== 0)
    .map((index) => firstPage + index)
}

async function readPages(memory: FileHandle, pages: readonly number[]): Promise<Buffer> {
  const block = Buffer.alloc(pages.length * PAGE_BYTES)
  let length = 0
  for (const page of pages) {
    const {bytesRead} = await memory.read(block, length, PAGE_BYTES, page * PAGE_BYTES)
    length += bytesRead
  }
  return block.subarray(0, length)
}

function readQuietly(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return '' // The process has ended.
  }
}

function listQuietly(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
  } catch {
    return [] // The process has ended.
  }
}
