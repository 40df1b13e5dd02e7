/** Where images go that do not go to the spare device. */
export type Target = ServerAddress | CommandLine

export interface ServerAddress {
  readonly kind: 'tcp' | 'tls'
  /** As written, for messages. */
  readonly text: string
  readonly host: string
  readonly port: number
  /** Under which the server keeps the image. */
  readonly name: string
}

export interface CommandLine {
  readonly kind: 'command'
  readonly text: string
  /** For sh(1). */
  readonly command: string
}

/** `tcp://HOST:PORT/NAME`, `tls://HOST:PORT/NAME`, `command:COMMAND`. The names are those that PROTOCOL.md allows. */
export function parseTarget(text: string): Target | undefined {
  const command = /^command:\s*(\S.*)$/.exec(text)?.[1]
  if (command !== undefined) return {kind: 'command', text, command}
  const [, kind, host, port, name] = /^(tcp|tls):\/\/([A-Za-z0-9.-]+):(\d{1,5})\/([A-Za-z0-9][A-Za-z0-9._-]{0,62})$/.exec(text) ?? []
  if ((kind !== 'tcp' && kind !== 'tls') || host === undefined || name === undefined) return undefined
  return Number(port) >= 1 && Number(port) <= 65_535 ? {kind, text, host, port: Number(port), name} : undefined
}
