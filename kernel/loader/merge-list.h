/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_MERGE_LIST_H
#define LOADER_MERGE_LIST_H

#include "disk.h"
#include "exception-store.h"
#include "superblock.h"

#define MERGES_MAX 64U
#define MERGE_UUID_BYTES 64U
#define MERGE_PATH_BYTES 412U
#define SAMPLES_MAX 64U
#define SAMPLE_SECTORS 8U

/* The beginning of a chunk of the base before the merge began. */
struct base_sample {
	u64 chunk;
	u32 digests[SAMPLE_SECTORS];	/* lower half, of each sector */
};

/* A slice that was being copied back to its file system. */
struct pending_merge {
	u64 slice_offset;	/* from the start of the spare device */
	u64 slice_bytes;
	u64 base_bytes;
	u32 chunk_sectors;
	bool has_lost_key;	/* encrypted, and nobody has the key */
	char uuid[MERGE_UUID_BYTES];	/* of the file system; may be empty */
	char path[MERGE_PATH_BYTES];	/* of the device under it */
	u32 sample_count;
	struct base_sample samples[SAMPLES_MAX];
};

/* What is still to be copied, unless it is encrypted. */
static inline struct exception_store
pending_merge_store(const struct pending_merge *pending,
		    const struct disk *spare)
{
	const struct exception_store store = {
		.disk = spare,
		.offset = pending->slice_offset,
		.bytes = pending->slice_bytes,
		.chunk_bytes = pending->chunk_sectors * 512,
	};

	return store;
}

struct merge_list {
	u32 slot;
	u32 count;
	struct pending_merge merges[MERGES_MAX];
};

/*
 * Reads which merges were under way when the power went; none, count is 0,
 * when there is no list or one that was not written to its end.
 */
int merge_list_read(const struct disk *disk,
		    const struct superblock *superblock,
		    struct merge_list *list, struct reason *why);

/* Forgets the list and flushes; the disk is open for writing. */
int merge_list_clear(const struct disk *disk, const struct merge_list *list,
		     struct reason *why);

#endif
