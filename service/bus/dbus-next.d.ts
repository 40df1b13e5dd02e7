// dbus-next describes its whole only; these are the parts of it that wire.ts uses.

declare module 'dbus-next/lib/connection.js' {
  import type {EventEmitter} from 'node:events'
  import type {Socket} from 'node:net'
  import type {Message} from 'dbus-next/lib/message-type.js'

  function createConnection(options: {readonly busAddress: string}): createConnection.Connection

  namespace createConnection {
    interface Connection extends EventEmitter {
      readonly stream: Socket
      message(message: Message): void
    }
  }

  export = createConnection
}

declare module 'dbus-next/lib/message-type.js' {
  interface MessageValues {
    readonly type: number
    readonly serial?: number
    readonly path?: string
    readonly interface?: string
    readonly member?: string
    readonly errorName?: string
    readonly replySerial?: number
    readonly destination?: string
    readonly signature?: string
    readonly body?: unknown[]
    readonly flags?: number
  }

  export class Message {
    constructor(values: MessageValues)
    readonly type: number
    serial: number | null
    readonly path: string | undefined
    readonly interface: string | undefined
    readonly member: string | undefined
    readonly errorName: string | undefined
    readonly replySerial: number | undefined
    readonly destination: string | undefined
    readonly sender: string | undefined
    readonly signature: string
    readonly body: unknown[]
    readonly flags: number
  }
}

declare module 'dbus-next/lib/variant.js' {
  export class Variant {
    constructor(signature: string, value: unknown)
    readonly signature: string
    readonly value: unknown
  }
}
