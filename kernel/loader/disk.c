// SPDX-License-Identifier: GPL-2.0-only
/*
 * Direct I/O: the boot kernel needs its memory for the image, so nothing that
 * is read here may stay in its page cache.
 */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int find_size(struct disk *disk, struct reason *why)
{
	struct stat status;
	int sector_bytes;

	if (fstat(disk->fd, &status))
		return refuse(why, "cannot examine '%s': %s", disk->path,
			      strerror(errno));
	if (S_ISREG(status.st_mode)) {
		disk->bytes = (u64)status.st_size;
		disk->sector_bytes = BLOCK_BYTES;
		return 0;
	}
	if (!S_ISBLK(status.st_mode))
		return refuse(why, "'%s' is not a block device", disk->path);
	if (ioctl(disk->fd, BLKGETSIZE64, &disk->bytes) ||
	    ioctl(disk->fd, BLKSSZGET, &sector_bytes))
		return refuse(why, "cannot find the size of '%s': %s",
			      disk->path, strerror(errno));
	if (sector_bytes < 512 || sector_bytes > (int)BLOCK_BYTES)
		return refuse(why, "'%s' has sectors of %d bytes", disk->path,
			      sector_bytes);
	disk->sector_bytes = (u32)sector_bytes;
	return 0;
}

int disk_open(struct disk *disk, const char *path, int flags,
	      struct reason *why)
{
	/* O_NONBLOCK: a path that names a FIFO must not hang the boot. */
	flags |= O_CLOEXEC | O_NONBLOCK;
	disk->path = path;
	disk->fd = open(path, flags | O_DIRECT);
	/* Some file systems have no direct I/O for ordinary files. */
	if (disk->fd < 0 && errno == EINVAL)
		disk->fd = open(path, flags);
	if (disk->fd < 0)
		return refuse(why, "cannot open '%s': %s", path,
			      strerror(errno));
	if (find_size(disk, why)) {
		disk_close(disk);
		return -1;
	}
	return 0;
}

void disk_close(struct disk *disk)
{
	if (disk->fd >= 0)
		close(disk->fd);
	disk->fd = -1;
}

u8 *disk_read_span(const struct disk *disk, u8 *buffer, u64 offset,
		   size_t bytes, struct reason *why)
{
	const size_t skip = offset % BLOCK_BYTES;
	const size_t wanted = skip + bytes;
	const size_t blocks = (wanted + BLOCK_BYTES - 1) / BLOCK_BYTES;
	size_t done = 0;

	if (!is_inside(offset, bytes, 0, disk->bytes)) {
		refuse(why, "'%s' ends before byte %llu", disk->path,
		       (unsigned long long)offset + bytes);
		return NULL;
	}
	while (done < wanted) {
		ssize_t got = pread(disk->fd, buffer + done,
				    blocks * BLOCK_BYTES - done,
				    (off_t)(offset - skip + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			refuse(why, "cannot read '%s' at byte %llu: %s",
			       disk->path,
			       (unsigned long long)(offset - skip + done),
			       got ? strerror(errno) : "unexpected end");
			return NULL;
		}
		done += (size_t)got;
	}
	return buffer + skip;
}

void *pages_allocate(size_t bytes)
{
	void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

void pages_free(void *pages, size_t bytes)
{
	if (pages)
		munmap(pages, bytes);
}
