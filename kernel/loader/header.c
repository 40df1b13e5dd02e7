// SPDX-License-Identifier: GPL-2.0-only
/*
 * The header section: records of service/image/FORMAT.md. Nothing in it is
 * believed before the digest of the whole section and its own bounds hold.
 */
#include "header.h"

#include <stdlib.h>
#include <sys/utsname.h>
#include <xxhash.h>

#define RECORD_BYTES 8U
#define KERNEL_BYTES 272U
#define CHUNK_BYTES 32U
#define REGION_ENTRY_BYTES 24U
#define RECORD_OPTIONAL 0x80000000U

enum record_type {
	RECORD_KERNEL = 1,
	RECORD_CHUNKS = 2,
	RECORD_FILESYSTEM = 3,
};

#define RECORD_FIGURES (RECORD_OPTIONAL | 4)
#define RECORD_TEXT (RECORD_OPTIONAL | 5)
#define RECORD_WAY_BACK (RECORD_OPTIONAL | 6)

struct record {
	u32 type;
	u32 bytes;
	const u8 *payload;
};

static int parse_kernel(struct header *header, const struct record *record,
			struct reason *why)
{
	struct kernel_identity *kernel = &header->kernel;
	char *const fields[] = { kernel->sysname, kernel->release,
				 kernel->version, kernel->machine };
	const size_t field_bytes = sizeof(kernel->sysname);
	const u8 *from = record->payload;

	if (kernel->sysname[0])
		return refuse(why, "the image names its kernel twice");
	if (record->bytes != KERNEL_BYTES)
		return refuse(why, "the image's kernel record has %u bytes instead of %u",
			      record->bytes, KERNEL_BYTES);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!from[0] || !is_padded_text(from, field_bytes))
			return refuse(why, "the image's kernel record is malformed");
		memcpy(fields[i], from, field_bytes);
		from += field_bytes;
	}
	kernel->num_physpages = read_le64(record->payload + 264);
	if (kernel->num_physpages >= QUANTITY_END)
		return refuse(why, "the image's kernel record is malformed");
	return 0;
}

static int check_chunk(const struct chunk *chunk, u32 index,
		       u32 chunk_raw_bytes,
		       const struct superblock *superblock, struct reason *why)
{
	if (chunk->section)
		return refuse(why, "chunk %u is of section %u, which this loader does not know",
			      index, chunk->section);
	if (chunk->codec != CODEC_STORED && chunk->codec != CODEC_LZ4)
		return refuse(why, "chunk %u has codec %u, which this loader does not know",
			      index, chunk->codec);
	if (!chunk->raw_bytes || chunk->raw_bytes > chunk_raw_bytes ||
	    !chunk->stored_bytes ||
	    chunk->stored_bytes > chunk->raw_bytes ||
	    (chunk->codec == CODEC_STORED &&
	     chunk->stored_bytes != chunk->raw_bytes))
		return refuse(why, "chunk %u has impossible lengths", index);
	if (!is_inside(chunk->offset, chunk->stored_bytes, 0,
		       superblock->image_area_bytes))
		return refuse(why, "chunk %u is outside the image area", index);
	return 0;
}

static int parse_chunks(struct header *header, const struct record *record,
			const struct superblock *superblock, struct reason *why)
{
	u64 stored_bytes = 0, stream_bytes = 0;

	if (header->chunks)
		return refuse(why, "the image lists its chunks twice");
	if (record->bytes < 8 || (record->bytes - 8) % CHUNK_BYTES)
		return refuse(why, "the image's list of chunks is malformed");
	header->chunk_raw_bytes = read_le32(record->payload);
	header->chunk_count = read_le32(record->payload + 4);
	header->chunks = record->payload + 8;
	if (!header->chunk_count || !header->chunk_raw_bytes ||
	    header->chunk_raw_bytes > CHUNK_RAW_BYTES_MAX ||
	    header->chunk_count != (record->bytes - 8) / CHUNK_BYTES)
		return refuse(why, "the image's list of chunks is malformed");
	for (u32 i = 0; i < header->chunk_count; i++) {
		const struct chunk chunk = header_chunk(header, i);

		if (check_chunk(&chunk, i, header->chunk_raw_bytes, superblock,
				why))
			return -1;
		stored_bytes += chunk.stored_bytes;
		stream_bytes += chunk.raw_bytes;
	}
	if (stored_bytes != superblock->stored_bytes ||
	    stream_bytes != superblock->stream_bytes)
		return refuse(why, "the image's chunks do not add up to its length");
	return 0;
}

static int copy_text(char *to, size_t capacity, const u8 *from, u32 bytes)
{
	if (bytes >= capacity || memchr(from, 0, bytes))
		return -1;
	memcpy(to, from, bytes);
	to[bytes] = '\0';
	return 0;
}

static int check_regions(const struct filesystem *filesystem,
			 struct reason *why)
{
	for (u32 i = 0; i < filesystem->region_count; i++) {
		const struct region region = filesystem_region(filesystem, i);

		if (!region.bytes || region.bytes > REGION_BYTES_MAX ||
		    region.offset >= QUANTITY_END)
			return refuse(why, "region %u of '%s' is out of bounds",
				      i, filesystem->path);
	}
	return 0;
}

static int parse_filesystem(struct header *header, const struct record *record,
			    struct reason *why)
{
	struct filesystem *filesystem;
	u32 path_bytes, uuid_bytes, type_bytes;
	const u8 *text;

