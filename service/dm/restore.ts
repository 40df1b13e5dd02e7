import {setTimeout as sleep} from 'node:timers/promises'
import type {BlockAccess} from '../edge/block-access.js'
import {printDeviceNumber} from '../edge/device-number.js'
import {DeviceMapperError} from '../errors.js'
import type {DeviceMapper, MappedDevice} from './device-mapper.js'
import {isStoreEmpty} from './exception-store.js'
import {baseName, cowName, liveNameOf} from './names.js'
import {goBackWithout, judgeSlice, snapshotOf, type SliceLoss} from './slice-loss.js'
import {parseSliceStatus} from './slice.js'
import {tableLength, type FillTemplate, type Table} from './table.js'

/**
 * Puts live devices back on their own tables, starting from whatever it finds: nothing is
 * remembered, so it works as well for a daemon that was killed and started again.
 *
 * States of a live device, known by its live table:
 * - own: the snapshot was never taken, or this is the resumed system. Base and slice just go.
 * - snapshot: the snapshot was taken; writes since then are in the slice. A merge must bring them back. Where the slice
 *   is lost there is no way back: base and what is in memory no longer belong together.
 * - merging: a merge was begun and goes on by itself; when it is done the own table comes back.
 * - gone: there is no live device any more. Base and slice just go.
 */
export type LiveState = 'own' | 'snapshot' | 'merging' | 'gone'

export interface Leftover {
  /** Name of the live device. */
  readonly live: string
  readonly state: LiveState
  readonly devices: readonly string[]
  readonly hasInactiveTable: boolean
}

export interface RestoreTools {
  readonly dm: DeviceMapper
  readonly blocks: BlockAccess
  readonly fillTemplate: FillTemplate
}

/** Every live device with a base or a slice of ours. */
export async function findLeftovers(dm: DeviceMapper): Promise<readonly Leftover[]> {
  const all = await dm.list()
  const names = new Set(all.flatMap(({name}) => liveNameOf(name) ?? []))
  return Promise.all([...names].map((live) => describeLeftover(live, all, dm)))
}

/**
 * Where slices cannot be read any more, and nothing was in them that matters, puts live devices back on their own tables: they need
 * no merge. Gives those of which what was written since the snapshot is lost; then nothing is changed.
 */
export async function leaveLostSlices(tools: Pick<RestoreTools, 'dm' | 'blocks'>): Promise<readonly string[]> {
  const losses: {readonly live: string; readonly loss: SliceLoss}[] = []
  for (const {live, state} of await findLeftovers(tools.dm)) {
    if (state === 'snapshot') losses.push({live, loss: await judgeSlice(live, tools)})
  }
  const lost = losses.filter(({loss}) => loss.kind === 'written').map(({live}) => live)
  if (lost.length > 0) return lost
  for (const {live, loss} of losses) {
    if (loss.kind === 'nothing' || loss.kind === 'superblock') await goBackWithout(live, loss, tools)
  }
  return []
}

/** Turns every snapshot into a merge, or goes straight back where there is nothing to merge. After this no more of any slice is used up. */
export async function beginMerges(tools: RestoreTools): Promise<void> {
  await forEachLeftover(tools.dm, ['snapshot'], async ({live}) => {
    const loss = await judgeSlice(live, tools)
    // The kernel would merge one that is broken as if nothing had been in it.
    if (loss.kind === 'written') throw new DeviceMapperError('merge', live, `${loss.why}, so what was written to it is lost; restart the machine`)
    await (loss.kind === 'none' ? beginMerge(live, tools) : goBackWithout(live, loss, tools))
  })
}

/** Waits for the merges and puts everything back; what was on its own table only loses base and slice. */
export async function finishMerges(tools: RestoreTools, deadlineMs: number): Promise<void> {
  try {
    await forEachLeftover(tools.dm, ['merging'], async ({live}) => {
      await waitForMerge(live, tools, deadlineMs)
      await tools.dm.load(live, await tools.dm.table(baseName(live)))
      await tools.dm.resume(live)
    })
  } finally {
    await removeLeftovers(tools.dm)
  }
}

/** Removes bases and slices, and drops inactive tables, of live devices that run on their own tables. */
export async function removeLeftovers(dm: DeviceMapper): Promise<void> {
  await forEachLeftover(dm, ['own', 'gone'], async (leftover) => {
    if (leftover.hasInactiveTable) await dm.clear(leftover.live)
    for (const name of leftover.devices) await dm.remove(name)
  })
}

/** Goes on to the next when one fails: each file system is worth saving by itself. Throws the first failure. */
async function forEachLeftover(
  dm: DeviceMapper,
  states: readonly LiveState[],
  act: (leftover: Leftover) => Promise<void>,
): Promise<void> {
  let failure: {readonly error: unknown} | null = null
  for (const leftover of await findLeftovers(dm)) {
    if (!states.includes(leftover.state)) continue
    try {
      await act(leftover)
    } catch (error) {
      failure ??= {error}
    }
  }
  if (failure !== null) throw failure.error
}

const POLL_MS = 200

async function describeLeftover(live: string, all: readonly MappedDevice[], dm: DeviceMapper): Promise<Leftover> {
  const device = all.find(({name}) => name === live)
  const present = [cowName(live), baseName(live)].filter((name) => all.some((each) => each.name === name))
  const state = device === undefined ? 'gone' : stateOf(await dm.table(live))
  return {live, state, devices: present, hasInactiveTable: device?.hasInactiveTable ?? false}
}

function stateOf(table: Table): LiveState {
  const first = table[0]
  if (first?.kind === 'snapshot') return 'snapshot'
  return first?.kind === 'snapshot-merge' ? 'merging' : 'own'
}

async function beginMerge(live: string, {dm, fillTemplate}: RestoreTools): Promise<void> {
  const base = baseName(live)
  const snapshot = await snapshotOf(live, dm)
  const table = await dm.table(base)
  await dm.load(base, table)
  await dm.resume(base)
  const merge = fillTemplate('merge', {
    sectors: tableLength(table),
    base: printDeviceNumber(snapshot.origin),
    cow: printDeviceNumber(snapshot.cow),
  })
  await dm.load(live, merge)
  await dm.resume(live)
}

/** The kernel sends no event for the last chunk, so it is asked until that is reached. */
async function waitForMerge(live: string, tools: RestoreTools, deadlineMs: number): Promise<void> {
  const end = performance.now() + deadlineMs
  while (!(await isMerged(live, tools))) {
    if (performance.now() > end) throw new DeviceMapperError('merge', live, `it is not done after ${deadlineMs / 1000} s`)
    await sleep(POLL_MS)
  }
}

/** A merge is done when the slice holds nothing but its own bookkeeping; of one that overflowed only the slice itself tells. */
async function isMerged(live: string, {dm, blocks}: RestoreTools): Promise<boolean> {
  const slice = parseSliceStatus(await dm.status(live))
  switch (slice.kind) {
    case 'usable':
      return slice.used === slice.bookkeeping
    case 'overflowed': {
      const merge = await snapshotOf(live, dm)
      return await isStoreEmpty(merge, blocks)
    }
    case 'broken':
      throw new DeviceMapperError('merge', live, `its state is '${slice.status}'`)
    default:
      return slice satisfies never
  }
}
