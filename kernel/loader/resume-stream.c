// SPDX-License-Identifier: GPL-2.0-only
/*
 * Resuming from a stream that a script brings:
 *
 * - The spare device says which image may be resumed, "away", and has its header
 *   section: kernel, file systems and the digest of every chunk are judged before
 *   the first chunk comes. A stream that no spare device gives leave to is
 *   nobody's, whatever is in it.
 * - The leave is taken back, "resuming", before the jump and after all of the
 *   stream held, so that no image is resumed twice, even from a medium that
 *   cannot be written.
 * - A stream that is refused before leaves "away" alone, since the next source
 *   may be better. Where none is, the ordinary resume makes it "aborted".
 */
#include "resume-stream.h"

#include "clock.h"
#include "devices.h"
#include "network.h"
#include "program.h"
#include "regions.h"
#include "restore.h"
#include "resume.h"
#include "server.h"
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define DEVICE_WAIT_SECONDS 10U

/*
 * With a program's silence: a network may take long to come up, a server to
 * start, a person to type a passphrase. What flows goes on flowing.
 */
#define FIRST_PATIENCE_MS (10 * 60 * 1000)
#define PATIENCE_MS (2 * 60 * 1000)

/* What the devices say of one image, or of any when there is no stream yet. */
struct search {
	const u8 *image_id;
	char path[DEVICE_PATH_BYTES];
	struct superblock superblock;
	char other_state[STATE_BYTES + 1];
};

static void look_at(void *context, const char *path)
{
	struct search *search = context;
	struct superblock superblock;
	struct reason ignored;

	if (superblock_look(path, &superblock, &ignored) != SUPERBLOCK_READ)
		return;
	if (search->image_id && memcmp(superblock.image_id, search->image_id,
				       sizeof(superblock.image_id)))
		return;
	if (!superblock_is(&superblock, STATE_AWAY)) {
		memcpy(search->other_state, superblock.state,
		       sizeof(search->other_state));
		return;
	}
	/* Of several that went elsewhere the last one was this machine's. */
	if (search->path[0] && superblock.created_unix_seconds <
				search->superblock.created_unix_seconds)
		return;
	search->superblock = superblock;
	snprintf(search->path, sizeof(search->path), "%s", path);
}

bool resume_awaits_stream(void)
{
	struct search search = { 0 };

	if (resume_is_forbidden())
		return false;
	devices_scan(look_at, &search);
	return search.path[0];
}

static int find_leave(struct search *search, struct reason *why)
{
	devices_scan(look_at, search);
	if (search->path[0])
		return 0;
	if (search->other_state[0])
		return refuse(why, "the spare device of this image says '%s', so it may not be resumed",
			      search->other_state);
	return refuse(why, "no spare device says that this image may be resumed");
}

static int check_image(const struct disk *disk,
		       const struct superblock *superblock,
		       struct header *header, struct reason *why)
{
	struct superblock elsewhere = *superblock;

	if (superblock_check_layout(superblock, disk, why))
		return -1;
	/* Chunks lie in the image area of the stream, which has no end. */
	elsewhere.image_area_bytes = QUANTITY_END;
	if (header_read(header, disk, &elsewhere, why) ||
	    header_check_kernel(header, why))
		return -1;
	return regions_check(header, DEVICE_WAIT_SECONDS, why);
}

/* Returns only when the image was refused. */
static int load_and_jump(struct stream *stream, const struct disk *disk,
			 const struct superblock *superblock,
			 const struct header *header, struct reason *why)
{
	const u64 start = clock_ns();
	struct restore restore;
	int result;

	if (restore_open(&restore, why))
		return -1;
	result = stream_run(stream, superblock, header, restore_feed, &restore,
			    why);
	if (result) {
		restore_close(&restore);
		return result;
	}
	say("loaded %llu MiB (%llu MiB stored) from '%s' in %.1f s",
	    (unsigned long long)(superblock->stream_bytes / MIB),
	    (unsigned long long)(superblock->stored_bytes / MIB), stream->name,
	    ns_to_seconds(clock_ns() - start));
	result = superblock_set_state(disk, STATE_RESUMING, why);
	if (!result)
		result = restore_freeze(&restore, why);
	if (!result)
		result = restore_jump(&restore, why);
	restore_close(&restore);
	return result;
}

