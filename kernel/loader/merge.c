// SPDX-License-Identifier: GPL-2.0-only
/*
 * Merges that a power cut interrupted. After an aborted hibernation file
 * systems go on while what they wrote meanwhile is copied from slices of the
 * spare device to where it belongs; until that has ended, the newest state of
 * such a file system is base and slice together.
 *
 * - The store in the slice knows what is still to be copied, and is changed
 *   after each piece has been flushed to the base: doing it again from there,
 *   as often as it takes, gives the file system of the instant of the cut.
 * - A slice that was merged to its end is empty, and left alone; the list as a
 *   whole is cleared when all of it is merged.
 * - A file system is known by its UUID, which a half-merged one still shows,
 *   and its size: names of devices change.
 * - The spare device may not have been there when the machine was booted in
 *   between, and the file system used as it was. Then it must not be merged.
 */
#include "merge.h"

#include "base-samples.h"
#include "devices.h"
#include "devmapper.h"
#include "merge-list.h"
#include "udev-cookie.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define COW_NAME "permafrost-merge-cow"
#define COW_UUID "PERMAFROST-merge-cow"
#define MERGE_NAME "permafrost-merge"
#define MERGE_UUID "PERMAFROST-merge"
#define POLL_MICROSECONDS 20000U

struct outcome {
	int waiting;	/* to be tried again */
	int left_out;	/* for good */
};

struct merging {
	int control;
	const struct disk *disk;	/* the spare device */
	dev_t spare;
	unsigned int tries;	/* left to wait for devices */
};

static int find_number(const struct disk *disk, dev_t *number,
		       struct reason *why)
{
	struct stat status;

	if (fstat(disk->fd, &status) || !S_ISBLK(status.st_mode))
		return refuse(why, "'%s' is not a block device", disk->path);
	*number = status.st_rdev;
	return 0;
}

/*
 * Nobody may have mounted it or put a device over it. Device-mapper itself would
 * not mind the latter, nor take it from us, so it is only asked whether it is free.
 */
static int open_base(const struct pending_merge *pending, struct disk *base,
		     const char *path, struct reason *why)
{
	if (disk_open(base, path, O_RDONLY | O_EXCL, why))
		return -1;
	disk_close(base);
	if (disk_open(base, path, O_RDWR, why))
		return -1;
	if (base->bytes == pending->base_bytes)
		return 0;
	refuse(why, "'%s' has %llu bytes instead of %llu", path,
	       (unsigned long long)base->bytes,
	       (unsigned long long)pending->base_bytes);
	disk_close(base);
	return -1;
}

static int find_base(struct merging *merging,
		     const struct pending_merge *pending, struct disk *base,
		     struct reason *why)
{
	static char by_uuid[MERGE_UUID_BYTES + 32];
	const char *path = pending->path;

	snprintf(by_uuid, sizeof(by_uuid), "/dev/disk/by-uuid/%s",
		 pending->uuid);
	if (pending->uuid[0])
		path = by_uuid;
	for (; merging->tries && access(path, F_OK); merging->tries--)
		usleep(POLL_MICROSECONDS);
	return open_base(pending, base, path, why);
}

/* udev has seen the device when this returns, so nobody is in the way later. */
static int create_device(int control, const struct mapped_device *device,
			 dev_t *created, struct reason *why)
{
	struct udev_cookie cookie;
	int result;

	udev_cookie_create(&cookie, 1);
	result = devmapper_create(control, device, cookie.value, created, why);
	if (result)
		udev_cookie_forget(&cookie);
	udev_cookie_wait(&cookie);
	return result;
}

/* Only bookkeeping left: allocated sectors are those of the metadata. */
static int wait_until_merged(int control, struct reason *why)
{
	unsigned long long allocated, total, metadata;
	char status[PARAMETERS_BYTES];

	for (;;) {
		if (devmapper_status(control, MERGE_NAME, status, why))
			return -1;
		if (sscanf(status, "%llu/%llu %llu", &allocated, &total,
			   &metadata) != 3)
			return refuse(why, "the kernel says '%s'", status);
		if (allocated == metadata)
			return 0;
		usleep(POLL_MICROSECONDS);
	}
}

static int run_merge(int control, dev_t base, dev_t cow,
		     const struct pending_merge *pending, struct reason *why)
{
	struct mapped_device device = {
		.name = MERGE_NAME, .uuid = MERGE_UUID,
		.target = "snapshot-merge",
		.sectors = pending->base_bytes / 512,
	};
	struct reason ignored;
	dev_t created;
	int result;

	snprintf(device.parameters, sizeof(device.parameters),
		 "%u:%u %u:%u P %u", major(base), minor(base), major(cow),
		 minor(cow), pending->chunk_sectors);
	if (create_device(control, &device, &created, why))
		return -1;
	result = wait_until_merged(control, why);
	if (devmapper_remove(control, MERGE_NAME, result ? &ignored : why))
		result = -1;
	return result;
}

