// SPDX-License-Identifier: GPL-2.0-only
/*
 * The stream form of an image. It comes once and in order, so what is needed to
 * judge it is there before it comes: the header section, on the spare device.
 *
 * - A chunk goes to the consumer after its own digest held. Digests of frames
 *   are compared when the frame has ended, and the closing superblock when all
 *   has come; until then the consumer can still forget what it got.
 * - All memory is present before the first chunk: while the kernel takes the
 *   image there may be none left.
 */
#include "stream.h"

#include <errno.h>
#include <lz4.h>
#include <poll.h>
#include <unistd.h>
#include <xxhash.h>

#define OPENING_BYTES 64U
#define STREAM_VERSION 1U
#define FRAME_BYTES 32U
#define PAYLOAD_BYTES_MAX (16 * MIB)
#define READ_BYTES (256U * 1024U)

enum frame_kind {
	FRAME_PIECE = 1,
	FRAME_HEADER = 2,
	FRAME_CLOSING = 3,
};

struct frame {
	u32 kind;
	u32 bytes;
	u64 offset;
	u64 digest;
};

struct run {
	struct stream *stream;
	const struct superblock *superblock;
	const struct header *header;
	chunk_consumer consume;
	void *context;
	u64 area_bytes;		/* of the image area, so far */
	u32 next_chunk;		/* the chunk that is gathered */
	u32 gathered;		/* its bytes so far */
	u8 *stored;
	u8 *raw;
	u8 *part;		/* what was read last */
	XXH64_state_t *frame_digest;
};

/* A socket has its own time-out, SO_RCVTIMEO, of which poll(2) knows nothing. */
static bool is_silent(const struct stream *stream)
{
	struct pollfd waiting = { .fd = stream->fd, .events = POLLIN };

	return stream->patience_ms >= 0 &&
	       poll(&waiting, 1, stream->patience_ms) == 0;
}

/* How many bytes came, at least one. */
static ssize_t read_some(const struct stream *stream, u8 *to, size_t bytes,
			 struct reason *why)
{
	ssize_t got;

	if (is_silent(stream))
		return refuse(why, "nothing came from '%s' for %d s",
			      stream->name, stream->patience_ms / 1000);
	do {
		got = read(stream->fd, to, bytes);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return refuse(why, "cannot read '%s': %s", stream->name,
			      errno == EAGAIN ? "nothing came for too long" :
			      strerror(errno));
	if (!got)
		return refuse(why, "the stream from '%s' ends before the image is complete",
			      stream->name);
	return got;
}

static int read_exactly(struct stream *stream, u8 *to, size_t bytes,
			struct reason *why)
{
	while (bytes) {
		const ssize_t got = read_some(stream, to, bytes, why);

		if (got < 0) {
			stream->was_cut = true;
			return -1;
		}
		to += got;
		bytes -= (size_t)got;
	}
	return 0;
}

/* A program that says something on its standard output is recognized by it. */
static int refuse_opening(const u8 *opening, const char *name,
			  struct reason *why)
{
	u32 length = 0;

	while (length < OPENING_BYTES && opening[length] >= ' ' &&
	       opening[length] <= '~')
		length++;
	if (!length)
		return refuse(why, "what comes from '%s' is no image stream",
			      name);
	return refuse(why, "what comes from '%s' is no image stream, it begins with '%.*s'",
		      name, (int)length, (const char *)opening);
}

int stream_begin(struct stream *stream, int fd, const char *name,
		 int patience_ms, struct reason *why)
{
	static const char magic[16] = { 'P', 'e', 'r', 'm', 'a', 'f', 'r', 'o',
					's', 't', 'S', 't', 'r', 'e', 'a', 'm' };
	u8 opening[OPENING_BYTES];

	stream->fd = fd;
	stream->name = name;
	stream->patience_ms = patience_ms;
	stream->was_cut = false;
	if (read_exactly(stream, opening, sizeof(opening), why))
		return -1;
	if (memcmp(opening, magic, sizeof(magic)))
		return refuse_opening(opening, name, why);
	if (read_le32(opening + 16) != STREAM_VERSION ||
	    read_le32(opening + 20) != OPENING_BYTES)
		return refuse(why, "the stream from '%s' has version %u, this loader knows version %u",
			      name, read_le32(opening + 16), STREAM_VERSION);
	if (XXH64(opening, 56, 0) != read_le64(opening + 56))
		return refuse(why, "the opening of the stream from '%s' has a wrong digest",
			      name);
	memcpy(stream->image_id, opening + 24, sizeof(stream->image_id));
	return 0;
}

static int read_frame(const struct run *run, struct frame *frame,
		      struct reason *why)
{
	u8 bytes[FRAME_BYTES];

