// SPDX-License-Identifier: GPL-2.0-only
/*
 * What libFuzzer calls: a stream that a script or a server brings, against the
 * spare device that gives leave to it.
 *
 * - An input is the spare device's superblock, 512 bytes; its header section,
 *   as long as the superblock says; and the stream.
 * - All digests are made right first, and the header section and the closing
 *   superblock of the stream those of the device, since no mutation ever would.
 *   The last byte of an input says which of that is left as it is.
 * - A stream that is taken for good is damaged in one bit, and must be refused.
 */
#include "header.h"
#include "records.h"
#include "stream.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEADER_PLACE 4096U
#define INPUT_BYTES_MAX 16384U
#define DEVICE_BYTES (HEADER_PLACE + INPUT_BYTES_MAX)
#define OPENING_BYTES 64U
#define FRAME_BYTES 32U
#define FRAME_HEADER 2U
#define FRAME_CLOSING 3U

/* Bits of an input's last byte. */
#define AS_IT_IS 0x80U
#define OTHER_HEADER 0x40U
#define OTHER_CLOSING 0x20U
#define OTHER_IMAGE 0x10U

int LLVMFuzzerTestOneInput(const u8 *input, size_t bytes);

/* The input, taken apart. */
struct parts {
	u8 device[DEVICE_BYTES];
	u64 header_bytes;
	u8 stream[INPUT_BYTES_MAX];
	size_t stream_bytes;
	/* The image area as the pieces of the stream have it. */
	u8 area[INPUT_BYTES_MAX];
	u64 area_bytes;
	u8 flags;
};

static void take_apart(const u8 *input, size_t bytes, struct parts *parts)
{
	const size_t rest = bytes - SUPERBLOCK_BYTES;

	memset(parts, 0, sizeof(*parts));
	memcpy(parts->device, input, SUPERBLOCK_BYTES);
	parts->header_bytes = read_le64(input + 120);
	if (parts->header_bytes > rest)
		parts->header_bytes = rest;
	memcpy(parts->device + HEADER_PLACE, input + SUPERBLOCK_BYTES,
	       parts->header_bytes);
	parts->stream_bytes = rest - parts->header_bytes;
	memcpy(parts->stream, input + SUPERBLOCK_BYTES + parts->header_bytes,
	       parts->stream_bytes);
	parts->flags = input[bytes - 1];
}

typedef void (*frame_visitor)(struct parts *parts, u8 *frame, u8 *payload,
			      u32 bytes);

static void visit_frames(struct parts *parts, frame_visitor visit)
{
	for (size_t at = OPENING_BYTES;
	     at + FRAME_BYTES <= parts->stream_bytes;) {
		u8 *frame = parts->stream + at;
		const u32 bytes = read_le32(frame + 4);

		at += FRAME_BYTES;
		if (bytes > parts->stream_bytes - at)
			return;
		visit(parts, frame, frame + FRAME_BYTES, bytes);
		at += bytes;
	}
}

static void gather(struct parts *parts, u8 *frame, u8 *payload, u32 bytes)
{
	if (read_le32(frame) == FRAME_HEADER ||
	    read_le32(frame) == FRAME_CLOSING ||
	    bytes > sizeof(parts->area) - parts->area_bytes)
		return;
	memcpy(parts->area + parts->area_bytes, payload, bytes);
	parts->area_bytes += bytes;
}

static void seal_chunk(void *context, u8 *entry)
{
	const struct parts *parts = context;
	const u64 offset = read_le64(entry);
	const u64 stored = read_le32(entry + 8);

	if (is_inside(offset, stored, 0, parts->area_bytes))
		write_le64(entry + 16, XXH64(parts->area + offset, stored, 0));
}

static void seal_device(struct parts *parts)
{
	u8 *device = parts->device;

	visit_frames(parts, gather);
	visit_chunks(device + HEADER_PLACE, parts->header_bytes, seal_chunk,
		     parts);
	write_le64(device + 128,
		   XXH64(device + HEADER_PLACE, parts->header_bytes, 0));
	seal_superblock(device);
}

/* As an image on a device that has nothing else, see FORMAT.md. */
static void make_closing(const struct parts *parts, u8 *closing)
{
	memcpy(closing, parts->device, SUPERBLOCK_BYTES);
	memset(closing + 24, 0, STATE_BYTES);
	memcpy(closing + 24, STATE_VALID, sizeof(STATE_VALID));
	write_le64(closing + 112, BLOCK_BYTES + parts->area_bytes);
	seal_superblock(closing);
}

