import {type LineError} from '../errors.js'

export interface Assignment {
  readonly key: string
  readonly value: string
  /** Counts from 1; of a continued line, the first one. */
  readonly line: number
}

export interface Section {
  readonly name: string
  readonly line: number
  readonly assignments: readonly Assignment[]
}

/** Which of our errors a wrong line becomes. */
export type LineErrorClass = new (file: string, line: number, value: string, expected: string) => LineError

/**
 * Reads the syntax of systemd.syntax(7): `[Section]`, `Key=Value`, comments behind `#` or `;`,
 * a backslash at the end of a line that continues it. Says nothing about which sections and
 * keys there are. A wrong line refuses the whole file.
 */
export function parseSections(text: string, file: string, LineErrorClass: LineErrorClass): readonly Section[] {
  const sections: {name: string, line: number, assignments: Assignment[]}[] = []
  for (const {line, content} of logicalLines(text)) {
    const fail = (expected: string): LineError => new LineErrorClass(file, line, content, expected)
    if (content.startsWith('[')) {
      const name = /^\[([^[\]]+)\]$/.exec(content)?.[1]
      if (name === undefined) throw fail("a section such as '[Name]'")
      sections.push({name, line, assignments: []})
      continue
    }
    const parts = /^([^=\s]+)\s*=\s*(.*)$/s.exec(content)
    const [, key, value] = parts ?? []
    if (key === undefined || value === undefined) throw fail("'Key=Value'")
    const current = sections.at(-1)
    if (current === undefined) throw fail("a section such as '[Name]' before the first key")
    current.assignments.push({key, value, line})
  }
  return sections
}

/**
 * Splits a value into words: at white space, except inside single or double quotes;
 * a backslash takes the next character as it is. Null when a quote is not closed.
 */
export function splitWords(value: string): readonly string[] | null {
  const words: string[] = []
  let word: string | null = null
  let quote: string | null = null
  for (let index = 0; index < value.length; index += 1) {
    const character = value.charAt(index)
    if (character === '\\' && index + 1 < value.length) {
      index += 1
      word = (word ?? '') + value.charAt(index)
    } else if (quote !== null) {
      if (character === quote) quote = null
      else word = (word ?? '') + character
    } else if (character === '"' || character === "'") {
      quote = character
      word ??= ''
    } else if (/\s/.test(character)) {
      if (word !== null) words.push(word)
      word = null
    } else {
      word = (word ?? '') + character
    }
  }
  if (quote !== null) return null
  if (word !== null) words.push(word)
  return words
}

function* logicalLines(text: string): Generator<{readonly line: number, readonly content: string}> {
  let pending: {line: number, content: string} | null = null
  for (const [index, raw] of text.replace(/^\uFEFF/, '').split('\n').entries()) {
    const physical = raw.trim()
    // As in systemd, a comment between continued lines does not end them.
    if (physical.startsWith('#') || physical.startsWith(';')) continue
    const start: {line: number, content: string} = pending ?? {line: index + 1, content: ''}
    if (physical.endsWith('\\')) {
      pending = {line: start.line, content: `${start.content}${physical.slice(0, -1)} `}
      continue
    }
    const content = (start.content + physical).trim()
    if (content !== '') yield {line: start.line, content}
    pending = null
  }
  const rest = pending?.content.trim() ?? ''
  if (pending !== null && rest !== '') yield {line: pending.line, content: rest}
}
