import {type BusConnection} from './connection.js'
import {RemoteFailedError, RemoteRefusedError} from './errors.js'
import {Variant} from './wire.js'

/** `challenge`: only after the person has authenticated, which the caller did not let us ask for. */
export type Authorization = 'yes' | 'challenge' | 'no'

export interface Question {
  /** The caller's unique bus name; polkit finds out who that is. */
  readonly sender: string
  readonly action: string
  readonly isInteractive: boolean
}

export interface Authority {
  authorize(question: Question): Promise<Authorization>
}

/** Time for a person to type a password. */
const INTERACTIVE_TIMEOUT_MS = 300_000
const TIMEOUT_MS = 25_000

/**
 * Asks polkit, except about root: as in systemd's own services root needs no permission, so that
 * hibernation works where polkit is not installed or does not answer.
 */
export function polkitAuthority(connection: BusConnection): Authority {
  return {
    async authorize(question) {
      const [uid] = await connection.callBus('GetConnectionUnixUser', 's', [question.sender])
      if (uid === 0) return 'yes'
      const answer = await askPolkit(connection, question)
      return answer === 'yes' && !(await isThere(connection, question.sender)) ? 'no' : answer
    },
  }
}

/** polkit may have answered before it heard that the caller has gone, and nothing is begun for somebody who has. */
async function isThere(connection: BusConnection, sender: string): Promise<boolean> {
  const [hasOwner] = await connection.callBus('NameHasOwner', 's', [sender])
  return hasOwner === true
}

async function askPolkit(connection: BusConnection, question: Question): Promise<Authorization> {
  const subject = ['system-bus-name', {name: new Variant('s', question.sender)}]
  try {
    const [result] = await connection.call({
      destination: 'org.freedesktop.PolicyKit1',
      path: '/org/freedesktop/PolicyKit1/Authority',
      interface: 'org.freedesktop.PolicyKit1.Authority',
      member: 'CheckAuthorization',
      signature: '(sa{sv})sa{ss}us',
      // Flag 1 is AllowUserInteraction; the last argument would name the check for cancelling it.
      body: [subject, question.action, {}, question.isInteractive ? 1 : 0, ''],
      timeoutMs: question.isInteractive ? INTERACTIVE_TIMEOUT_MS : TIMEOUT_MS,
    })
    const [isAuthorized, isChallenge]: readonly unknown[] = Array.isArray(result) ? result : []
    if (isAuthorized === true) return 'yes'
    return isChallenge === true ? 'challenge' : 'no'
  } catch (error) {
    // No polkit, no permission for anybody but root.
    if (error instanceof RemoteFailedError || error instanceof RemoteRefusedError) return 'no'
    throw error
  }
}
