import koffi from 'koffi'

/** What direct I/O asks of addresses, offsets and lengths; no disk sold has larger logical blocks. */
export const DIRECT_IO_ALIGNMENT = 4096

/**
 * Memory fit for O_DIRECT. Node aligns no buffer to a page, and which kinds of
 * ArrayBuffer happen to be aligned differs between versions, so a page more is
 * taken and the aligned part of it given out. Array buffers never move.
 */
export function allocateAligned(bytes: number): Buffer {
  const whole = Buffer.from(new ArrayBuffer(alignUp(bytes) + DIRECT_IO_ALIGNMENT))
  const excess = Number(koffi.address(whole) % BigInt(DIRECT_IO_ALIGNMENT))
  const start = excess === 0 ? 0 : DIRECT_IO_ALIGNMENT - excess
  return whole.subarray(start, start + alignUp(bytes))
}

export function alignUp(bytes: number, alignment: number = DIRECT_IO_ALIGNMENT): number {
  return Math.ceil(bytes / alignment) * alignment
}

export function alignDown(bytes: number, alignment: number = DIRECT_IO_ALIGNMENT): number {
  return Math.floor(bytes / alignment) * alignment
}