static int merge_to(const struct merging *merging, dev_t base,
		    const struct pending_merge *pending, struct reason *why)
{
	struct mapped_device slice = {
		.name = COW_NAME, .uuid = COW_UUID, .target = "linear",
		.sectors = pending->slice_bytes / 512,
	};
	struct reason ignored;
	dev_t cow;
	int result;

	snprintf(slice.parameters, sizeof(slice.parameters), "%u:%u %llu",
		 major(merging->spare), minor(merging->spare),
		 (unsigned long long)pending->slice_offset / 512);
	if (create_device(merging->control, &slice, &cow, why))
		return -1;
	result = run_merge(merging->control, base, cow, pending, why);
	if (devmapper_remove(merging->control, COW_NAME,
			     result ? &ignored : why))
		result = -1;
	return result;
}

/* Returns 1 when the file system was used without what it lacks. */
static int merge_one(struct merging *merging,
		     const struct pending_merge *pending, struct reason *why)
{
	struct disk base;
	dev_t number;
	int result;

	if (pending->has_lost_key)
		return refuse(why, "what it still lacked was encrypted with a key that went with the power");
	if (find_base(merging, pending, &base, why))
		return -1;
	result = find_number(&base, &number, why);
	if (!result)
		result = base_samples_check(&base, merging->disk, pending, why);
	if (!result)
		result = merge_to(merging, number, pending, why);
	if (!result && fdatasync(base.fd))
		result = refuse(why, "cannot flush '%s': %s", base.path,
				strerror(errno));
	disk_close(&base);
	return result;
}

/* It was, before the power went, or by an earlier try, and may be in use now. */
static bool is_finished(const struct merging *merging,
			const struct pending_merge *pending)
{
	const struct exception_store store =
		pending_merge_store(pending, merging->disk);

	return !pending->has_lost_key && exception_store_is_empty(&store);
}

/* Returns as merge_one() does. */
static int merge_and_say(struct merging *merging,
			 const struct pending_merge *pending)
{
	struct reason why;
	int result;

	if (is_finished(merging, pending))
		return 0;
	result = merge_one(merging, pending, &why);
	if (!result)
		say("finished the interrupted roll-back of the file system on '%s'",
		    pending->path);
	else if (result > 0)
		say("the file system on '%s' was used before its interrupted roll-back was finished: what it lacked is left out, check it",
		    pending->path);
	else
		say("cannot finish the interrupted roll-back of the file system on '%s', it is damaged until that is done: %s",
		    pending->path, why.text);
	return result;
}

static int merge_all(const struct disk *spare, const struct merge_list *list,
		     unsigned int wait_seconds, struct outcome *outcome,
		     struct reason *why)
{
	struct merging merging = {
		.disk = spare,
		.tries = wait_seconds * (1000000U / POLL_MICROSECONDS),
	};

	if (find_number(spare, &merging.spare, why))
		return -1;
	merging.control = devmapper_open(why);
	if (merging.control < 0)
		return -1;
	for (u32 i = 0; i < list->count; i++) {
		const int result = merge_and_say(&merging, &list->merges[i]);

		outcome->waiting += result < 0;
		outcome->left_out += result > 0;
	}
	close(merging.control);
	return 0;
}

/* An image beside file systems that were being changed is of no use. */
static int give_up_image(const struct disk *spare,
			 const struct superblock *superblock,
			 struct reason *why)
{
	return superblock_is(superblock, STATE_ABORTED) ? 0 :
	       superblock_set_state(spare, STATE_ABORTED, why);
}

static int finish(const struct disk *spare, const struct superblock *superblock,
		  const struct merge_list *list, unsigned int wait_seconds)
{
	struct outcome outcome = { 0 };
	struct reason why;

	if (give_up_image(spare, superblock, &why) ||
	    merge_all(spare, list, wait_seconds, &outcome, &why) ||
	    (!outcome.waiting && merge_list_clear(spare, list, &why)))
		goto refused;
	return outcome.waiting + outcome.left_out;
refused:
	say("cannot finish an interrupted roll-back: %s", why.text);
	return 1;
}

static int finish_from(const char *path, const struct superblock *superblock,
		       const struct merge_list *list,
		       unsigned int wait_seconds)
{
	struct reason why;
	struct disk spare;
	int failures;

	if (disk_open(&spare, path, O_RDWR, &why)) {
		say("cannot finish an interrupted roll-back: %s", why.text);
		return 1;
	}
	failures = finish(&spare, superblock, list, wait_seconds);
	disk_close(&spare);
	return failures;
}

struct search {
	unsigned int wait_seconds;
	int failures;
};

static void look_at(void *context, const char *path)
{
	static struct merge_list list;
	struct search *search = context;
	struct superblock superblock;
	struct reason why;
	struct disk disk;
	int result;

	/* Closing a device that was open for writing would wake udev up. */
	if (disk_open(&disk, path, O_RDONLY, &why))
		return;
	if (superblock_read(&disk, &superblock, &why) != SUPERBLOCK_READ) {
		disk_close(&disk);
		return;
	}
	result = merge_list_read(&disk, &superblock, &list, &why);
	disk_close(&disk);
	if (result) {
		say("cannot finish an interrupted roll-back: %s", why.text);
		search->failures++;
	} else if (list.count) {
		search->failures += finish_from(path, &superblock, &list,
						search->wait_seconds);
	}
}

int merge(const char *device, unsigned int wait_seconds)
{
	struct search search = { .wait_seconds = wait_seconds };

	if (device)
		look_at(&search, device);
	else
		devices_scan(look_at, &search);
	return search.failures;
}
