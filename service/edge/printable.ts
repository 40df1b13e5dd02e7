/**
 * What somebody else says, such as a server or a command, as a line for logs, terminals and messages of the bus: what is no
 * character to be seen (Unicode's category Cc: NUL, line ends, the beginnings of terminals' escape sequences) becomes '?'.
 */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?')
}