	if (read_exactly(run->stream, bytes, sizeof(bytes), why))
		return -1;
	if (XXH64(bytes, 24, 0) != read_le64(bytes + 24))
		return refuse(why, "a frame of the stream has a wrong digest");
	frame->kind = read_le32(bytes);
	frame->bytes = read_le32(bytes + 4);
	frame->offset = read_le64(bytes + 8);
	frame->digest = read_le64(bytes + 16);
	if (!frame->bytes || frame->bytes > PAYLOAD_BYTES_MAX)
		return refuse(why, "a frame of the stream has an impossible length");
	return 0;
}

static int finish_chunk(struct run *run, const struct chunk *chunk,
			struct reason *why)
{
	const u8 *bytes = run->stored;
	int raw;

	if (XXH64(bytes, chunk->stored_bytes, 0) != chunk->digest)
		return refuse(why, "chunk %u has a wrong digest",
			      run->next_chunk);
	if (chunk->codec == CODEC_LZ4) {
		raw = LZ4_decompress_safe((const char *)bytes, (char *)run->raw,
					  (int)chunk->stored_bytes,
					  (int)chunk->raw_bytes);
		if (raw != (int)chunk->raw_bytes)
			return refuse(why, "chunk %u cannot be decompressed",
				      run->next_chunk);
		bytes = run->raw;
	}
	run->next_chunk++;
	run->gathered = 0;
	return run->consume(run->context, bytes, chunk->raw_bytes, why);
}

/* Takes what lies at this place of the image area; most of it is chunks. */
static int take_part(struct run *run, u64 place, const u8 *bytes, u64 count,
		     struct reason *why)
{
	while (count && run->next_chunk < run->header->chunk_count) {
		const struct chunk chunk =
			header_chunk(run->header, run->next_chunk);
		const u64 wanted = chunk.offset + run->gathered;
		const u64 left = chunk.stored_bytes - run->gathered;
		u64 skip, piece;

		if (wanted < place)
			return refuse(why, "chunk %u lies before the one before it, which a stream cannot have",
				      run->next_chunk);
		skip = wanted - place;
		if (skip >= count)
			break;
		piece = count - skip < left ? count - skip : left;
		memcpy(run->stored + run->gathered, bytes + skip, piece);
		run->gathered += (u32)piece;
		place += skip + piece;
		bytes += skip + piece;
		count -= skip + piece;
		if (piece == left && finish_chunk(run, &chunk, why))
			return -1;
	}
	return 0;
}

/* Reads the next part of a payload, whose digest is gathered. */
static int read_part(const struct run *run, u32 count, struct reason *why)
{
	if (read_exactly(run->stream, run->part, count, why))
		return -1;
	XXH64_update(run->frame_digest, run->part, count);
	return 0;
}

static int take_piece(struct run *run, const struct frame *frame,
		      struct reason *why)
{
	u64 place = frame->offset;
	u32 left = frame->bytes;

	if (frame->bytes % BLOCK_BYTES)
		return refuse(why, "a piece of the stream has an impossible length");
	XXH64_reset(run->frame_digest, 0);
	while (left) {
		const u32 count = left < READ_BYTES ? left : READ_BYTES;

		if (read_part(run, count, why))
			return -1;
		if (take_part(run, place, run->part, count, why))
			return -1;
		place += count;
		left -= count;
	}
	if (XXH64_digest(run->frame_digest) != frame->digest)
		return refuse(why, "a piece of the stream has a wrong digest");
	run->area_bytes = place;
	return 0;
}

/* The header section has to be, bit by bit, that of the spare device. */
static int compare_header(struct run *run, const struct frame *frame,
			  struct reason *why)
{
	u32 left = frame->bytes;

