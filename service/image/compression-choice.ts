/**
 * Decides chunk by chunk whether compressing pays, from what compressing and writing
 * have been costing on this machine.
 *
 * A chunk compressed costs its share of the compressors plus the writing, and one day the
 * reading, of what is left; a chunk stored as it is costs the writing and reading of all of
 * it. On a slow disk the first is cheaper by far, on a fast disk beside few or slow cores
 * the second is. Figures are kept as
 * moving averages, so a disk that slows down when its cache is full is noticed, and every
 * `PROBE_INTERVAL`th chunk is compressed although that does not pay, so that the
 * figures for compressing stay true.
 */
export class CompressionChoice {
  readonly #threads: number
  #chunks = 0
  #compressMs: number | null = null
  #writeMs: number | null = null
  #ratio = 1

  constructor(threads: number) {
    this.#threads = threads
  }

  /** Both room and time are asked: without room for all that may come, every chunk is compressed. */
  shouldCompress(room: {readonly freeBytes: number; readonly remainingBytes: number}): boolean {
    this.#chunks++
    if (room.freeBytes < room.remainingBytes * ROOM_FACTOR) return true
    if (this.#compressMs === null || this.#writeMs === null) return true
    if (this.#chunks % PROBE_INTERVAL === 0) return true
    const ioMs = this.#writeMs * TIMES_CARRIED
    return (this.#compressMs / this.#threads) * WORK_WITH_DECOMPRESSION + this.#ratio * ioMs < ioMs
  }

  observeCompression(sample: {readonly elapsedMs: number; readonly rawBytes: number; readonly storedBytes: number}): void {
    this.#compressMs = average(this.#compressMs, perMebibyte(sample.elapsedMs, sample.rawBytes))
    this.#ratio = average(this.#ratio, Math.min(1, sample.storedBytes / sample.rawBytes))
  }

  /** `sharers` is how many writes were under way, this one included. */
  observeWrite(sample: {readonly elapsedMs: number; readonly bytes: number; readonly sharers: number}): void {
    this.#writeMs = average(this.#writeMs, perMebibyte(sample.elapsedMs, sample.bytes) / sample.sharers)
  }
}

/** What is written will be read once, by the resume, from the same disk. */
const TIMES_CARRIED = 2
/** LZ4 decompresses four to five times as fast as it compresses. */
const WORK_WITH_DECOMPRESSION = 1.25
/** Two chunks in a hundred are compressed against advice; that is what keeping the figures true may cost. */
const PROBE_INTERVAL = 48
/** Chunks are padded, and the header comes behind them. */
const ROOM_FACTOR = 1.02
const WEIGHT_OF_NEW = 0.2

function average(old: number | null, sample: number): number {
  return old === null ? sample : old + (sample - old) * WEIGHT_OF_NEW
}

function perMebibyte(elapsedMs: number, bytes: number): number {
  return (elapsedMs * 2 ** 20) / Math.max(1, bytes)
}
