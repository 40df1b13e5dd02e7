/**
 * What must keep running while the image is saved, as the policy files say it.
 *
 * One `[Needed]` section is one rule. A process is kept when
 * - one of the conditions of `When=` holds, and
 * - any selector of `Unit=`, `Exe=`, `Comm=` or `Holds=` picks it, and
 * - it belongs to one of the users of `User=`, if there are any. `User=` alone picks all
 *   processes of those users.
 */
export interface Policy {
  /** In the order in which they count: the first rule that picks a process is named for it. */
  readonly rules: readonly PolicyRule[]
}

export interface PolicyRule {
  readonly selectors: readonly Selector[]
  readonly users: readonly Selector[]
  /** Empty: always. */
  readonly conditions: readonly Condition[]
  readonly reason: string
  readonly origin: Origin
}

export interface Origin {
  readonly file: string
  readonly line: number
}

export type SelectorKind = 'unit' | 'exe' | 'comm' | 'holds' | 'user'

export interface Selector {
  readonly kind: SelectorKind
  readonly value: string
  readonly line: number
}

export type Condition =
  | {readonly kind: 'always'}
  | {readonly kind: 'mount', readonly type: string}
  | {readonly kind: 'image', readonly type: ImageType}

/** Where the image goes. */
export type ImageType = 'spare' | 'tcp' | 'tls' | 'command' | 'nbd'

export const IMAGE_TYPES: readonly ImageType[] = ['spare', 'tcp', 'tls', 'command', 'nbd']
