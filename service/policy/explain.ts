import {NoSuchProcessError} from '../errors.js'
import {matchNeeded} from './match.js'
import {type Condition, type Policy, type PolicyRule} from './policy.js'
import {type ProcessEntry} from './process-table.js'
import {readSituation, type Situation} from './situation.js'

export interface ProcessExplanation {
  readonly isNeeded: boolean
  /** `file:line`; empty when no line picks the process. */
  readonly line: string
  readonly sentence: string
}

/** Why one process would keep running, or why not. Throws NoSuchProcessError when `table` has none of that number. */
export function explainNeeded(
  policy: Policy,
  table: readonly ProcessEntry[],
  pid: number,
  situation: Situation = readSituation(),
): ProcessExplanation {
  const entry = table.find((each) => each.pid === pid)
  if (entry === undefined) throw new NoSuchProcessError(pid)
  const who = `'${entry.comm}' (pid ${pid}${entry.unit === null ? '' : `, ${entry.unit}`})`
  if (pid === process.pid) return {isNeeded: true, line: '', sentence: `${who} keeps running: it is the service itself`}
  const [needed] = matchNeeded(policy, [entry], situation)
  if (needed !== undefined) {
    return {isNeeded: true, line: needed.line, sentence: `${who} keeps running by ${needed.line}: ${needed.reason}`}
  }
  const close = policy.rules.find((rule) => picks(withoutConditions(rule), entry, situation))
  if (close === undefined) return {isNeeded: false, line: '', sentence: `${who} is frozen: no line of the policy picks it`}
  const line = matchNeeded({rules: [withoutConditions(close)]}, [entry], situation)[0]?.line ?? ''
  return {isNeeded: false, line, sentence: `${who} is frozen: ${line} picks it only when ${describe(close.conditions)}`}
}

function picks(rule: PolicyRule, entry: ProcessEntry, situation: Situation): boolean {
  return matchNeeded({rules: [rule]}, [entry], situation).length > 0
}

function withoutConditions(rule: PolicyRule): PolicyRule {
  return {...rule, conditions: []}
}

function describe(conditions: readonly Condition[]): string {
  return conditions.map(describeOne).join(', or ')
}

function describeOne(condition: Condition): string {
  switch (condition.kind) {
    case 'always':
      return 'always'
    case 'mount':
      return `a file system of type '${condition.type}' is mounted`
    case 'image':
      return `the image goes to '${condition.type}'`
    default:
      return condition satisfies never
  }
}
