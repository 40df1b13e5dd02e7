// SPDX-License-Identifier: GPL-2.0-only
/* The first sector of the spare device, as service/image/FORMAT.md has it. */
#include "superblock.h"

#include <fcntl.h>

#include <errno.h>
#include <unistd.h>
#include <xxhash.h>

enum {
	AT_MAGIC = 0,
	AT_VERSION = 16,
	AT_SUPERBLOCK_BYTES = 20,
	AT_STATE = 24,
	AT_DEVICE_ID = 40,
	AT_IMAGE_ID = 56,
	AT_DEVICE_BYTES = 72,
	AT_IMAGE_AREA_OFFSET = 80,
	AT_IMAGE_AREA_BYTES = 88,
	AT_COW_AREA_OFFSET = 96,
	AT_COW_AREA_BYTES = 104,
	AT_HEADER_OFFSET = 112,
	AT_HEADER_BYTES = 120,
	AT_HEADER_DIGEST = 128,
	AT_CREATED = 136,
	AT_STORED_BYTES = 144,
	AT_STREAM_BYTES = 152,
	AT_DIGEST = 504,
};

static const char magic[16] = "PermafrostImage";

static void decode(const u8 *sector, struct superblock *to)
{
	memset(to, 0, sizeof(*to));
	/* What has something behind its end is none of the states. */
	if (is_padded_text(sector + AT_STATE, STATE_BYTES))
		memcpy(to->state, sector + AT_STATE, STATE_BYTES);
	memcpy(to->device_id, sector + AT_DEVICE_ID, sizeof(to->device_id));
	memcpy(to->image_id, sector + AT_IMAGE_ID, sizeof(to->image_id));
	to->device_bytes = read_le64(sector + AT_DEVICE_BYTES);
	to->image_area_offset = read_le64(sector + AT_IMAGE_AREA_OFFSET);
	to->image_area_bytes = read_le64(sector + AT_IMAGE_AREA_BYTES);
	to->cow_area_offset = read_le64(sector + AT_COW_AREA_OFFSET);
	to->cow_area_bytes = read_le64(sector + AT_COW_AREA_BYTES);
	to->header_offset = read_le64(sector + AT_HEADER_OFFSET);
	to->header_bytes = read_le64(sector + AT_HEADER_BYTES);
	to->header_digest = read_le64(sector + AT_HEADER_DIGEST);
	to->created_unix_seconds = read_le64(sector + AT_CREATED);
	to->stored_bytes = read_le64(sector + AT_STORED_BYTES);
	to->stream_bytes = read_le64(sector + AT_STREAM_BYTES);
}

enum superblock_kind superblock_decode(const u8 *sector, const char *name,
				       struct superblock *superblock,
				       struct reason *why)
{
	u32 version;

	if (memcmp(sector + AT_MAGIC, magic, sizeof(magic)))
		return SUPERBLOCK_NONE;
	version = read_le32(sector + AT_VERSION);
	if (version != SUPERBLOCK_VERSION ||
	    read_le32(sector + AT_SUPERBLOCK_BYTES) != SUPERBLOCK_BYTES) {
		refuse(why, "'%s' has image format version %u, this loader knows version %u",
		       name, version, SUPERBLOCK_VERSION);
		return SUPERBLOCK_FOREIGN;
	}
	if (XXH64(sector, AT_DIGEST, 0) != read_le64(sector + AT_DIGEST)) {
		refuse(why, "the superblock of '%s' has a wrong digest", name);
		return SUPERBLOCK_FOREIGN;
	}
	decode(sector, superblock);
	return SUPERBLOCK_READ;
}

enum superblock_kind superblock_read(const struct disk *disk,
				     struct superblock *superblock,
				     struct reason *why)
{
	const size_t capacity = span_capacity(SUPERBLOCK_BYTES);
	enum superblock_kind kind = SUPERBLOCK_NONE;
	u8 *buffer, *sector;

	if (disk->bytes < SUPERBLOCK_BYTES)
		return SUPERBLOCK_NONE;
	buffer = pages_allocate(capacity);
	if (!buffer) {
		refuse(why, "out of memory");
		return SUPERBLOCK_FOREIGN;
	}
	/* A disk that cannot be read, such as an empty drive, has no image. */
	sector = disk_read_span(disk, buffer, 0, SUPERBLOCK_BYTES, why);
	if (sector)
		kind = superblock_decode(sector, disk->path, superblock, why);
	pages_free(buffer, capacity);
	return kind;
}

enum superblock_kind superblock_look(const char *path,
				     struct superblock *superblock,
				     struct reason *why)
{
	enum superblock_kind kind;
	struct disk disk;

