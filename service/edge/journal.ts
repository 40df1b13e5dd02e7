export type LogFields = Readonly<Record<string, string>>

/**
 * Where the daemon's sentences go. A call never blocks, whatever else is frozen;
 * what cannot be delivered yet is kept and delivered by `flush`, after the thaw.
 */
export interface Log {
  info(text: string, fields?: LogFields): void
  warning(text: string, fields?: LogFields): void
  error(text: string, fields?: LogFields): void
  flush(): void
}
