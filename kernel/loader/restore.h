/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_RESTORE_H
#define LOADER_RESTORE_H

#include "say.h"
#include "types.h"

#define RESERVE_COUNT 2U
#define RESERVE_TEXT_BYTES 128U

/* A stream on its way into the kernel through /dev/snapshot. */
struct restore {
	int fd;
	/* What the kernel kept back of memory before; empty where it still does. */
	char reserves[RESERVE_COUNT][RESERVE_TEXT_BYTES];
	u64 position;		/* bytes the kernel has taken */
	u64 careful_until;	/* pages before this go one a system call */
};

int restore_open(struct restore *restore, struct reason *why);

/* A chunk_consumer: the next bytes of the stream; the context is a restore. */
int restore_feed(void *context, const u8 *bytes, u32 count,
		 struct reason *why);

/* Stops every other process, so that nothing but the jump is left to fail. */
int restore_freeze(struct restore *restore, struct reason *why);

/* Jumps. It returns only when the kernel did not. */
int restore_jump(struct restore *restore, struct reason *why);

/* Gives all memory of the image back and thaws. */
void restore_close(struct restore *restore);

#endif
