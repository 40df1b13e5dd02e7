// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/snapshot, as Documentation/power/userland-swsusp.rst has it and
 * kernel/power/user.c does it:
 *
 * - write(2) takes at most what is left of a page and answers 0 once the image
 *   is complete. writev(2) with an entry for each page makes the kernel take
 *   many pages in one call, but hides the error code of a page that fails
 *   after the first.
 * - After a failed write nothing may be written again: the kernel's state is
 *   half undone. Only closing is safe.
 * - Nothing is irreversible before SNAPSHOT_ATOMIC_RESTORE.
 */
#include "restore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/suspend_ioctls.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE_BYTES 4096U
#define PAGES_PER_CALL 256U

/* Where struct swsusp_info of kernel/power/power.h has its page counts. */
#define AT_IMAGE_PAGES 416U
#define AT_PAGES 424U

/*
 * Files of Documentation/admin-guide/sysctl/vm.rst. What is kept back is for a
 * system that goes on, tens of MiB of a machine of a few GiB; here it would be
 * missing for the image. Some is left for reading the rest of it.
 */
static const struct {
	const char *path;
	const char *while_loading;
} RESERVES[RESERVE_COUNT] = {
	{ "/proc/sys/vm/min_free_kbytes", "8192" },
	{ "/proc/sys/vm/lowmem_reserve_ratio", "0 0 0" },
};

/* Harmless when it fails: the kernel then says that memory is short. */
static void write_setting(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written;

	if (fd < 0)
		return;
	written = write(fd, text, strlen(text));
	(void)written;
	close(fd);
}

static void read_setting(const char *path, char *text)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t count = -1;

	if (fd >= 0) {
		count = read(fd, text, RESERVE_TEXT_BYTES - 1);
		close(fd);
	}
	text[count > 0 ? count : 0] = 0;
}

/* A small machine may keep back less than that anyway. */
static bool would_raise(const char *before, const char *while_loading)
{
	return strtoul(before, NULL, 10) <= strtoul(while_loading, NULL, 10);
}

static void lower_reserves(struct restore *restore)
{
	unsigned int i;

	for (i = 0; i < RESERVE_COUNT; i++) {
		char *before = restore->reserves[i];
		const char *while_loading = RESERVES[i].while_loading;

		read_setting(RESERVES[i].path, before);
		if (would_raise(before, while_loading))
			before[0] = 0;
		else
			write_setting(RESERVES[i].path, while_loading);
	}
}

/* The system boots on. */
static void raise_reserves(const struct restore *restore)
{
	unsigned int i;

	for (i = 0; i < RESERVE_COUNT; i++)
		if (restore->reserves[i][0])
			write_setting(RESERVES[i].path, restore->reserves[i]);
}

int restore_open(struct restore *restore, struct reason *why)
{
	/* Page cache would be in the way of the image's pages. */
	write_setting("/proc/sys/vm/drop_caches", "3");
	lower_reserves(restore);
	restore->position = 0;
	restore->careful_until = UINT64_MAX;
	restore->fd = open("/dev/snapshot", O_WRONLY | O_CLOEXEC);
	if (restore->fd < 0) {
		raise_reserves(restore);
		return refuse(why, "cannot open '/dev/snapshot': %s",
			      strerror(errno));
	}
	return 0;
}

/*
 * The kernel checks its header and allocates all memory before it takes the
 * first data page; up to there an error code is worth a call for each page.
 */
static void plan(struct restore *restore, const u8 *bytes, u32 count)
{
	u64 image_pages, pages;

	if (count < PAGE_BYTES)
		return;
	image_pages = read_le64(bytes + AT_IMAGE_PAGES);
	pages = read_le64(bytes + AT_PAGES);
	if (image_pages < pages && pages < UINT64_MAX / PAGE_BYTES)
		restore->careful_until =
			(pages - image_pages + 1) * PAGE_BYTES;
}

static int explain(const struct restore *restore, ssize_t taken,
		   struct reason *why)
{
	const unsigned long long page = restore->position / PAGE_BYTES;

	if (!taken)
		return refuse(why, "the kernel had enough after %llu pages, the image has more",
			      page);
	if (taken > 0)
		return refuse(why, "the kernel refused a page after page %llu",
			      page);
	if (errno == ENOMEM)
		return refuse(why, "not enough memory to load the image");
	if (errno == EPERM || errno == ENODEV)
		return refuse(why, "the kernel refused the image: other memory map or kernel (%s)",
			      strerror(errno));
	return refuse(why, "the kernel refused page %llu: %s", page,
		      strerror(errno));
}

static u32 split(const struct restore *restore, const u8 *bytes, u32 count,
		 struct iovec *pages, unsigned int *page_count)
{
	const unsigned int limit =
		restore->position < restore->careful_until ? 1 : PAGES_PER_CALL;
	u64 position = restore->position;
	u32 total = 0;

	for (*page_count = 0; *page_count < limit && total < count;
	     ++*page_count) {
		const u32 left_of_page = PAGE_BYTES - position % PAGE_BYTES;
		const u32 left = count - total;
		const u32 piece = left < left_of_page ? left : left_of_page;

		pages[*page_count].iov_base = (void *)(uintptr_t)(bytes + total);
		pages[*page_count].iov_len = piece;
		total += piece;
		position += piece;
	}
	return total;
}

int restore_feed(void *context, const u8 *bytes, u32 count,
		 struct reason *why)
{
	struct restore *restore = context;
	struct iovec pages[PAGES_PER_CALL];
	unsigned int page_count;

	if (!restore->position)
		plan(restore, bytes, count);
	while (count) {
		const u32 total = split(restore, bytes, count, pages,
					&page_count);
		const ssize_t taken = writev(restore->fd, pages,
					     (int)page_count);

		if (taken != (ssize_t)total)
			return explain(restore, taken, why);
		restore->position += total;
		bytes += total;
		count -= total;
	}
	return 0;
}

int restore_freeze(struct restore *restore, struct reason *why)
{
	if (ioctl(restore->fd, SNAPSHOT_FREEZE))
		return refuse(why, "cannot freeze the boot system: %s",
			      strerror(errno));
	return 0;
}

int restore_jump(struct restore *restore, struct reason *why)
{
	ioctl(restore->fd, SNAPSHOT_ATOMIC_RESTORE);
	return refuse(why, "the kernel could not restore the image: %s",
		      strerror(errno));
}

void restore_close(struct restore *restore)
{
	if (restore->fd >= 0)
		close(restore->fd);
	restore->fd = -1;
	raise_reserves(restore);
}
