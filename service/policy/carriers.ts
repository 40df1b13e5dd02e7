import type {Needed} from './match.js'
import type {ProcessEntry} from './process-table.js'

/** The processes that this one has started, and those that they have: the command that carries the image away. */
export function findCarriers(table: readonly ProcessEntry[], alreadyNeeded: readonly Needed[], starter = process.pid): readonly Needed[] {
  const known = new Set(alreadyNeeded.map(({pid}) => pid))
  return descendantsOf(starter, table)
    .filter(({pid}) => !known.has(pid))
    .map(({pid, comm, unit}) => ({pid, command: comm, unit, line: 'Target=', reason: 'It carries the image'}))
}

function descendantsOf(pid: number, table: readonly ProcessEntry[]): readonly ProcessEntry[] {
  return table.filter(({ppid}) => ppid === pid).flatMap((child) => [child, ...descendantsOf(child.pid, table)])
}
