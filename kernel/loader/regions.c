// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions are the blocks of a file system that any mount changes. When one of
 * them differs, somebody else had the file system meanwhile, and the resumed
 * kernel, with its own idea of it in memory, would destroy it. Those of a swap
 * device are what anybody else who swaps there changes.
 */
#include "regions.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <xxhash.h>

#define POLL_MICROSECONDS 50000U

static int check_region(const struct disk *disk,
			const struct filesystem *filesystem,
			const struct region *region, u8 *buffer,
			struct reason *why)
{
	const bool is_swap = !strcmp(filesystem->type, "swap");
	const u8 *bytes = disk_read_span(disk, buffer, region->offset,
					 region->bytes, why);

	if (!bytes)
		return -1;
	if (XXH64(bytes, region->bytes, 0) != region->digest)
		return refuse(why, "%s '%s' changed since the image was made",
			      is_swap ? "what is swapped out to" :
			      "the file system on", disk->path);
	return 0;
}

static int check_disk(const struct filesystem *filesystem, const char *path,
		      u8 *buffer, struct reason *why)
{
	struct disk disk;
	int result = 0;

	if (disk_open(&disk, path, O_RDONLY, why))
		return -1;
	for (u32 i = 0; i < filesystem->region_count && !result; i++) {
		const struct region region = filesystem_region(filesystem, i);

		result = check_region(&disk, filesystem, &region, buffer, why);
	}
	disk_close(&disk);
	return result;
}

/*
 * Names such as /dev/vda are given out in the order of discovery, so the same
 * device may have another one today: then the UUID on it tells where it is, for
 * which udev makes a link of another form when it is that of a physical volume.
 */
static int check_filesystem(const struct filesystem *filesystem, u8 *buffer,
			    struct reason *why)
{
	static const char *const links[] = {
		"/dev/disk/by-uuid/", "/dev/disk/by-id/lvm-pv-uuid-",
	};
	char by_uuid[sizeof(filesystem->uuid) + 40];
	struct reason ignored;

	if (!check_disk(filesystem, filesystem->path, buffer, why))
		return 0;
	if (!filesystem->uuid[0] || strchr(filesystem->uuid, '/'))
		return -1;
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		snprintf(by_uuid, sizeof(by_uuid), "%s%s", links[i],
			 filesystem->uuid);
		if (!check_disk(filesystem, by_uuid, buffer, &ignored))
			return 0;
	}
	return -1;
}

static void wait_for(const char *path, unsigned int *tries_left)
{
	while (*tries_left && access(path, F_OK)) {
		usleep(POLL_MICROSECONDS);
		--*tries_left;
	}
}

static size_t largest_region(const struct header *header)
{
	size_t largest = 0;

	for (u32 i = 0; i < header->filesystem_count; i++) {
		const struct filesystem *filesystem = &header->filesystems[i];

		for (u32 j = 0; j < filesystem->region_count; j++) {
			const u64 bytes = filesystem_region(filesystem, j).bytes;

			if (bytes > largest)
				largest = bytes;
		}
	}
	return largest;
}

int regions_check(const struct header *header, unsigned int wait_seconds,
		  struct reason *why)
{
	const size_t capacity = span_capacity(largest_region(header));
	unsigned int tries = wait_seconds * (1000000U / POLL_MICROSECONDS);
	u8 *buffer = pages_allocate(capacity);
	int result = 0;

	if (!buffer)
		return refuse(why, "out of memory for the file systems' regions");
	for (u32 i = 0; i < header->filesystem_count && !result; i++) {
		const struct filesystem *filesystem = &header->filesystems[i];

		wait_for(filesystem->path, &tries);
		result = check_filesystem(filesystem, buffer, why);
	}
	pages_free(buffer, capacity);
	return result;
}
