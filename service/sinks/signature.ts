import {constants} from 'node:os'
import koffi from 'koffi'
import {callOnThread, type Returned} from '../edge/foreign-call.js'
import {SystemCallError} from '../errors.js'

/** What else than ours lies on a device, as blkid(8) finds it with --probe. */
export type Signature =
  | {readonly kind: 'none'}
  | {readonly kind: 'content'; readonly type: string}
  | {readonly kind: 'partitions'; readonly type: string}
  /** Several that contradict one another. */
  | {readonly kind: 'ambivalent'}

/** Reads the device on another thread. Throws SystemCallError when it cannot be read. */
export type FindSignature = (device: string) => Promise<Signature>

/** Through libblkid, since a process takes longer to start than the whole rest of a preflight. */
export function openSignatures(): FindSignature {
  const library = loadLibrary()
  return async (device) => {
    const probe = await library.open(device)
    try {
      library.enablePartitions(probe, 1)
      library.enableSuperblocks(probe, 1)
      const {value: answer, errno} = await library.probe(probe)
      if (answer === NOTHING_FOUND) return {kind: 'none'}
      if (answer === AMBIVALENT) return {kind: 'ambivalent'}
      if (answer !== FOUND) throw new SystemCallError(`look for signatures on '${device}'`, errno || constants.errno.EIO)
      return describe((name) => library.lookUp(probe, name))
    } finally {
      library.free(probe)
    }
  }
}

// What blkid_do_safeprobe() answers: blkid.h. Anything else is a failure.
const FOUND = 0
const NOTHING_FOUND = 1
const AMBIVALENT = -2

function describe(lookUp: (name: string) => string | null): Signature {
  const content = lookUp('TYPE')
  if (content !== null) return {kind: 'content', type: content}
  const partitions = lookUp('PTTYPE')
  return partitions === null ? {kind: 'none'} : {kind: 'partitions', type: partitions}
}

function loadLibrary() {
  const library = koffi.load('libblkid.so.1')
  const open = library.func('void *blkid_new_probe_from_filename(const char *path)')
  const probe = library.func('int blkid_do_safeprobe(void *probe)')
  const lookUp = library.func('int blkid_probe_lookup_value(void *probe, const char *name, _Out_ const char **value, size_t *length)')
  return {
    enablePartitions: library.func('int blkid_probe_enable_partitions(void *probe, int isWanted)'),
    enableSuperblocks: library.func('int blkid_probe_enable_superblocks(void *probe, int isWanted)'),
    free: library.func('void blkid_free_probe(void *probe)'),
    async open(device: string): Promise<bigint> {
      const {value, errno} = await callOnThread<bigint | null>(open, device)
      if (value === null) throw new SystemCallError(`look for signatures on '${device}'`, errno)
      return value
    },
    probe: (handle: bigint): Promise<Returned<number>> => callOnThread<number>(probe, handle),
    lookUp(handle: bigint, name: string): string | null {
      const value: [string | null] = [null]
      return lookUp(handle, name, value, null) === 0 ? value[0] : null
    },
  }
}
