import {findFileSystems} from '../dm/filesystems.js'
import {findMergeNeeds} from '../dm/merges.js'
import {findLeftovers} from '../dm/restore.js'
import type {PendingMerge} from '../image/merge-list.js'
import type {Machine} from '../machine.js'

/**
 * Writes down, on the spare device, what is or will be merged. To be called before a merge begins; it changes
 * nothing where a killed daemon has written down the same before.
 *
 * A throw-away key is never written down: it would lie beside what it encrypts. Of such a file system the next
 * boot can only say that it is damaged; README says how to avoid it (an encrypted spare device).
 */
export async function noteMerges({dm, files, mergeNotes, log}: Machine): Promise<void> {
  const needs = await findMergeNeeds(dm, files)
  if (needs.length === 0) return
  const merges = needs.map(({pathUnder, uuid, baseBytes, slice, chunk, isSliceEncrypted}): PendingMerge => ({
    path: pathUnder,
    uuid,
    baseBytes,
    sliceOffset: slice.offset,
    sliceBytes: slice.length,
    chunkSectors: chunk,
    hasLostKey: isSliceEncrypted,
  }))
  const bootId = readBootId(files)
  if (isSame(await mergeNotes.readMerges(), {bootId, merges})) return
  await mergeNotes.recordMerges({bootId, merges})
  for (const {path, hasLostKey} of merges) {
    if (hasLostKey) log.warning(`Until the merge of '${path}' has ended a power cut damages its file system: its slice is encrypted with a key that is not kept`)
  }
}

/** To be called when merges have ended; keeps the notes while any device still runs on its slice. */
export async function forgetMerges({dm, mergeNotes}: Pick<Machine, 'dm' | 'mergeNotes'>): Promise<void> {
  const leftovers = await findLeftovers(dm)
  if (leftovers.some(({state}) => state === 'snapshot' || state === 'merging')) return
  if ((await mergeNotes.readMerges()) !== null) await mergeNotes.clearMerges()
}

/**
 * At the start of the daemon: notes of an earlier boot are merges that the loader could not finish. A file system
 * that has been mounted without must never get them later; one that was not there waits for its device.
 */
export async function settleOldMerges({dm, files, mergeNotes, log}: Machine): Promise<void> {
  // Where there is no spare device, or none that is ours, there are no notes; the preflight says so.
  const list = await mergeNotes.readMerges().catch(() => null)
  if (list === null) return
  if (list.bootId === readBootId(files)) {
    await forgetMerges({dm, mergeNotes})
    return
  }
  const mounted = (await findFileSystems(files, dm)).flatMap(({mapping}) => (mapping.kind === 'mapped' ? mapping.pathUnder : []))
  const lost = list.merges.filter(({path}) => mounted.includes(path))
  const waiting = list.merges.filter(({path}) => !mounted.includes(path))
  for (const {path} of lost) {
    log.error(`The file system on '${path}' was mounted without what was written to it while a hibernation was rolled back; check it`)
  }
  if (waiting.length === 0) await mergeNotes.clearMerges()
  else if (lost.length > 0) await mergeNotes.recordMerges({...list, merges: waiting})
  for (const {path} of waiting) {
    log.error(`A merge to '${path}' was interrupted by a power cut and its device was not there at boot: attach it and boot again before it is mounted`)
  }
}

/** proc_sys_kernel(5): another one each boot, the same after a resume. */
function readBootId(files: Machine['files']): string {
  return (files.readText('/proc/sys/kernel/random/boot_id') ?? '').trim().replaceAll('-', '').padEnd(32, '0')
}

function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}
