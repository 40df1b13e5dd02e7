/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_CHUNKS_H
#define LOADER_CHUNKS_H

#include "header.h"

/* Takes the next bytes of the stream; 0, or -1 with why. */
typedef int (*chunk_consumer)(void *context, const u8 *bytes, u32 count,
			      struct reason *why);

/* Where the time went; the first three are summed over the threads. */
struct chunk_times {
	u64 read_ns;
	u64 digest_ns;
	u64 decompress_ns;
	u64 consume_ns;
	u64 wait_ns;		/* the consumer had nothing to do */
	unsigned int threads;
};

/*
 * Reads, checks and decompresses all chunks on several threads and hands them
 * to consume, in order, on the caller's. A chunk is handed on only after its
 * digest held. When it returns, the threads are gone.
 */
int chunks_run(const struct disk *disk, const struct superblock *superblock,
	       const struct header *header, chunk_consumer consume,
	       void *context, struct chunk_times *times, struct reason *why);

#endif
