import {type Condition, type Policy, type PolicyRule, type Selector} from './policy.js'
import {type ProcessEntry} from './process-table.js'
import {readSituation, type Situation} from './situation.js'

/** One process that is kept running, and the line that says so. */
export interface Needed {
  readonly pid: number
  readonly command: string
  readonly unit: string | null
  /** `file:line` of the key that picks it. */
  readonly line: string
  readonly reason: string
}

/**
 * The processes of `table` that `policy` keeps running, ordered by pid: the same for the same
 * arguments. The service itself is never frozen, so it is not listed.
 */
export function matchNeeded(
  policy: Policy,
  table: readonly ProcessEntry[],
  situation: Situation = readSituation(),
): readonly Needed[] {
  const pickers = policy.rules
    .filter(({conditions}) => conditions.length === 0 || conditions.some((each) => holds(each, situation)))
    .map((rule) => compileRule(rule, situation))
  return table
    .filter(({pid}) => pid !== process.pid)
    .sort((left, right) => left.pid - right.pid)
    .flatMap((entry) => firstPick(pickers, entry) ?? [])
}

type Picker = (entry: ProcessEntry) => Needed | null

function firstPick(pickers: readonly Picker[], entry: ProcessEntry): Needed | null {
  for (const pick of pickers) {
    const needed = pick(entry)
    if (needed !== null) return needed
  }
  return null
}

function holds(condition: Condition, situation: Situation): boolean {
  switch (condition.kind) {
    case 'always':
      return true
    case 'image':
      return situation.imageType === condition.type
    case 'mount':
      // 'fuse' means 'fuse.sshfs' too.
      return [...situation.mountTypes].some((type) => type === condition.type || type.startsWith(`${condition.type}.`))
    default:
      return condition satisfies never
  }
}

/** Looks up what does not depend on the process once, and not for each of them. */
function compileRule(rule: PolicyRule, situation: Situation): Picker {
  const selectors = rule.selectors.map((selector) => ({selector, picks: compileSelector(selector, situation)}))
  const users = rule.users.map((selector) => ({selector, picks: compileSelector(selector, situation)}))
  return (entry) => {
    const user = users.find(({picks}) => picks(entry))
    if (users.length > 0 && user === undefined) return null
    const by = selectors.length === 0 ? user : selectors.find(({picks}) => picks(entry))
    if (by === undefined) return null
    return {
      pid: entry.pid,
      command: entry.comm,
      unit: entry.unit,
      line: `${rule.origin.file}:${by.selector.line}`,
      reason: rule.reason,
    }
  }
}

function compileSelector({kind, value}: Selector, situation: Situation): (entry: ProcessEntry) => boolean {
  switch (kind) {
    case 'unit':
      return ({cgroup}) => cgroup.split('/').some((part) => part === value || part === `_${value}`)
    case 'exe': {
      const canonical = situation.canonicalPath(value)
      return ({exe}) => exe === value || exe === canonical
    }
    case 'comm':
      return ({comm}) => comm === value
    case 'user': {
      const wanted = situation.userId(value)
      return ({uid}) => uid === wanted
    }
    case 'holds': {
      const canonical = situation.canonicalPath(value)
      return ({pid}) => situation.openFiles(pid).some((path) => path === value || path === canonical)
    }
    default:
      return kind satisfies never
  }
}
