// SPDX-License-Identifier: GPL-2.0-only
/* The merge list of the spare device, as service/image/FORMAT.md has it. */
#include "merge-list.h"

#include <errno.h>
#include <unistd.h>
#include <xxhash.h>

#define LIST_OFFSET 4096U
#define LIST_BYTES 36864U
#define LIST_VERSION 1U
#define HEADER_BYTES 64U
#define ENTRY_BYTES 512U
#define FLAG_LOST_KEY 1U

enum {
	AT_MAGIC = 0,
	AT_VERSION = 16,
	AT_COUNT = 20,
};

enum {
	AT_SLICE_OFFSET = 0,
	AT_SLICE_BYTES = 8,
	AT_BASE_BYTES = 16,
	AT_CHUNK_SECTORS = 24,
	AT_FLAGS = 28,
	AT_UUID = 32,
	AT_PATH = 96,
};

static const char magic[16] = "PermafrostMerge";

static int decode_entry(const u8 *entry, const struct disk *disk,
			struct pending_merge *to, struct reason *why)
{
	to->slice_offset = read_le64(entry + AT_SLICE_OFFSET);
	to->slice_bytes = read_le64(entry + AT_SLICE_BYTES);
	to->base_bytes = read_le64(entry + AT_BASE_BYTES);
	to->chunk_sectors = read_le32(entry + AT_CHUNK_SECTORS);
	to->has_lost_key = read_le32(entry + AT_FLAGS) & FLAG_LOST_KEY;
	memcpy(to->uuid, entry + AT_UUID, sizeof(to->uuid));
	memcpy(to->path, entry + AT_PATH, sizeof(to->path));
	if (to->uuid[sizeof(to->uuid) - 1] || to->path[sizeof(to->path) - 1] ||
	    !to->path[0] || strchr(to->uuid, '/') || !to->slice_bytes ||
	    to->slice_offset % BLOCK_BYTES || to->slice_bytes % BLOCK_BYTES ||
	    !to->base_bytes || to->base_bytes % 512 ||
	    !is_inside(to->slice_offset, to->slice_bytes, 0, disk->bytes))
		return refuse(why, "the merge list of '%s' is malformed",
			      disk->path);
	return 0;
}

/* A list that was not written to its end was of merges that had not begun. */
static bool is_whole(const u8 *bytes)
{
	const u32 count = read_le32(bytes + AT_COUNT);
	const size_t end = HEADER_BYTES + (size_t)count * ENTRY_BYTES;

	return !memcmp(bytes + AT_MAGIC, magic, sizeof(magic)) &&
	       count <= MERGES_MAX &&
	       XXH64(bytes, end, 0) == read_le64(bytes + end);
}

static int decode(const u8 *bytes, const struct disk *disk,
		  struct merge_list *list, struct reason *why)
{
	const u32 version = read_le32(bytes + AT_VERSION);
	const u32 count = read_le32(bytes + AT_COUNT);

	if (!is_whole(bytes))
		return 0;
	if (version != LIST_VERSION)
		return refuse(why, "the merge list of '%s' has version %u, this loader knows version %u",
			      disk->path, version, LIST_VERSION);
	for (u32 i = 0; i < count; i++)
		if (decode_entry(bytes + HEADER_BYTES + i * ENTRY_BYTES, disk,
				 &list->merges[i], why))
			return -1;
	list->count = count;
	return 0;
}

static bool has_room(const struct superblock *superblock)
{
	return superblock->image_area_offset >= LIST_OFFSET + LIST_BYTES &&
	       superblock->cow_area_offset >= LIST_OFFSET + LIST_BYTES;
}

int merge_list_read(const struct disk *disk,
		    const struct superblock *superblock,
		    struct merge_list *list, struct reason *why)
{
	const size_t capacity = span_capacity(LIST_BYTES);
	u8 *buffer, *bytes;
	int result = -1;

	list->count = 0;
	if (!has_room(superblock))
		return 0;
	buffer = pages_allocate(capacity);
	if (!buffer)
		return refuse(why, "out of memory");
	bytes = disk_read_span(disk, buffer, LIST_OFFSET, LIST_BYTES, why);
	if (bytes)
		result = decode(bytes, disk, list, why);
	pages_free(buffer, capacity);
	return result;
}

int merge_list_clear(const struct disk *disk, struct reason *why)
{
	u8 *zeros = pages_allocate(LIST_BYTES);
	ssize_t written;
	int result = 0;

	if (!zeros)
		return refuse(why, "out of memory");
	written = pwrite(disk->fd, zeros, LIST_BYTES, LIST_OFFSET);
	if (written != (ssize_t)LIST_BYTES || fdatasync(disk->fd))
		result = refuse(why, "cannot clear the merge list of '%s': %s",
				disk->path, strerror(errno));
	pages_free(zeros, LIST_BYTES);
	return result;
}
