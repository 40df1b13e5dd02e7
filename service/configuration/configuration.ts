import type {Target} from './target.js'

/**
 * What permafrost.conf says, read once when the daemon starts.
 * Keys, units and defaults are in the table of `fields.ts`.
 */
export interface Configuration {
  /** The spare device as written in the file, or null when none is configured. */
  readonly spareDevice: string | null
  /** Where images go instead of the spare device, or null. */
  readonly target: Target | null
  /** How long whoever takes the image may take nothing and say nothing. */
  readonly targetTimeoutMs: number
  /** Memory that has to stay free for what still runs after the snapshot. */
  readonly overheadBytes: number
  readonly freezeTimeoutMs: number
  /** Whether page cache that nobody maps and that is on disk is dropped rather than saved. */
  readonly dropsPageCache: boolean
  /** 0: as many as there are CPUs. */
  readonly compressionThreads: number
  /** Whether chunks are stored as they are while the disk is faster than the CPUs. */
  readonly isCompressionAdaptive: boolean
}
