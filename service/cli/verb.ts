import {type PermafrostClient} from '../bus/client.js'
import {NotRootError, UsageError} from '../errors.js'

/** What a verb works with; tests pass their own. */
export interface Surroundings {
  /** One line to standard output. */
  readonly print: (line: string) => void
  /** One line to standard error, behind the program's name. */
  readonly complain: (sentence: string) => void
  /** Writes over the terminal's current line; null where standard output is no terminal. */
  readonly redraw: ((line: string) => void) | null
  /** The answer to a question on the terminal; null where nobody can be asked. */
  readonly ask: ((question: string) => Promise<string>) | null
  readonly connect: () => Promise<PermafrostClient>
  /** The daemon's socket beside the bus. */
  readonly sideDoor: string
  readonly isRoot: boolean
}

export interface Arguments {
  readonly words: readonly string[]
  readonly flags: ReadonlySet<string>
  /** Of flags that take a value. */
  readonly values: Readonly<Record<string, string>>
}

export interface Verb {
  readonly name: string
  /** Behind the name in the usage line. */
  readonly parameters: string
  readonly summary: string
  readonly example: string
  /** Flags beside --json and --help, without the dashes, each with what it does. */
  readonly flags: Readonly<Record<string, string>>
  /** Those of `flags` that take a value. */
  readonly valued?: readonly string[]
  /** How many words may follow: least and most. */
  readonly words: readonly [number, number]
  readonly load: () => Promise<RunVerb>
}

/** Gives the exit status; a refusal or failure is thrown. */
export type RunVerb = (given: Arguments, surroundings: Surroundings) => Promise<number>

export const EXIT_DONE = 0
export const EXIT_FAILED = 1
export const EXIT_USAGE = 2
export const EXIT_REFUSED = 3

export function demandRoot({isRoot}: Surroundings, attempt: string): void {
  if (!isRoot) throw new NotRootError(attempt)
}

/** A value as --json shows it: integers that JSON cannot hold become text. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) => (typeof each === 'bigint' ? String(each) : each))
}

export function wordAt({words}: Arguments, index: number, what: string): string {
  const word = words[index]
  if (word === undefined) throw new UsageError(`Cannot go on without ${what}`)
  return word
}
