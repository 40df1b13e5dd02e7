// SPDX-License-Identifier: GPL-2.0-only
/* Shows an image without touching it. */
#include "inspect.h"

#include "chunks.h"
#include "merge-list.h"
#include "regions.h"
#include "server.h"
#include "stream.h"

#include <fcntl.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void print_id(const char *name, const u8 *id)
{
	printf("%s: ", name);
	for (unsigned int i = 0; i < 16; i++)
		printf("%02x", id[i]);
	putchar('\n');
}

static void print_number(const char *name, u64 value)
{
	printf("%s: %llu\n", name, (unsigned long long)value);
}

/* What came from an image must not reach a terminal as it is. */
static void print_text(const char *name, const char *text, size_t bytes)
{
	printf("%s: ", name);
	for (size_t i = 0; i < bytes; i++)
		putchar((unsigned char)text[i] < ' ' || text[i] == 0x7f ?
			'?' : text[i]);
	putchar('\n');
}

static void print_lines(const char *name, const struct text *text)
{
	const char *at = text->start;
	size_t left = text->bytes;

	while (left) {
		const char *end = memchr(at, '\n', left);
		const size_t length = end ? (size_t)(end - at) : left;

		print_text(name, at, length);
		at += length + (end ? 1 : 0);
		left -= length + (end ? 1 : 0);
	}
}

static void print_superblock(const struct superblock *superblock)
{
	print_text("state", superblock->state, strlen(superblock->state));
	print_id("device_id", superblock->device_id);
	print_id("image_id", superblock->image_id);
	print_number("device_bytes", superblock->device_bytes);
	print_number("image_area_offset", superblock->image_area_offset);
	print_number("image_area_bytes", superblock->image_area_bytes);
	print_number("cow_area_offset", superblock->cow_area_offset);
	print_number("cow_area_bytes", superblock->cow_area_bytes);
	print_number("header_offset", superblock->header_offset);
	print_number("header_bytes", superblock->header_bytes);
	print_number("created_unix_seconds", superblock->created_unix_seconds);
	print_number("stored_bytes", superblock->stored_bytes);
	print_number("stream_bytes", superblock->stream_bytes);
}

static void print_header(const struct header *header)
{
	const struct kernel_identity *kernel = &header->kernel;

	print_text("kernel_release", kernel->release, strlen(kernel->release));
	print_text("kernel_version", kernel->version, strlen(kernel->version));
	print_text("kernel_machine", kernel->machine, strlen(kernel->machine));
	print_number("chunks", header->chunk_count);
	for (u32 i = 0; i < header->filesystem_count; i++) {
		const struct filesystem *filesystem = &header->filesystems[i];

		print_text("filesystem", filesystem->path,
			   strlen(filesystem->path));
		print_text("filesystem_uuid", filesystem->uuid,
			   strlen(filesystem->uuid));
		print_text("filesystem_type", filesystem->type,
			   strlen(filesystem->type));
		print_number("filesystem_regions", filesystem->region_count);
	}
	print_lines("figure", &header->figures);
	print_lines("text", &header->settings);
	print_lines("way_back", &header->way_back);
}

static int print_merges(const struct disk *disk,
			const struct superblock *superblock,
			struct reason *why)
{
	static struct merge_list list;

	if (merge_list_read(disk, superblock, &list, why))
		return -1;
	for (u32 i = 0; i < list.count; i++)
		print_text("unfinished_merge", list.merges[i].path,
			   strlen(list.merges[i].path));
	return 0;
}

static int discard(void *context, const u8 *bytes, u32 count,
		   struct reason *why)
{
	(void)context;
	(void)bytes;
	(void)count;
	(void)why;
	return 0;
}

/* Which stream is looked for. */
struct wanted {
	const struct superblock *superblock;
	const struct header *header;
};

/* Is this the stream that the device gives leave to, and every bit of it right? */
static int check_stream(void *context, struct stream *stream,
			struct reason *why)
{
	const struct wanted *wanted = context;

