import createConnection, {type Connection} from 'dbus-next/lib/connection.js'

/**
 * What we use of dbus-next: the handshake and the encoding of messages. Its bus class and all it
 * brings along (XML, proxies, exported interfaces) stay out: it answers calls behind our back, its own
 * calls never end when the bus is gone, and loading it takes as long as everything else we load.
 */
export function connectWire(address: string): Connection {
  return createConnection({busAddress: address})
}

export {Message} from 'dbus-next/lib/message-type.js'

/** A value with its type, where a signature says `v`. */
export {Variant} from 'dbus-next/lib/variant.js'

export type Wire = Connection

// The message types and flags of the D-Bus specification, "Message Format".
export const METHOD_CALL = 1
export const METHOD_RETURN = 2
export const ERROR = 3
export const SIGNAL = 4
export const NO_REPLY_EXPECTED = 0x1
export const ALLOW_INTERACTIVE_AUTHORIZATION = 0x4
