// SPDX-License-Identifier: GPL-2.0-only
/*
 * What drivers/md/dm-snap-persistent.c keeps, in chunks: a header, then areas,
 * each a chunk of entries and, behind it, a chunk of data for each entry. A
 * merge goes from the last entry backwards and empties each when it is done,
 * so there is none behind an empty one.
 */
#include "exception-store.h"

#define SNAPSHOT_MAGIC 0x70416e53U
#define ENTRY_BYTES 16U

enum {
	AT_BASE_CHUNK = 0,
	AT_STORE_CHUNK = 8,
};

static u8 *read_chunk(const struct exception_store *store, u8 *buffer,
		      u64 chunk, struct reason *why)
{
	const u64 offset = chunk * store->chunk_bytes;

	if (!is_inside(offset, store->chunk_bytes, 0, store->bytes)) {
		refuse(why, "the snapshot store on '%s' ends before chunk %llu",
		       store->disk->path, (unsigned long long)chunk);
		return NULL;
	}
	return disk_read_span(store->disk, buffer, store->offset + offset,
			      store->chunk_bytes, why);
}

/* Returns how many entries there are, or -1. */
static int visit_area(const struct exception_store *store, const u8 *entries,
		      u64 first_index, exception_visitor visit, void *context,
		      struct reason *why)
{
	const int capacity = (int)(store->chunk_bytes / ENTRY_BYTES);

	for (int i = 0; i < capacity; i++) {
		const u8 *entry = entries + (size_t)i * ENTRY_BYTES;
		const struct exception exception = {
			.index = first_index + (u64)i,
			.base_chunk = read_le64(entry + AT_BASE_CHUNK),
			.store_chunk = read_le64(entry + AT_STORE_CHUNK),
		};

		if (!exception.store_chunk)
			return i;
		if (visit(context, &exception, why))
			return -1;
	}
	return capacity;
}

static int scan_areas(const struct exception_store *store, u8 *buffer,
		      exception_visitor visit, void *context,
		      struct reason *why)
{
	const u64 capacity = store->chunk_bytes / ENTRY_BYTES;
	const u8 *header = read_chunk(store, buffer, 0, why);

	if (!header)
		return -1;
	/* One that is new, as the kernel takes it. */
	if (!read_le32(header))
		return 0;
	if (read_le32(header) != SNAPSHOT_MAGIC)
		return refuse(why, "there is no snapshot store on '%s' at byte %llu",
			      store->disk->path,
			      (unsigned long long)store->offset);
	for (u64 area = 0;; area++) {
		const u64 at = 1 + area * (capacity + 1);
		const u8 *entries;
		int count;

		/* Behind a slice that is full there is no empty area. */
		if (!is_inside(at * store->chunk_bytes, store->chunk_bytes, 0,
			       store->bytes))
			return 0;
		entries = read_chunk(store, buffer, at, why);
		if (!entries)
			return -1;
		count = visit_area(store, entries, area * capacity, visit,
				   context, why);
		if (count < 0)
			return -1;
		if ((u64)count < capacity)
			return 0;
	}
}

int exception_store_scan(const struct exception_store *store,
			 exception_visitor visit, void *context,
			 struct reason *why)
{
	const size_t capacity = span_capacity(store->chunk_bytes);
	u8 *buffer = pages_allocate(capacity);
	int result;

	if (!buffer)
		return refuse(why, "out of memory");
	result = scan_areas(store, buffer, visit, context, why);
	pages_free(buffer, capacity);
	return result;
}

struct run {
	struct exception last;
	u64 start;
	u64 area_entries;
};

/* As persistent_prepare_merge() counts, which does not look into other areas. */
static int follow(void *context, const struct exception *exception,
		  struct reason *why)
{
	struct run *run = context;
	const struct exception *last = &run->last;

	(void)why;
	if (!(exception->index % run->area_entries) ||
	    exception->base_chunk != last->base_chunk + 1 ||
	    exception->store_chunk != last->store_chunk + 1)
		run->start = exception->index;
	run->last = *exception;
	return 0;
}

int exception_store_find_last_run(const struct exception_store *store,
				  u64 *index, struct reason *why)
{
	struct run run = { .area_entries = store->chunk_bytes / ENTRY_BYTES };

	if (exception_store_scan(store, follow, &run, why))
		return -1;
	*index = run.start;
	return 0;
}

static int note(void *context, const struct exception *exception,
		struct reason *why)
{
	bool *is_empty = context;

	(void)exception;
	(void)why;
	*is_empty = false;
	return 0;
}

bool exception_store_is_empty(const struct exception_store *store)
{
	struct reason ignored;
	bool is_empty = true;

	return !exception_store_scan(store, note, &is_empty, &ignored) &&
	       is_empty;
}