static void seal_frame(struct parts *parts, u8 *frame, u8 *payload, u32 bytes)
{
	const u32 kind = read_le32(frame);

	if (kind == FRAME_HEADER && bytes == parts->header_bytes &&
	    !(parts->flags & OTHER_HEADER))
		memcpy(payload, parts->device + HEADER_PLACE, bytes);
	if (kind == FRAME_CLOSING && bytes == SUPERBLOCK_BYTES &&
	    !(parts->flags & OTHER_CLOSING))
		make_closing(parts, payload);
	write_le64(frame + 16, XXH64(payload, bytes, 0));
	write_le64(frame + 24, XXH64(frame, 24, 0));
}

static void seal_stream(struct parts *parts)
{
	if (parts->stream_bytes < OPENING_BYTES)
		return;
	if (!(parts->flags & OTHER_IMAGE))
		memcpy(parts->stream + 24, parts->device + 56, 16);
	write_le64(parts->stream + 56, XXH64(parts->stream, 56, 0));
	visit_frames(parts, seal_frame);
}

static void put(int fd, const u8 *bytes, size_t count)
{
	if (ftruncate(fd, 0) || pwrite(fd, bytes, count, 0) != (ssize_t)count ||
	    lseek(fd, 0, SEEK_SET))
		abort();
}

/* Looks at every byte, so that the sanitizer does. */
static int consume(void *context, const u8 *bytes, u32 count,
		   struct reason *why)
{
	XXH64_hash_t *digest = context;

	(void)why;
	*digest = XXH64(bytes, count, *digest);
	return 0;
}

/* Is the stream in fd taken for good? */
static bool is_taken(int fd, const struct superblock *superblock,
		     const struct header *header)
{
	XXH64_hash_t digest = 0;
	struct stream stream;
	struct reason why;

	return !stream_begin(&stream, fd, "fuzz", STREAM_ANY_PATIENCE, &why) &&
	       !stream_run(&stream, superblock, header, consume, &digest, &why);
}

static void try_stream(struct parts *parts, int fd,
		       const struct superblock *superblock,
		       const struct header *header, u64 seed)
{
	u64 bit;

	put(fd, parts->stream, parts->stream_bytes);
	if (!is_taken(fd, superblock, header))
		return;
	/* What follows the closing superblock is not looked at. */
	bit = seed % ((u64)lseek(fd, 0, SEEK_CUR) * 8);
	parts->stream[bit / 8] ^= (u8)(1U << bit % 8);
	put(fd, parts->stream, parts->stream_bytes);
	if (is_taken(fd, superblock, header))
		abort();
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t bytes)
{
	static struct parts parts;
	static int device_fd = -1;
	static int stream_fd = -1;
	struct superblock superblock, elsewhere;
	struct header header = { 0 };
	struct disk disk;
	struct reason why;

	if (device_fd < 0) {
		device_fd = memfd_create("device", MFD_CLOEXEC);
		stream_fd = memfd_create("stream", MFD_CLOEXEC);
	}
	if (device_fd < 0 || stream_fd < 0 || bytes < SUPERBLOCK_BYTES ||
	    bytes > INPUT_BYTES_MAX)
		return 0;
	take_apart(input, bytes, &parts);
	if (!(parts.flags & AS_IT_IS)) {
		seal_device(&parts);
		seal_stream(&parts);
	}

	put(device_fd, parts.device, sizeof(parts.device));
	disk = (struct disk){
		.path = "fuzz", .fd = device_fd, .bytes = DEVICE_BYTES,
		.sector_bytes = 512,
	};
	if (superblock_read(&disk, &superblock, &why) != SUPERBLOCK_READ ||
	    superblock_check_layout(&superblock, &disk, &why))
		return 0;
	/* As resume-stream.c does. */
	elsewhere = superblock;
	elsewhere.image_area_bytes = QUANTITY_END;
	if (!header_read(&header, &disk, &elsewhere, &why))
		try_stream(&parts, stream_fd, &superblock, &header,
			   XXH64(input, bytes, 1));
	header_free(&header);
	return 0;
}