	if (header->filesystem_count == FILESYSTEMS_MAX)
		return refuse(why, "the image lists more than %u file systems",
			      FILESYSTEMS_MAX);
	if (record->bytes < 16)
		goto malformed;
	filesystem = &header->filesystems[header->filesystem_count];
	filesystem->region_count = read_le32(record->payload);
	path_bytes = read_le32(record->payload + 4);
	uuid_bytes = read_le32(record->payload + 8);
	type_bytes = read_le32(record->payload + 12);
	filesystem->regions = record->payload + 16;
	if (filesystem->region_count > REGIONS_MAX || !path_bytes ||
	    16 + (u64)filesystem->region_count * REGION_ENTRY_BYTES +
	    path_bytes + uuid_bytes + type_bytes != record->bytes)
		goto malformed;
	text = filesystem->regions +
	       (size_t)filesystem->region_count * REGION_ENTRY_BYTES;
	if (copy_text(filesystem->path, sizeof(filesystem->path), text,
		      path_bytes) ||
	    copy_text(filesystem->uuid, sizeof(filesystem->uuid),
		      text + path_bytes, uuid_bytes) ||
	    copy_text(filesystem->type, sizeof(filesystem->type),
		      text + path_bytes + uuid_bytes, type_bytes))
		goto malformed;
	header->filesystem_count++;
	return check_regions(filesystem, why);

malformed:
	return refuse(why, "the image's record of a file system is malformed");
}

static int keep_text(struct text *text, const struct record *record,
		     struct reason *why)
{
	if (text->start)
		return refuse(why, "the image has two records of type 0x%x",
			      record->type);
	text->start = (const char *)record->payload;
	text->bytes = record->bytes;
	return 0;
}

static int parse_record(struct header *header, const struct record *record,
			const struct superblock *superblock, struct reason *why)
{
	switch (record->type) {
	case RECORD_KERNEL:
		return parse_kernel(header, record, why);
	case RECORD_CHUNKS:
		return parse_chunks(header, record, superblock, why);
	case RECORD_FILESYSTEM:
		return parse_filesystem(header, record, why);
	case RECORD_FIGURES:
		return keep_text(&header->figures, record, why);
	case RECORD_TEXT:
		return keep_text(&header->settings, record, why);
	case RECORD_WAY_BACK:
		return keep_text(&header->way_back, record, why);
	}
	if (record->type & RECORD_OPTIONAL)
		return 0;
	return refuse(why, "the image has a record of type %u, which this loader does not know",
		      record->type);
}

static int parse_records(struct header *header, const u8 *at, size_t left,
			 const struct superblock *superblock,
			 struct reason *why)
{
	while (left) {
		struct record record;
		size_t padded;

		if (left < RECORD_BYTES)
			return refuse(why, "the header section ends within a record");
		record.type = read_le32(at);
		record.bytes = read_le32(at + 4);
		record.payload = at + RECORD_BYTES;
		at += RECORD_BYTES;
		left -= RECORD_BYTES;
		padded = ((size_t)record.bytes + 7) & ~(size_t)7;
		if (padded > left)
			return refuse(why, "the header section ends within a record");
		if (parse_record(header, &record, superblock, why))
			return -1;
		at += padded;
		left -= padded;
	}
	if (!header->kernel.sysname[0])
		return refuse(why, "the image does not name its kernel");
	if (!header->chunks)
		return refuse(why, "the image has no list of chunks");
	return 0;
}

int header_read(struct header *header, const struct disk *disk,
		const struct superblock *superblock, struct reason *why)
{
	const u8 *start;

	memset(header, 0, sizeof(*header));
	header->section_bytes = span_capacity(superblock->header_bytes);
	header->section = pages_allocate(header->section_bytes);
	header->filesystems = calloc(FILESYSTEMS_MAX,
				     sizeof(*header->filesystems));
	if (!header->section || !header->filesystems)
		return refuse(why, "out of memory for the header section");
	start = disk_read_span(disk, header->section,
			       superblock->header_offset,
			       superblock->header_bytes, why);
	if (!start)
		return -1;
	if (XXH64(start, superblock->header_bytes, 0) !=
	    superblock->header_digest)
		return refuse(why, "the header section has a wrong digest");
	return parse_records(header, start, superblock->header_bytes,
			     superblock, why);
}

void header_free(struct header *header)
{
	pages_free(header->section, header->section_bytes);
	free(header->filesystems);
	memset(header, 0, sizeof(*header));
}

struct chunk header_chunk(const struct header *header, u32 index)
{
	const u8 *entry = header->chunks + (size_t)index * CHUNK_BYTES;

	return (struct chunk) {
		.offset = read_le64(entry),
		.stored_bytes = read_le32(entry + 8),
		.raw_bytes = read_le32(entry + 12),
		.digest = read_le64(entry + 16),
		.section = read_le32(entry + 24),
		.codec = read_le32(entry + 28),
	};
}

struct region filesystem_region(const struct filesystem *filesystem, u32 index)
{
	const u8 *entry = filesystem->regions +
			  (size_t)index * REGION_ENTRY_BYTES;

	return (struct region) {
		.offset = read_le64(entry),
		.bytes = read_le64(entry + 8),
		.digest = read_le64(entry + 16),
	};
}

int header_check_kernel(const struct header *header, struct reason *why)
{
	const struct kernel_identity *kernel = &header->kernel;
	struct utsname running;

	if (uname(&running))
		return refuse(why, "cannot find out which kernel runs");
	if (strcmp(kernel->sysname, running.sysname) ||
	    strcmp(kernel->machine, running.machine))
		return refuse(why, "the image was made on '%s %s', this is '%s %s'",
			      kernel->sysname, kernel->machine,
			      running.sysname, running.machine);
	if (strcmp(kernel->release, running.release))
		return refuse(why, "the image was made by kernel '%s', this is '%s'",
			      kernel->release, running.release);
	if (strcmp(kernel->version, running.version))
		return refuse(why, "the image was made by kernel build '%s', this is '%s'",
			      kernel->version, running.version);
	return 0;
}
