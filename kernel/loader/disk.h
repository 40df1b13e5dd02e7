/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_DISK_H
#define LOADER_DISK_H

#include "say.h"
#include "types.h"

/* A block device, or an ordinary file in its place, open for direct I/O. */
struct disk {
	const char *path;	/* as named by whoever opened it */
	int fd;
	u64 bytes;
	u32 sector_bytes;	/* smallest unit of a write */
};

int disk_open(struct disk *disk, const char *path, int flags,
	      struct reason *why);
void disk_close(struct disk *disk);

/* Room that disk_read_span() needs for so many bytes at any offset. */
static inline size_t span_capacity(size_t bytes)
{
	return bytes + 2 * BLOCK_BYTES;
}

/*
 * Reads bytes at any offset by way of the whole blocks around them. The buffer
 * comes from pages_allocate() and has span_capacity(bytes). Returns where in
 * the buffer the bytes are, or NULL when the disk ends before or fails.
 */
u8 *disk_read_span(const struct disk *disk, u8 *buffer, u64 offset,
		   size_t bytes, struct reason *why);

/* Page-aligned memory, present from the start. */
void *pages_allocate(size_t bytes);
void pages_free(void *pages, size_t bytes);

#endif
