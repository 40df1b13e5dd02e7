// SPDX-License-Identifier: GPL-2.0-only
/* The merge list of the spare device, as service/image/FORMAT.md has it. */
#include "merge-list.h"

#include <errno.h>
#include <unistd.h>
#include <xxhash.h>

#define SLOTS_OFFSET 4096U
#define SLOTS 2U
#define SLOT_BYTES 200704U
#define SLOTS_BYTES (SLOTS * SLOT_BYTES)
#define LIST_VERSION 2U
#define HEADER_BYTES 64U
#define ENTRY_BYTES 512U
#define SAMPLE_BYTES (8U + 4U * SAMPLE_SECTORS)
#define CHUNK_SECTORS_MAX 1024U
#define FLAG_LOST_KEY 1U

enum {
	AT_MAGIC = 0,
	AT_VERSION = 16,
	AT_COUNT = 20,
	AT_SEQUENCE = 40,
};

enum {
	AT_SLICE_OFFSET = 0,
	AT_SLICE_BYTES = 8,
	AT_BASE_BYTES = 16,
	AT_CHUNK_SECTORS = 24,
	AT_FLAGS = 28,
	AT_UUID = 32,
	AT_PATH = 96,
	AT_SAMPLE_COUNT = 508,
};

static const char magic[16] = "PermafrostMerge";

static const u8 *entry_of(const u8 *list, u32 index)
{
	return list + HEADER_BYTES + (size_t)index * ENTRY_BYTES;
}

static void decode_samples(const u8 *bytes, struct pending_merge *to)
{
	for (u32 i = 0; i < to->sample_count; i++) {
		const u8 *sample = bytes + (size_t)i * SAMPLE_BYTES;

		to->samples[i].chunk = read_le64(sample);
		for (u32 j = 0; j < SAMPLE_SECTORS; j++)
			to->samples[i].digests[j] =
				read_le32(sample + 8 + 4 * (size_t)j);
	}
}

/* A chunk has at least the sectors of a sample, and whole pages. */
static bool has_good_chunks(const struct pending_merge *pending)
{
	const u32 sectors = pending->chunk_sectors;

	return sectors >= SAMPLE_SECTORS && sectors <= CHUNK_SECTORS_MAX &&
	       !(sectors & (sectors - 1));
}

static int decode_entry(const u8 *entry, const u8 *samples,
			const struct disk *disk, struct pending_merge *to,
			struct reason *why)
{
	to->slice_offset = read_le64(entry + AT_SLICE_OFFSET);
	to->slice_bytes = read_le64(entry + AT_SLICE_BYTES);
	to->base_bytes = read_le64(entry + AT_BASE_BYTES);
	to->chunk_sectors = read_le32(entry + AT_CHUNK_SECTORS);
	to->has_lost_key = read_le32(entry + AT_FLAGS) & FLAG_LOST_KEY;
	to->sample_count = read_le32(entry + AT_SAMPLE_COUNT);
	memcpy(to->uuid, entry + AT_UUID, sizeof(to->uuid));
	memcpy(to->path, entry + AT_PATH, sizeof(to->path));
	decode_samples(samples, to);
	if (to->uuid[sizeof(to->uuid) - 1] || to->path[sizeof(to->path) - 1] ||
	    !to->path[0] || strchr(to->uuid, '/') || !to->slice_bytes ||
	    to->slice_offset % BLOCK_BYTES || to->slice_bytes % BLOCK_BYTES ||
	    !to->base_bytes || to->base_bytes % 512 || !has_good_chunks(to) ||
	    !is_inside(to->slice_offset, to->slice_bytes, 0, disk->bytes))
		return refuse(why, "the merge list of '%s' is malformed",
			      disk->path);
	return 0;
}

