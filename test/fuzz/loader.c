// SPDX-License-Identifier: GPL-2.0-only
/*
 * What libFuzzer calls: the loader's whole way through an image, from the
 * superblock to the last decompressed chunk, on bytes that mean harm.
 *
 * - An input is small: its first 512 bytes are the superblock, the rest what
 *   lies behind byte 4096 of the device. The device is a file in memory.
 * - All digests are made right first, since no mutation ever would; only so is
 *   reached what lies behind them. The last bit of an input says "as it is".
 * - An image that is then taken for good is damaged in one bit that a digest
 *   covers, and must be refused.
 */
#include "inspect.h"
#include "records.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICE_BYTES (64U * 1024U)
#define AREA_PLACE 4096U

int LLVMFuzzerTestOneInput(const u8 *input, size_t bytes);

/* Ranges that a digest covers, of which one bit will be turned. */
struct covered {
	u64 start[66];
	u64 bytes[66];
	unsigned int count;
};

static void cover(struct covered *covered, u64 start, u64 bytes)
{
	if (covered->count == ARRAY_SIZE(covered->start) || !bytes)
		return;
	covered->start[covered->count] = start;
	covered->bytes[covered->count] = bytes;
	covered->count++;
}

struct sealing {
	u8 *device;
	struct covered *covered;
};

static void seal_chunk(void *context, u8 *entry)
{
	const struct sealing *sealing = context;
	const u64 offset = read_le64(sealing->device + 80) + read_le64(entry);
	const u64 stored = read_le32(entry + 8);

	if (!is_inside(offset, stored, 0, DEVICE_BYTES))
		return;
	write_le64(entry + 16, XXH64(sealing->device + offset, stored, 0));
	cover(sealing->covered, offset, stored);
}

static void seal(u8 *device, struct covered *covered)
{
	struct sealing sealing = { .device = device, .covered = covered };
	const u64 offset = read_le64(device + 112);
	const u64 bytes = read_le64(device + 120);

	if (is_inside(offset, bytes, SUPERBLOCK_BYTES,
		      DEVICE_BYTES - SUPERBLOCK_BYTES)) {
		visit_chunks(device + offset, bytes, seal_chunk, &sealing);
		write_le64(device + 128, XXH64(device + offset, bytes, 0));
		cover(covered, offset, bytes);
	}
	seal_superblock(device);
	cover(covered, 0, SUPERBLOCK_BYTES);
}

static void put(int fd, const u8 *device)
{
	if (pwrite(fd, device, DEVICE_BYTES, 0) != (ssize_t)DEVICE_BYTES)
		abort();
}

static int look(int fd)
{
	static const struct inspection inspection = {
		.is_verifying = true,
		/* Paths in the input are not to be opened. */
		.is_foreign = true,
	};
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return inspect(path, &inspection);
}

/* Holds the image a promise: is there one that is to be resumed? */
static bool promises_image(const u8 *device)
{
	return !memcmp(device + 24, STATE_VALID, sizeof(STATE_VALID)) ||
	       !memcmp(device + 24, STATE_RESUMING, sizeof(STATE_RESUMING));
}

static void damage_one_bit(u8 *device, const struct covered *covered, u64 seed)
{
	const unsigned int which = seed % covered->count;
	const u64 bit = (seed >> 16) % (covered->bytes[which] * 8);

	device[covered->start[which] + bit / 8] ^= (u8)(1U << bit % 8);
}

/* What set_state() leaves must be readable, and in that state. */
static void check_change_of_state(int fd)
{
	struct disk disk = {
		.path = "fuzz", .fd = fd, .bytes = DEVICE_BYTES,
		.sector_bytes = 512,
	};
	struct superblock superblock;
	struct reason why;

	if (superblock_read(&disk, &superblock, &why) != SUPERBLOCK_READ)
		return;
	if (superblock_set_state(&disk, STATE_ABORTED, &why) ||
	    superblock_read(&disk, &superblock, &why) != SUPERBLOCK_READ ||
	    !superblock_is(&superblock, STATE_ABORTED))
		abort();
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t bytes)
{
	static u8 device[DEVICE_BYTES];
	static int fd = -1;
	struct covered covered = { .count = 0 };
	size_t area;

	if (fd < 0)
		fd = memfd_create("image", MFD_CLOEXEC);
	if (fd < 0 || bytes < SUPERBLOCK_BYTES)
		return 0;
	area = bytes - SUPERBLOCK_BYTES;
	if (area > DEVICE_BYTES - AREA_PLACE)
		area = DEVICE_BYTES - AREA_PLACE;
	memset(device, 0, sizeof(device));
	memcpy(device, input, SUPERBLOCK_BYTES);
	memcpy(device + AREA_PLACE, input + SUPERBLOCK_BYTES, area);
	if (!(input[bytes - 1] & 0x80))
		seal(device, &covered);
	put(fd, device);
	if (!look(fd) && covered.count && promises_image(device)) {
		damage_one_bit(device, &covered, XXH64(input, bytes, 1));
		put(fd, device);
		if (!look(fd))
			abort();
	}
	check_change_of_state(fd);
	return 0;
}
