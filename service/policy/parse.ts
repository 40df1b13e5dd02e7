import {type Assignment, parseSections, type Section, splitWords} from '../configuration/sections.js'
import {parseAbsolutePath} from '../configuration/values.js'
import {PolicyError} from '../errors.js'
import {type Condition, IMAGE_TYPES, type PolicyRule, type Selector, type SelectorKind} from './policy.js'

/** Reads one policy file into its rules, or throws PolicyError for its first wrong line. */
export function parsePolicyFile(text: string, file: string): readonly PolicyRule[] {
  return parseSections(text, file, PolicyError).map((section) => readRule(section, file))
}

interface SelectorKey {
  readonly kind: SelectorKind
  readonly expected: string
  readonly isValid: (word: string) => boolean
}

/** The keys that pick processes. */
const SELECTOR_KEYS: Readonly<Record<string, SelectorKey>> = {
  Unit: {
    kind: 'unit',
    expected: "a unit with its suffix, such as 'rpcbind.service'",
    isValid: (word) => /^[A-Za-z0-9:_.\\@-]+\.(service|scope|slice|socket|mount|swap)$/.test(word),
  },
  Exe: {
    kind: 'exe',
    expected: "the absolute path of a program, such as '/usr/sbin/iscsid'",
    isValid: (word) => parseAbsolutePath(word) !== undefined,
  },
  Comm: {
    kind: 'comm',
    // TASK_COMM_LEN of include/linux/sched.h is 16, with the NUL.
    expected: "a command name of at most 15 bytes, such as 'nbd-client'",
    isValid: (word) => word !== '' && Buffer.byteLength(word) <= 15,
  },
  User: {
    kind: 'user',
    expected: "a user's name or number, such as '_rpc'",
    isValid: (word) => /^([a-z_][a-z0-9_.-]*\$?|\d{1,10})$/i.test(word),
  },
  Holds: {
    kind: 'holds',
    expected: "the path of a device, such as '/dev/fuse'",
    isValid: (word) => word.startsWith('/dev/') && parseAbsolutePath(word) !== undefined,
  },
}

interface RuleDraft {
  readonly words: Map<string, readonly Selector[]>
  conditions: readonly Condition[]
  reason: string
}

function readRule(section: Section, file: string): PolicyRule {
  if (section.name !== 'Needed') throw new PolicyError(file, section.line, `[${section.name}]`, '[Needed]')
  const draft: RuleDraft = {words: new Map(), conditions: [], reason: ''}
  for (const assignment of section.assignments) readAssignment(draft, assignment, file)
  const all = [...draft.words.values()].flat()
  if (all.length === 0) {
    throw new PolicyError(file, section.line, '[Needed]', 'at least one of Unit=, Exe=, Comm=, User=, Holds= in it')
  }
  return {
    selectors: all.filter(({kind}) => kind !== 'user'),
    users: all.filter(({kind}) => kind === 'user'),
    conditions: draft.conditions,
    reason: draft.reason,
    origin: {file, line: section.line},
  }
}

function readAssignment(draft: RuleDraft, assignment: Assignment, file: string): void {
  const {key, value, line} = assignment
  if (key === 'Reason') {
    draft.reason = value
    return
  }
  const words = splitWords(value)
  if (words === null) throw new PolicyError(file, line, value, 'the closing quote')
  if (key === 'When') {
    draft.conditions = words.length === 0 ? [] : [...draft.conditions, ...readConditions(words, line, file)]
    return
  }
  const selector = SELECTOR_KEYS[key]
  if (selector === undefined) {
    throw new PolicyError(file, line, `${key}=`, `one of ${Object.keys(SELECTOR_KEYS).map((name) => `${name}=`).join(', ')}, When=, Reason=`)
  }
  const wrong = words.find((word) => !selector.isValid(word))
  if (wrong !== undefined) throw new PolicyError(file, line, wrong, selector.expected)
  const added = words.map((word) => ({kind: selector.kind, value: word, line}))
  draft.words.set(key, words.length === 0 ? [] : [...(draft.words.get(key) ?? []), ...added])
}

function readConditions(words: readonly string[], line: number, file: string): readonly Condition[] {
  return words.map((word): Condition => {
    if (word === 'always') return {kind: 'always'}
    const [, kind, type] = /^(mount|image):(\S+)$/.exec(word) ?? []
    const imageType = IMAGE_TYPES.find((candidate) => candidate === type)
    if (kind === 'mount' && type !== undefined) return {kind, type}
    if (kind === 'image' && imageType !== undefined) return {kind, type: imageType}
    throw new PolicyError(file, line, word, `'always', 'mount:TYPE' or 'image:TYPE' with ${IMAGE_TYPES.join(', ')}`)
  })
}
