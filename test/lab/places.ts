// Where things are in the repository.
import {fileURLToPath} from 'node:url'

/** The top of the repository. */
export function repository(): string {
  return fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')
}
