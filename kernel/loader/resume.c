// SPDX-License-Identifier: GPL-2.0-only
/*
 * The story of a boot that may resume:
 *
 * - Every device with our magic has a state. What an earlier boot or hibernation
 *   left unfinished is reported once and becomes "aborted".
 * - The newest valid image is resumed. Whatever refuses it before the jump
 *   makes it "aborted", since the ordinary boot is about to change the file
 *   systems it belongs to.
 * - "resuming" is on the disk before the jump, so no image is resumed twice.
 * - An image that went elsewhere had its chance before: resume-stream.c.
 * - No image is resumed beside merges that have not ended: merge.c.
 * - An early try, before all devices are there, resumes when nothing is missing
 *   and else leaves everything, messages too, to the one that follows.
 */
#include "resume.h"

#include "chunks.h"
#include "clock.h"
#include "command-line.h"
#include "devices.h"
#include "merge-list.h"
#include "regions.h"
#include "restore.h"

#include <fcntl.h>
#include <stdio.h>

#define CANDIDATES_MAX 16U
#define DEVICE_WAIT_SECONDS 10U

struct candidate {
	char path[DEVICE_PATH_BYTES];
	struct superblock superblock;
};

struct candidates {
	struct candidate list[CANDIDATES_MAX];
	u32 count;
	bool is_early;
};

static void set_aborted(const char *path)
{
	struct reason why;
	struct disk disk;

	if (disk_open(&disk, path, O_RDWR, &why)) {
		say("cannot mark the image as aborted: %s", why.text);
		return;
	}
	if (superblock_set_state(&disk, STATE_ABORTED, &why))
		say("cannot mark the image as aborted: %s", why.text);
	disk_close(&disk);
}

static void reject(const char *path, const char *sentence)
{
	say("not resuming: %s", sentence);
	set_aborted(path);
}

/* Says what is to be said about a state that is not "valid". */
static void settle_state(const char *path, const struct superblock *superblock)
{
	struct reason why;

	if (superblock_is(superblock, STATE_WRITING)) {
		refuse(&why, "saving the image on '%s' was interrupted", path);
	} else if (superblock_is(superblock, STATE_RESUMING)) {
		refuse(&why, "a resume from '%s' was tried before and did not finish",
		       path);
	} else if (superblock_is(superblock, STATE_AWAY)) {
		refuse(&why, "the image of '%s' went elsewhere as a stream and was not brought back",
		       path);
	} else if (!superblock_has_known_state(superblock)) {
		refuse(&why, "the image on '%s' is in the unknown state '%s'",
		       path, superblock->state);
	} else {
		return;
	}
	reject(path, why.text);
}

static void add_candidate(struct candidates *candidates, const char *path,
			  const struct superblock *superblock)
{
	struct candidate *candidate;

	if (candidates->count == CANDIDATES_MAX) {
		if (!candidates->is_early)
			reject(path, "too many devices have an image");
		return;
	}
	candidate = &candidates->list[candidates->count++];
	candidate->superblock = *superblock;
	snprintf(candidate->path, sizeof(candidate->path), "%s", path);
}

static void look_at(void *context, const char *path)
{
	struct candidates *candidates = context;
	struct superblock superblock;
	enum superblock_kind kind;
	struct reason why;

	kind = superblock_look(path, &superblock, &why);
	if (kind == SUPERBLOCK_READ && superblock_is(&superblock, STATE_VALID))
		add_candidate(candidates, path, &superblock);
	else if (candidates->is_early)
		return;
	else if (kind == SUPERBLOCK_READ)
		settle_state(path, &superblock);
	else if (kind == SUPERBLOCK_FOREIGN)
		say("not resuming: %s", why.text);
}

static const struct candidate *choose(const struct candidates *candidates)
{
	const struct candidate *newest = &candidates->list[0];

	for (u32 i = 1; i < candidates->count; i++)
		if (candidates->list[i].superblock.created_unix_seconds >
		    newest->superblock.created_unix_seconds)
			newest = &candidates->list[i];
	for (u32 i = 0; i < candidates->count; i++) {
		const struct candidate *other = &candidates->list[i];
		char sentence[2 * DEVICE_PATH_BYTES + 64];

		if (other == newest)
			continue;
		snprintf(sentence, sizeof(sentence),
			 "the image on '%s' is newer than that on '%s'",
			 newest->path, other->path);
		reject(other->path, sentence);
	}
	return newest;
}

