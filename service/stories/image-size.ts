import type {Lz4} from '../image/lz4.js'

export interface MemoryInUse {
  /** proc(5): AnonPages of meminfo, what samples stand for. */
  readonly anonymousBytes: number
  /** Everything else that is saved. */
  readonly otherBytes: number
}

/**
 * What of that is stored at the least: of memory nobody has sampled, such as the kernel's own and mapped
 * programs, no more than this is refused for.
 */
const UNSAMPLED_PART = 0.25

/**
 * How many bytes an image would take: anonymous memory compressed as the samples are, everything else by the least
 * part it may come to. Without samples there is nothing but that part.
 */
export async function estimateImageBytes(inUse: MemoryInUse, samples: readonly Buffer[], lz4: Lz4): Promise<number> {
  const sampledPart = (await compressedPart(samples, lz4)) ?? UNSAMPLED_PART
  return Math.ceil(inUse.anonymousBytes * sampledPart + inUse.otherBytes * UNSAMPLED_PART)
}

/** Null where there is nothing to compress. */
async function compressedPart(samples: readonly Buffer[], lz4: Lz4): Promise<number | null> {
  const rawBytes = samples.reduce((sum, {length}) => sum + length, 0)
  if (rawBytes === 0) return null
  let storedBytes = 0
  for (const sample of samples) {
    // As chunks are: stored as it is where compressing gains nothing.
    const compressedBytes = await lz4.compress(sample, Buffer.alloc(sample.length))
    storedBytes += compressedBytes === 0 ? sample.length : compressedBytes
  }
  return storedBytes / rawBytes
}