	if (frame->bytes != run->superblock->header_bytes ||
	    frame->digest != run->superblock->header_digest)
		return refuse(why, "the header section of the stream is another one than that of '%s'",
			      run->stream->name);
	XXH64_reset(run->frame_digest, 0);
	while (left) {
		const u32 count = left < READ_BYTES ? left : READ_BYTES;

		if (read_part(run, count, why))
			return -1;
		left -= count;
	}
	if (XXH64_digest(run->frame_digest) != frame->digest)
		return refuse(why, "the header section of the stream has a wrong digest");
	return 0;
}

static int check_closing(struct run *run, const struct frame *header_frame,
			 struct reason *why)
{
	const struct superblock *ours = run->superblock;
	struct superblock closing;
	struct frame frame;

	if (read_frame(run, &frame, why))
		return -1;
	if (frame.kind != FRAME_CLOSING || frame.bytes != SUPERBLOCK_BYTES)
		return refuse(why, "a frame of the stream is out of its order");
	if (read_exactly(run->stream, run->part, SUPERBLOCK_BYTES, why))
		return -1;
	if (XXH64(run->part, SUPERBLOCK_BYTES, 0) != frame.digest)
		return refuse(why, "the closing superblock of the stream has a wrong digest");
	switch (superblock_decode(run->part, run->stream->name, &closing, why)) {
	case SUPERBLOCK_READ:
		break;
	case SUPERBLOCK_NONE:
		return refuse(why, "the stream ends with no superblock");
	default:
		return -1;
	}
	if (!superblock_is(&closing, STATE_VALID) ||
	    memcmp(closing.image_id, ours->image_id, sizeof(ours->image_id)) ||
	    closing.header_digest != ours->header_digest ||
	    closing.header_bytes != ours->header_bytes ||
	    closing.header_offset != BLOCK_BYTES + header_frame->offset ||
	    closing.stored_bytes != ours->stored_bytes ||
	    closing.stream_bytes != ours->stream_bytes)
		return refuse(why, "the closing superblock of the stream is that of another image");
	return 0;
}

static int run_frames(struct run *run, struct reason *why)
{
	struct frame frame;

	for (;;) {
		if (read_frame(run, &frame, why))
			return -1;
		if (frame.offset != run->area_bytes)
			return refuse(why, "the stream leaves out bytes after %llu",
				      (unsigned long long)run->area_bytes);
		if (frame.kind == FRAME_HEADER)
			break;
		if (frame.kind != FRAME_PIECE)
			return refuse(why, "a frame of the stream is out of its order");
		if (take_piece(run, &frame, why))
			return -1;
	}
	if (run->next_chunk != run->header->chunk_count)
		return refuse(why, "the stream has %u chunks of %u",
			      run->next_chunk, run->header->chunk_count);
	if (compare_header(run, &frame, why))
		return -1;
	return check_closing(run, &frame, why);
}

int stream_run(struct stream *stream, const struct superblock *superblock,
	       const struct header *header, chunk_consumer consume,
	       void *context, struct reason *why)
{
	const size_t chunk_bytes = header->chunk_raw_bytes;
	struct run run = {
		.stream = stream,
		.superblock = superblock,
		.header = header,
		.consume = consume,
		.context = context,
		.stored = pages_allocate(chunk_bytes),
		.raw = pages_allocate(chunk_bytes),
		.part = pages_allocate(READ_BYTES),
		.frame_digest = XXH64_createState(),
	};
	int result;

	if (run.stored && run.raw && run.part && run.frame_digest)
		result = run_frames(&run, why);
	else
		result = refuse(why, "out of memory for the chunks");
	pages_free(run.stored, chunk_bytes);
	pages_free(run.raw, chunk_bytes);
	pages_free(run.part, READ_BYTES);
	XXH64_freeState(run.frame_digest);
	return result;
}
