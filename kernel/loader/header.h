/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_HEADER_H
#define LOADER_HEADER_H

#include "superblock.h"

#define FILESYSTEMS_MAX 64U
#define REGIONS_MAX 1024U
#define REGION_BYTES_MAX (16 * MIB)
#define CHUNK_RAW_BYTES_MAX (4 * MIB)

struct kernel_identity {
	char sysname[65];
	char release[65];
	char version[65];
	char machine[65];
	u64 num_physpages;
};

enum codec {
	CODEC_STORED = 0,
	CODEC_LZ4 = 1,
};

struct chunk {
	u64 offset;		/* from the start of the image area */
	u32 stored_bytes;
	u32 raw_bytes;
	u64 digest;
	u32 section;
	u32 codec;
};

struct region {
	u64 offset;
	u64 bytes;
	u64 digest;
};

struct filesystem {
	char path[4096];
	char uuid[256];
	char type[256];
	u32 region_count;
	const u8 *regions;	/* into the section */
};

/* Text that is not terminated. */
struct text {
	const char *start;
	u32 bytes;
};

struct header {
	u8 *section;
	size_t section_bytes;
	struct kernel_identity kernel;
	u32 chunk_raw_bytes;
	u32 chunk_count;
	const u8 *chunks;	/* into the section */
	u32 filesystem_count;
	struct filesystem *filesystems;
	struct text figures;
	struct text settings;
	struct text way_back;
};

/*
 * Reads the header section, checks its digest and every length in it. What it
 * fills in is to be released with header_free(), after a failure too.
 */
int header_read(struct header *header, const struct disk *disk,
		const struct superblock *superblock, struct reason *why);
void header_free(struct header *header);

struct chunk header_chunk(const struct header *header, u32 index);
struct region filesystem_region(const struct filesystem *filesystem, u32 index);

/* Was the image made by the very kernel that runs now? */
int header_check_kernel(const struct header *header, struct reason *why);

#endif
