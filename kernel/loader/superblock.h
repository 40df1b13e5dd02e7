/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_SUPERBLOCK_H
#define LOADER_SUPERBLOCK_H

#include "disk.h"

#define SUPERBLOCK_BYTES 512U
#define SUPERBLOCK_VERSION 1U
#define STATE_BYTES 16U
#define HEADER_BYTES_MAX (16 * MIB)

/* The states, and what each means to a boot, are in service/image/FORMAT.md. */
#define STATE_EMPTY "empty"
#define STATE_WRITING "writing"
#define STATE_VALID "valid"
#define STATE_AWAY "away"
#define STATE_RESUMING "resuming"
#define STATE_RESUMED "resumed"
#define STATE_ABORTED "aborted"

struct superblock {
	char state[STATE_BYTES + 1];
	u8 device_id[16];
	u8 image_id[16];
	u64 device_bytes;
	u64 image_area_offset;
	u64 image_area_bytes;
	u64 cow_area_offset;
	u64 cow_area_bytes;
	u64 header_offset;
	u64 header_bytes;
	u64 header_digest;
	u64 created_unix_seconds;
	u64 stored_bytes;
	u64 stream_bytes;
};

enum superblock_kind {
	SUPERBLOCK_NONE,	/* nothing of ours on the disk */
	SUPERBLOCK_FOREIGN,	/* ours, but not to be touched: why is set */
	SUPERBLOCK_READ,
};

enum superblock_kind superblock_read(const struct disk *disk,
				     struct superblock *superblock,
				     struct reason *why);

/* The same of a device by its path; one that cannot be opened has none. */
enum superblock_kind superblock_look(const char *path,
				     struct superblock *superblock,
				     struct reason *why);

/* The same of the 512 bytes themselves; name says where they are from. */
enum superblock_kind superblock_decode(const u8 *sector, const char *name,
				       struct superblock *superblock,
				       struct reason *why);

static inline bool superblock_is(const struct superblock *superblock,
				 const char *state)
{
	return !strcmp(superblock->state, state);
}

bool superblock_has_known_state(const struct superblock *superblock);

/* Are the image area and the header section where the disk has them? */
int superblock_check_layout(const struct superblock *superblock,
			    const struct disk *disk, struct reason *why);

/* Writes another state and flushes it; the disk is open for writing. */
int superblock_set_state(const struct disk *disk, const char *state,
			 struct reason *why);

#endif