bool resume_is_forbidden(void)
{
	return command_line_has("noresume", false);
}

static void say_loaded(const struct superblock *superblock, u64 total_ns,
		       const struct chunk_times *times)
{
	say("loaded %llu MiB (%llu MiB stored) in %.1f s: kernel %.1f s, waited %.1f s; %u threads: read %.1f s, digest %.1f s, lz4 %.1f s",
	    (unsigned long long)(superblock->stream_bytes / MIB),
	    (unsigned long long)(superblock->stored_bytes / MIB),
	    ns_to_seconds(total_ns), ns_to_seconds(times->consume_ns),
	    ns_to_seconds(times->wait_ns), times->threads,
	    ns_to_seconds(times->read_ns), ns_to_seconds(times->digest_ns),
	    ns_to_seconds(times->decompress_ns));
}

/* Returns only when the image was refused. */
static int load_and_jump(const struct disk *disk,
			 const struct superblock *superblock,
			 const struct header *header, struct reason *why)
{
	const u64 start = clock_ns();
	struct chunk_times times;
	struct restore restore;
	int result;

	if (restore_open(&restore, why))
		return -1;
	result = chunks_run(disk, superblock, header, restore_feed, &restore,
			    &times, why);
	if (!result) {
		say_loaded(superblock, clock_ns() - start, &times);
		result = superblock_set_state(disk, STATE_RESUMING, why);
	}
	if (!result)
		result = restore_freeze(&restore, why);
	if (!result)
		result = restore_jump(&restore, why);
	restore_close(&restore);
	return result;
}

static int check_image(const struct disk *disk,
		       const struct superblock *superblock,
		       struct header *header, unsigned int wait_seconds,
		       struct reason *why)
{
	int result = superblock_check_layout(superblock, disk, why);

	if (!result)
		result = header_read(header, disk, superblock, why);
	if (!result)
		result = header_check_kernel(header, why);
	if (!result)
		result = regions_check(header, wait_seconds, why);
	return result;
}

int resume_check_merges(const struct disk *disk,
			const struct superblock *superblock,
			struct reason *why)
{
	static struct merge_list list;

	if (merge_list_read(disk, superblock, &list, why))
		return -1;
	if (list.count)
		return refuse(why, "the hibernation of '%s' was being rolled back",
			      disk->path);
	return 0;
}

/* Returns only when the image was refused or, early, something is missing. */
static void try_image(const struct candidate *candidate, bool is_early)
{
	const struct superblock *superblock = &candidate->superblock;
	struct header header = { 0 };
	struct reason why;
	struct disk disk;
	bool is_left_for_later = is_early;

	if (!disk_open(&disk, candidate->path, O_RDWR | O_EXCL, &why)) {
		if (!resume_check_merges(&disk, superblock, &why) &&
		    !check_image(&disk, superblock, &header,
				 is_early ? 0 : DEVICE_WAIT_SECONDS, &why)) {
			say("resuming from '%s', %llu MiB", candidate->path,
			    (unsigned long long)(superblock->stream_bytes / MIB));
			load_and_jump(&disk, superblock, &header, &why);
			is_left_for_later = false;
		}
		header_free(&header);
		disk_close(&disk);
	}
	if (!is_left_for_later)
		reject(candidate->path, why.text);
}

void resume(const char *device, bool is_early)
{
	static struct candidates candidates;
	const struct candidate *candidate;

	candidates.is_early = is_early;
	if (device)
		look_at(&candidates, device);
	else
		devices_scan(look_at, &candidates);
	if (is_early && (candidates.count != 1 || resume_is_forbidden()))
		return;
	if (!candidates.count)
		return;
	candidate = choose(&candidates);
	if (resume_is_forbidden())
		reject(candidate->path, "'noresume' on the kernel command line");
	else
		try_image(candidate, is_early);
}