static int resume_stream(struct stream *stream, struct reason *why)
{
	struct search search = { .image_id = stream->image_id };
	struct header header = { 0 };
	struct disk disk;
	int result;

	if (find_leave(&search, why) ||
	    disk_open(&disk, search.path, O_RDWR | O_EXCL, why))
		return -1;
	result = resume_check_merges(&disk, &search.superblock, why);
	if (!result)
		result = check_image(&disk, &search.superblock, &header, why);
	if (!result) {
		say("resuming from '%s' with leave of '%s', %llu MiB",
		    stream->name, search.path,
		    (unsigned long long)(search.superblock.stream_bytes / MIB));
		result = load_and_jump(stream, &disk, &search.superblock,
				       &header, why);
	}
	header_free(&header);
	disk_close(&disk);
	return result;
}

static bool is_forbidden(void)
{
	if (resume_is_forbidden())
		say("not resuming: 'noresume' on the kernel command line");
	return resume_is_forbidden();
}

int resume_from(const char *source)
{
	const bool is_standard_input = !strcmp(source, "-");
	struct stream stream;
	struct reason why;
	int fd = STDIN_FILENO;

	if (is_forbidden())
		return -1;
	if (!is_standard_input)
		fd = open(source, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		refuse(&why, "cannot open '%s': %s", source, strerror(errno));
	else if (!stream_begin(&stream, fd,
			       is_standard_input ? "standard input" : source,
			       STREAM_ANY_PATIENCE, &why))
		resume_stream(&stream, &why);
	if (fd > STDIN_FILENO)
		close(fd);
	say("not resuming: %s", why.text);
	return -1;
}

int resume_from_program(const char *path)
{
	struct program program;
	struct stream stream;
	struct reason why;

	if (is_forbidden())
		return -1;
	if (!program_start(&program, path, &why)) {
		if (!stream_begin(&stream, program.fd, path,
				  FIRST_PATIENCE_MS, &why)) {
			stream.patience_ms = PATIENCE_MS;
			resume_stream(&stream, &why);
		}
		program_stop(&program);
	}
	say("not resuming: %s", why.text);
	return -1;
}

/* Where the image of a spare device went; 1 when nobody knows. */
static int find_server(struct search *search, struct way_back *way,
		       struct reason *why)
{
	struct header header = { 0 };
	struct superblock elsewhere;
	struct disk disk;
	int result;

	devices_scan(look_at, search);
	if (!search->path[0])
		return 1;
	if (disk_open(&disk, search->path, O_RDONLY, why))
		return -1;
	elsewhere = search->superblock;
	elsewhere.image_area_bytes = QUANTITY_END;
	result = superblock_check_layout(&search->superblock, &disk, why);
	if (!result)
		result = header_read(&header, &disk, &elsewhere, why);
	if (!result)
		result = way_back_read(&header, way, why);
	header_free(&header);
	disk_close(&disk);
	return result;
}

static int resume_fetched(void *context, struct stream *stream,
			  struct reason *why)
{
	(void)context;
	return resume_stream(stream, why);
}

/* Returns only when the image was refused. */
static int fetch_and_resume(const struct way_back *way,
			    const struct search *search, struct reason *why)
{
	struct network network;

	say("fetching the image from '%s'", way->target);
	if (network_up(&network, way, why))
		return -1;
	server_fetch(way, search->superblock.image_id, resume_fetched, NULL,
		     why);
	network_down(&network);
	return -1;
}

int resume_from_server(void)
{
	struct search search = { 0 };
	struct way_back way;
	struct reason why;
	int result;

	if (is_forbidden())
		return -1;
	result = find_server(&search, &way, &why);
	if (result > 0)
		return -1;
	if (!result)
		fetch_and_resume(&way, &search, &why);
	say("not resuming: %s", why.text);
	return -1;
}