/* Where the digest is, or 0 when what says so cannot be right. */
static size_t find_end(const u8 *list)
{
	const u32 count = read_le32(list + AT_COUNT);
	size_t end = HEADER_BYTES + (size_t)count * ENTRY_BYTES;

	if (count > MERGES_MAX)
		return 0;
	for (u32 i = 0; i < count; i++) {
		const u32 samples =
			read_le32(entry_of(list, i) + AT_SAMPLE_COUNT);

		if (samples > SAMPLES_MAX)
			return 0;
		end += (size_t)samples * SAMPLE_BYTES;
	}
	return end;
}

/* A list that was not written to its end was of merges that had not begun. */
static bool is_whole(const u8 *list)
{
	const size_t end = find_end(list);

	return end && !memcmp(list + AT_MAGIC, magic, sizeof(magic)) &&
	       XXH64(list, end, 0) == read_le64(list + end);
}

/* Of the lists that are whole the last one; NULL when there is none. */
static const u8 *find_newest(const u8 *slots, u32 *slot)
{
	const u8 *newest = NULL;

	for (u32 i = 0; i < SLOTS; i++) {
		const u8 *list = slots + (size_t)i * SLOT_BYTES;

		if (is_whole(list) &&
		    (!newest || read_le64(list + AT_SEQUENCE) >
				read_le64(newest + AT_SEQUENCE))) {
			newest = list;
			*slot = i;
		}
	}
	return newest;
}

static int decode(const u8 *bytes, const struct disk *disk,
		  struct merge_list *list, struct reason *why)
{
	const u32 version = read_le32(bytes + AT_VERSION);
	const u32 count = read_le32(bytes + AT_COUNT);
	const u8 *samples = entry_of(bytes, count);

	if (version != LIST_VERSION)
		return refuse(why, "the merge list of '%s' has version %u, this loader knows version %u",
			      disk->path, version, LIST_VERSION);
	for (u32 i = 0; i < count; i++) {
		if (decode_entry(entry_of(bytes, i), samples, disk,
				 &list->merges[i], why))
			return -1;
		samples += (size_t)list->merges[i].sample_count * SAMPLE_BYTES;
	}
	list->count = count;
	return 0;
}

static bool has_room(const struct superblock *superblock)
{
	return superblock->image_area_offset >= SLOTS_OFFSET + SLOTS_BYTES &&
	       superblock->cow_area_offset >= SLOTS_OFFSET + SLOTS_BYTES;
}

int merge_list_read(const struct disk *disk,
		    const struct superblock *superblock,
		    struct merge_list *list, struct reason *why)
{
	const size_t capacity = span_capacity(SLOTS_BYTES);
	const u8 *newest;
	u8 *buffer, *bytes;
	int result = -1;

	list->count = 0;
	if (!has_room(superblock))
		return 0;
	buffer = pages_allocate(capacity);
	if (!buffer)
		return refuse(why, "out of memory");
	bytes = disk_read_span(disk, buffer, SLOTS_OFFSET, SLOTS_BYTES, why);
	newest = bytes ? find_newest(bytes, &list->slot) : NULL;
	if (bytes)
		result = newest ? decode(newest, disk, list, why) : 0;
	pages_free(buffer, capacity);
	return result;
}

static int erase(const struct disk *disk, const u8 *zeros, u32 slot,
		 struct reason *why)
{
	const off_t place = SLOTS_OFFSET + (off_t)slot * SLOT_BYTES;

	if (pwrite(disk->fd, zeros, BLOCK_BYTES, place) !=
		    (ssize_t)BLOCK_BYTES ||
	    fdatasync(disk->fd))
		return refuse(why, "cannot clear the merge list of '%s': %s",
			      disk->path, strerror(errno));
	return 0;
}

/* An older list goes first: it must not be left to be the last one. */
int merge_list_clear(const struct disk *disk, const struct merge_list *list,
		     struct reason *why)
{
	u8 *zeros = pages_allocate(BLOCK_BYTES);
	int result = 0;

	if (!zeros)
		return refuse(why, "out of memory");
	for (u32 i = 1; i <= SLOTS && !result; i++)
		result = erase(disk, zeros, (list->slot + i) % SLOTS, why);
	pages_free(zeros, BLOCK_BYTES);
	return result;
}
