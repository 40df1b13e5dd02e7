import {type ProcessEntry, readOpenFiles} from './process-table.js'

/** What a descriptor of memfd_secret(2) is called in /proc: mm/secretmem.c. */
const SECRET_FILE = '/secretmem'

/** Who has such memory open. Memory whose descriptor was closed is only mapped, and not found. */
export function findSecretHolders(
  table: readonly ProcessEntry[],
  openFiles: (pid: number) => readonly string[] = readOpenFiles,
): readonly ProcessEntry[] {
  return table.filter(({pid}) => openFiles(pid).includes(SECRET_FILE))
}
