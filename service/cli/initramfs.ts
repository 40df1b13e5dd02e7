import {spawn} from 'node:child_process'
import {once} from 'node:events'
import {readdirSync, statSync} from 'node:fs'
import path from 'node:path'

/** Where kernels lie, and what an initramfs must be newer than to have it. */
export interface InitramfsPlaces {
  readonly boot: string
  readonly parts: readonly string[]
}

const PLACES: InitramfsPlaces = {
  boot: '/boot',
  parts: [
    '/usr/lib/permafrost/permafrost-loader',
    '/usr/share/initramfs-tools/hooks/permafrost',
    '/usr/share/initramfs-tools/scripts/local-premount/permafrost',
  ],
}

/**
 * The initramfs files made before the loader or its scripts came to where they are: a kernel booted
 * with one of them would not resume. Judged by the time of the last change, which no installer can set back.
 */
export function findStaleInitramfs({boot, parts}: InitramfsPlaces = PLACES): readonly string[] {
  const newest = Math.max(...parts.map((part) => changedAtMs(part)))
  return namesIn(boot)
    .filter((name) => name.startsWith('initrd.img-'))
    .map((name) => path.join(boot, name))
    .filter((file) => changedAtMs(file) < newest)
}

/** Makes those of all kernels anew, as initramfs-tools does; says whether that succeeded. */
export async function updateInitramfs(): Promise<boolean> {
  const child = spawn('update-initramfs', ['-u', '-k', 'all'], {stdio: ['ignore', 'ignore', 'inherit']})
  try {
    const [status]: readonly unknown[] = await once(child, 'exit')
    return status === 0
  } catch {
    return false // It is not installed.
  }
}

function changedAtMs(file: string): number {
  return statSync(file, {throwIfNoEntry: false})?.ctimeMs ?? 0
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
  } catch {
    return [] // No such directory, so no kernels.
  }
}