	if (memcmp(stream->image_id, wanted->superblock->image_id,
		   sizeof(stream->image_id)))
		return refuse(why, "the stream is that of another image");
	return stream_run(stream, wanted->superblock, wanted->header, discard,
			  NULL, why);
}

static int check_server(const struct superblock *superblock,
			const struct header *header, struct reason *why)
{
	struct wanted wanted = { superblock, header };
	struct way_back way;
	const int result = way_back_read(header, &way, why);

	if (result > 0)
		return refuse(why, "the image went to no server");
	if (result)
		return -1;
	return server_fetch(&way, superblock->image_id, check_stream, &wanted,
			    why);
}

static int check_source(const char *from, const struct superblock *superblock,
			const struct header *header, struct reason *why)
{
	struct wanted wanted = { superblock, header };
	struct stream stream;
	int result;
	int fd = STDIN_FILENO;

	if (strcmp(from, "-"))
		fd = open(from, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return refuse(why, "cannot open '%s': %s", from,
			      strerror(errno));
	result = stream_begin(&stream, fd, from, STREAM_ANY_PATIENCE, why);
	if (!result)
		result = check_stream(&wanted, &stream, why);
	if (fd != STDIN_FILENO)
		close(fd);
	return result;
}

static int check_image(const struct disk *disk,
		       const struct superblock *superblock,
		       const struct inspection *inspection, struct reason *why)
{
	const bool is_away = superblock_is(superblock, STATE_AWAY);
	struct superblock elsewhere = *superblock;
	struct chunk_times times;
	struct header header = { 0 };
	struct way_back way;
	int result;

	/* Chunks lie in the image area of the stream, which has no end. */
	if (is_away)
		elsewhere.image_area_bytes = QUANTITY_END;
	result = superblock_check_layout(superblock, disk, why);
	if (!result)
		result = header_read(&header, disk, &elsewhere, why);
	if (!result)
		print_header(&header);
	if (!result && way_back_read(&header, &way, why) < 0)
		result = -1;
	if (!result && !inspection->is_foreign)
		result = header_check_kernel(&header, why);
	if (!result && !inspection->is_foreign)
		result = regions_check(&header, 0, why);
	if (!result && is_away && inspection->from)
		result = check_source(inspection->from, superblock, &header,
				      why);
	if (!result && is_away && inspection->is_fetching)
		result = check_server(superblock, &header, why);
	if (!result && !is_away && inspection->is_verifying)
		result = chunks_run(disk, superblock, &header, discard, NULL,
				    &times, why);
	header_free(&header);
	return result;
}

static int check_disk(const struct disk *disk,
		      const struct inspection *inspection, struct reason *why)
{
	struct superblock superblock;

	switch (superblock_read(disk, &superblock, why)) {
	case SUPERBLOCK_NONE:
		return refuse(why, "'%s' has no Permafrost superblock",
			      disk->path);
	case SUPERBLOCK_FOREIGN:
		return -1;
	case SUPERBLOCK_READ:
		break;
	}
	print_superblock(&superblock);
	if (!superblock_has_known_state(&superblock))
		return refuse(why, "'%s' is in the unknown state '%s'",
			      disk->path, superblock.state);
	if (print_merges(disk, &superblock, why))
		return -1;
	/* Only these states promise that there is an image. */
	if (!superblock_is(&superblock, STATE_VALID) &&
	    !superblock_is(&superblock, STATE_AWAY) &&
	    !superblock_is(&superblock, STATE_RESUMING))
		return 0;
	return check_image(disk, &superblock, inspection, why);
}

int inspect(const char *path, const struct inspection *inspection)
{
	struct reason why;
	struct disk disk;
	int result;

	print_text("device", path, strlen(path));
	result = disk_open(&disk, path, O_RDONLY, &why);
	if (!result) {
		result = check_disk(&disk, inspection, &why);
		disk_close(&disk);
	}
	if (result)
		print_text("refused", why.text, strlen(why.text));
	else
		puts("good");
	return result;
}
