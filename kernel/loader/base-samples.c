// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks of the base that nobody writes to before they are merged, but whoever
 * uses the file system without its slice.
 *
 * - What is not in the last run of the store is as it was; where it already is
 *   as it will be, merging it does no harm.
 * - Of the last run the merge may have copied any part when the power went, and
 *   what it copied may differ from what the disk under the slice has kept. It
 *   tells nothing where something else does.
 */
#include "base-samples.h"

#include <xxhash.h>

#define SECTOR_BYTES 512U
#define SAMPLE_BYTES (SAMPLE_SECTORS * SECTOR_BYTES)

enum verdict {
	SAME,
	HALF_MERGED,
	OTHER,
	UNREADABLE,
};

struct comparison {
	const struct disk *base;
	const struct exception_store *store;
	const struct pending_merge *pending;
	u8 *base_buffer;
	u8 *store_buffer;
	u64 last_run;
	unsigned int same;	/* outside of the last run */
	bool has_other;		/* outside of it */
	bool has_other_in_last_run;
};

static const struct base_sample *
find_sample(const struct pending_merge *pending, u64 chunk)
{
	for (u32 i = 0; i < pending->sample_count; i++)
		if (pending->samples[i].chunk == chunk)
			return &pending->samples[i];
	return NULL;
}

static bool is_as_before(const u8 *sector, u32 digest)
{
	return (u32)XXH64(sector, SECTOR_BYTES, 0) == digest;
}

static enum verdict compare_sectors(const u8 *base, const u8 *slice,
				    const struct base_sample *sample)
{
	enum verdict verdict = SAME;

	for (u32 i = 0; i < SAMPLE_SECTORS; i++) {
		const size_t at = (size_t)i * SECTOR_BYTES;

		if (is_as_before(base + at, sample->digests[i]))
			continue;
		if (memcmp(base + at, slice + at, SECTOR_BYTES))
			return OTHER;
		verdict = HALF_MERGED;
	}
	return verdict;
}

static enum verdict compare_chunk(const struct comparison *with,
				  const struct exception *exception,
				  const struct base_sample *sample)
{
	const struct exception_store *store = with->store;
	const u64 place = exception->store_chunk * store->chunk_bytes;
	struct reason ignored;
	const u8 *base, *slice;

	base = disk_read_span(with->base, with->base_buffer,
			      exception->base_chunk * store->chunk_bytes,
			      SAMPLE_BYTES, &ignored);
	slice = disk_read_span(store->disk, with->store_buffer,
			       store->offset + place, SAMPLE_BYTES, &ignored);
	return base && slice ? compare_sectors(base, slice, sample) :
			       UNREADABLE;
}

static int compare(void *context, const struct exception *exception,
		   struct reason *why)
{
	struct comparison *with = context;
	const struct exception_store *store = with->store;
	const struct base_sample *sample =
		find_sample(with->pending, exception->base_chunk);
	enum verdict verdict;

	if (!sample)
		return 0;
	if (exception->base_chunk >= with->base->bytes / store->chunk_bytes ||
	    exception->store_chunk >= store->bytes / store->chunk_bytes)
		return refuse(why, "the snapshot store on '%s' is malformed",
			      store->disk->path);
	verdict = compare_chunk(with, exception, sample);
	if (exception->index < with->last_run) {
		with->same += verdict == SAME;
		with->has_other |= verdict == OTHER;
	} else {
		with->has_other_in_last_run |= verdict == OTHER;
	}
	return 0;
}

static int check(struct comparison *with, struct reason *why)
{
	if (exception_store_find_last_run(with->store, &with->last_run, why) ||
	    exception_store_scan(with->store, compare, with, why))
		return -1;
	return with->has_other || (with->has_other_in_last_run && !with->same);
}

int base_samples_check(const struct disk *base, const struct disk *spare,
		       const struct pending_merge *pending,
		       struct reason *why)
{
	const size_t capacity = span_capacity(SAMPLE_BYTES);
	const struct exception_store store =
		pending_merge_store(pending, spare);
	struct comparison with = {
		.base = base, .store = &store, .pending = pending,
		.base_buffer = pages_allocate(capacity),
		.store_buffer = pages_allocate(capacity),
	};
	int result = -1;

	if (with.base_buffer && with.store_buffer)
		result = check(&with, why);
	else
		refuse(why, "out of memory");
	pages_free(with.base_buffer, capacity);
	pages_free(with.store_buffer, capacity);
	return result;
}
