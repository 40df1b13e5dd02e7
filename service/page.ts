/** A page of memory, of x86-64: the only architecture the kernel series is wired up for. */
export const PAGE_BYTES = 4096