	if (disk_open(&disk, path, O_RDONLY, why))
		return SUPERBLOCK_NONE;
	kind = superblock_read(&disk, superblock, why);
	disk_close(&disk);
	return kind;
}

bool superblock_has_known_state(const struct superblock *superblock)
{
	static const char *const known[] = {
		STATE_EMPTY, STATE_WRITING, STATE_VALID, STATE_AWAY,
		STATE_RESUMING, STATE_RESUMED, STATE_ABORTED,
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (superblock_is(superblock, known[i]))
			return true;
	return false;
}

static bool has_quantities(const struct superblock *superblock)
{
	return superblock->device_bytes < QUANTITY_END &&
	       superblock->created_unix_seconds < QUANTITY_END &&
	       superblock->stored_bytes < QUANTITY_END &&
	       superblock->stream_bytes < QUANTITY_END;
}

/* Aligned, behind the superblock, and not beyond the end of the device? */
static bool is_area(const struct superblock *superblock, u64 offset, u64 bytes)
{
	return offset >= BLOCK_BYTES && !(offset % BLOCK_BYTES) &&
	       is_inside(offset, bytes, 0, superblock->device_bytes);
}

static bool do_areas_overlap(const struct superblock *superblock)
{
	const u64 image_end = superblock->image_area_offset +
			      superblock->image_area_bytes;
	const u64 cow_end = superblock->cow_area_offset +
			    superblock->cow_area_bytes;

	return superblock->image_area_offset < cow_end &&
	       superblock->cow_area_offset < image_end;
}

int superblock_check_layout(const struct superblock *superblock,
			    const struct disk *disk, struct reason *why)
{
	if (disk->bytes < superblock->device_bytes)
		return refuse(why, "'%s' has %llu bytes, fewer than the %llu it was set up with",
			      disk->path, (unsigned long long)disk->bytes,
			      (unsigned long long)superblock->device_bytes);
	if (!has_quantities(superblock))
		return refuse(why, "a number in the superblock of '%s' is out of bounds",
			      disk->path);
	if (!is_area(superblock, superblock->image_area_offset,
		     superblock->image_area_bytes))
		return refuse(why, "the image area of '%s' is out of bounds",
			      disk->path);
	if (!is_area(superblock, superblock->cow_area_offset,
		     superblock->cow_area_bytes))
		return refuse(why, "the copy-on-write area of '%s' is out of bounds",
			      disk->path);
	if (do_areas_overlap(superblock))
		return refuse(why, "the areas of '%s' overlap", disk->path);
	if (superblock->header_offset % BLOCK_BYTES ||
	    superblock->header_bytes % 8 || !superblock->header_bytes ||
	    superblock->header_bytes > HEADER_BYTES_MAX ||
	    !is_inside(superblock->header_offset, superblock->header_bytes,
		       superblock->image_area_offset,
		       superblock->image_area_bytes))
		return refuse(why, "the header section of '%s' is out of bounds",
			      disk->path);
	return 0;
}

/*
 * The smallest unit the disk writes holds the superblock; what follows it in
 * that unit is written back as it was read.
 */
int superblock_set_state(const struct disk *disk, const char *state,
			 struct reason *why)
{
	const size_t capacity = span_capacity(BLOCK_BYTES);
	struct superblock ignored;
	u8 *buffer;
	int result = -1;
	ssize_t written;

	buffer = pages_allocate(capacity);
	if (!buffer)
		return refuse(why, "out of memory");
	if (!disk_read_span(disk, buffer, 0, disk->sector_bytes, why))
		goto free_buffer;
	if (superblock_decode(buffer, disk->path, &ignored, why) !=
	    SUPERBLOCK_READ) {
		refuse(why, "the superblock of '%s' changed meanwhile",
		       disk->path);
		goto free_buffer;
	}
	memset(buffer + AT_STATE, 0, STATE_BYTES);
	memcpy(buffer + AT_STATE, state, strlen(state));
	write_le64(buffer + AT_DIGEST, XXH64(buffer, AT_DIGEST, 0));
	written = pwrite(disk->fd, buffer, disk->sector_bytes, 0);
	if (written != (ssize_t)disk->sector_bytes || fdatasync(disk->fd)) {
		refuse(why, "cannot write the superblock of '%s': %s",
		       disk->path,
		       written < 0 || written == (ssize_t)disk->sector_bytes ?
		       strerror(errno) : "short write");
		goto free_buffer;
	}
	result = 0;
free_buffer:
	pages_free(buffer, capacity);
	return result;
}
