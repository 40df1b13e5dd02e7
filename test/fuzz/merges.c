// SPDX-License-Identifier: GPL-2.0-only
/*
 * What libFuzzer calls: the merge lists of a spare device, and what the loader
 * compares before it merges, on bytes that mean harm.
 *
 * - An input is up to 8 KiB of the first slot, up to 8 KiB of the second, and
 *   what lies in the only slice there is room for. Spare device and base are
 *   files in memory.
 * - Digests of lists are made right first. The last bit of an input says "as
 *   it is".
 * - Every merge that is listed is compared with the base as long as it lies
 *   inside of the device, which the list must have seen to.
 * - A list that was cleared is none.
 */
#include "base-samples.h"
#include "records.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS_PLACE 4096U
#define SLOT_BYTES 200704U
#define SLOT_INPUT 8192U
#define SLICE_PLACE (SLOTS_PLACE + 2 * SLOT_BYTES)
#define SLICE_BYTES (64U * 1024U)
#define DEVICE_BYTES (SLICE_PLACE + SLICE_BYTES)
#define BASE_BYTES (64U * 1024U)

int LLVMFuzzerTestOneInput(const u8 *input, size_t bytes);

static size_t take(u8 *to, size_t capacity, const u8 **input, size_t *left)
{
	const size_t count = *left < capacity ? *left : capacity;

	memcpy(to, *input, count);
	*input += count;
	*left -= count;
	return count;
}

/* Where FORMAT.md has the digest: behind all entries and all samples. */
static void seal(u8 *list)
{
	const u32 count = read_le32(list + 20);
	size_t end = 64 + (size_t)count * 512;

	if (count > MERGES_MAX)
		return;
	for (u32 i = 0; i < count; i++) {
		const u32 samples = read_le32(list + 64 + i * 512 + 508);

		if (samples > SAMPLES_MAX)
			return;
		end += (size_t)samples * 40;
	}
	write_le64(list + end, XXH64(list, end, 0));
}

static int put(int fd, const u8 *content, size_t bytes)
{
	if (fd < 0)
		fd = memfd_create("disk", MFD_CLOEXEC);
	if (fd < 0 || pwrite(fd, content, bytes, 0) != (ssize_t)bytes)
		abort();
	return fd;
}

static void look(const struct disk *spare, const struct disk *base)
{
	static const struct superblock superblock = {
		.image_area_offset = SLICE_PLACE,
		.cow_area_offset = SLICE_PLACE,
	};
	static struct merge_list list;
	struct reason why;

	if (merge_list_read(spare, &superblock, &list, &why))
		return;
	for (u32 i = 0; i < list.count; i++)
		base_samples_check(base, spare, &list.merges[i], &why);
	if (merge_list_clear(spare, &list, &why) ||
	    merge_list_read(spare, &superblock, &list, &why) || list.count)
		abort();
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t bytes)
{
	static u8 device[DEVICE_BYTES], content[BASE_BYTES];
	static int spare_fd = -1, base_fd = -1;
	struct disk spare = {
		.path = "spare", .bytes = DEVICE_BYTES, .sector_bytes = 512,
	};
	struct disk base = {
		.path = "base", .bytes = BASE_BYTES, .sector_bytes = 512,
	};
	bool is_left_alone;

	if (!bytes)
		return 0;
	is_left_alone = input[bytes - 1] & 0x80;
	memset(device, 0, sizeof(device));
	take(device + SLOTS_PLACE, SLOT_INPUT, &input, &bytes);
	take(device + SLOTS_PLACE + SLOT_BYTES, SLOT_INPUT, &input, &bytes);
	take(device + SLICE_PLACE, SLICE_BYTES, &input, &bytes);
	if (!is_left_alone) {
		seal(device + SLOTS_PLACE);
		seal(device + SLOTS_PLACE + SLOT_BYTES);
	}
	spare_fd = put(spare_fd, device, sizeof(device));
	base_fd = put(base_fd, content, sizeof(content));
	spare.fd = spare_fd;
	base.fd = base_fd;
	look(&spare, &base);
	return 0;
}
