import {isDeepStrictEqual} from 'node:util'
import {isStoreEmpty} from '../dm/exception-store.js'
import {findFileSystems, type MountedFileSystem} from '../dm/filesystems.js'
import {findMergeNeeds, type MergeNeed} from '../dm/merges.js'
import {findLeftovers} from '../dm/restore.js'
import {bytes, sectors} from '../dm/units.js'
import type {BlockAccess} from '../edge/block-access.js'
import type {DeviceNumber} from '../edge/device-number.js'
import {causeText} from '../errors.js'
import type {BaseSample, PendingMerge} from '../image/merge-list.js'
import type {Machine} from '../machine.js'
import {sampleBase} from './base-samples.js'

/**
 * Writes down, on the spare device, what is or will be merged, and what its bases look like before. To be called before a merge
 * begins; it changes nothing where the same has been written down before.
 *
 * A throw-away key is never written down: it would lie beside what it encrypts. Of such a file system the next
 * boot can only say that it is damaged; README says how to avoid it (an encrypted spare device).
 */
export async function noteMerges(machine: NoteTools): Promise<void> {
  const {dm, files, mergeNotes, log} = machine
  const needs = await findMergeNeeds(dm, files)
  if (needs.length === 0) return
  const bootId = readBootId(files)
  const last = await mergeNotes.readMerges()
  const known = last?.bootId === bootId ? last.merges : []
  const merges: PendingMerge[] = []
  for (const need of needs) merges.push(await describeMerge(need, known, machine))
  if (last !== null && isDeepStrictEqual({bootId: last.bootId, merges: known}, {bootId, merges})) return
  await mergeNotes.recordMerges({bootId, merges})
  for (const {path, hasLostKey} of merges) {
    if (hasLostKey) log.warning(`Until the merge of '${path}' has ended a power cut damages its file system: its slice is encrypted with a key that is not kept`)
  }
}

export type NoteTools = Pick<Machine, 'dm' | 'files' | 'mergeNotes' | 'log' | 'blocks' | 'digest'>

/** `known` is what this boot has written down before. */
async function describeMerge(need: MergeNeed, known: readonly PendingMerge[], tools: NoteTools): Promise<PendingMerge> {
  const {pathUnder, uuid, baseBytes, slice, store, isSliceEncrypted} = need
  const merge = {
    path: pathUnder,
    uuid,
    baseBytes,
    sliceOffset: slice.offset,
    sliceBytes: slice.length,
    chunkSectors: store.chunk,
    hasLostKey: isSliceEncrypted,
  }
  return {...merge, samples: await findSamples(need, known.find((each) => isDeepStrictEqual({...each, samples: []}, {...merge, samples: []})), tools)}
}

/** Once a merge is under way, blocks of its base may be caught half-way: then it is left at what was seen before. */
async function findSamples(need: MergeNeed, before: PendingMerge | undefined, {blocks, digest, log}: NoteTools): Promise<readonly BaseSample[]> {
  // Nobody will merge it without its key.
  if (need.isSliceEncrypted) return []
  if (need.isMerging) return before?.samples ?? []
  try {
    return await sampleBase(need, {blocks, digest})
  } catch (error) {
    log.warning(`Cannot look at '${need.pathUnder}' before it is merged: ${causeText(error)}; should the power go, the next boot cannot tell whether it was used meanwhile, ignoring`)
    return []
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
 * that has been mounted without must never get them later; one that was not there waits for its device. Throws where there
 * is no spare device that is ours.
 */
export async function settleOldMerges({dm, files, blocks, cow, mergeNotes, log}: SettleTools): Promise<void> {
  const list = await mergeNotes.readMerges()
  if (list === null) return
  if (list.bootId === readBootId(files)) {
    await forgetMerges({dm, mergeNotes})
    return
  }
  const {device: spare} = await cow.area()
  const unfinished: PendingMerge[] = []
  for (const merge of list.merges) if (!(await isFinished(merge, spare, blocks))) unfinished.push(merge)
  const mounted = await findFileSystems(files, dm)
  const isMounted = (merge: PendingMerge): boolean => mounted.some((fileSystem) => isOn(fileSystem, merge))
  const lost = unfinished.filter(isMounted)
  const waiting = unfinished.filter((merge) => !isMounted(merge))
  for (const {path} of lost) {
    log.error(`The file system on '${path}' was mounted without what was written to it while a hibernation was rolled back; check it`)
  }
  if (waiting.length === 0) await mergeNotes.clearMerges()
  else if (waiting.length < list.merges.length) await mergeNotes.recordMerges({bootId: list.bootId, merges: waiting})
  for (const {path} of waiting) {
    log.error(`A merge to '${path}' was interrupted by a power cut and its device was not there at boot: attach it and boot again before it is mounted`)
  }
}

type SettleTools = Pick<Machine, 'dm' | 'files' | 'blocks' | 'cow' | 'mergeNotes' | 'log'>

/** The loader clears the list only when all of it is done. Of what was encrypted nobody can tell. */
async function isFinished({hasLostKey, sliceOffset, chunkSectors}: PendingMerge, spare: DeviceNumber, blocks: BlockAccess): Promise<boolean> {
  if (hasLostKey) return false
  return await isStoreEmpty({cow: spare, offset: bytes(sliceOffset), chunk: sectors(chunkSectors)}, blocks)
}

/** The loader knows a file system by its UUID as well: names of devices change. Where nobody knows one there is only its device. */
function isOn({uuid, mapping}: MountedFileSystem, merge: PendingMerge): boolean {
  return uuid === '' || merge.uuid === '' ? mapping.kind === 'mapped' && mapping.pathUnder === merge.path : uuid === merge.uuid
}

/** proc_sys_kernel(5): another one each boot, the same after a resume. */
function readBootId(files: Machine['files']): string {
  return (files.readText('/proc/sys/kernel/random/boot_id') ?? '').trim().replaceAll('-', '').padEnd(32, '0')
}
