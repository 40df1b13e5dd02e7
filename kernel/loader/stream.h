/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_STREAM_H
#define LOADER_STREAM_H

#include "chunks.h"

/* An image on its way through a descriptor, the stream form of FORMAT.md. */
struct stream {
	int fd;
	const char *name;
	int patience_ms;	/* with its silence from now on */
	u8 image_id[16];
	bool was_cut;		/* the source ended, failed or fell silent */
};

/* For who sees to it otherwise that nobody waits for ever, or is asked to. */
#define STREAM_ANY_PATIENCE (-1)

/* Reads the opening, which says of which image this is the stream. */
int stream_begin(struct stream *stream, int fd, const char *name,
		 int patience_ms, struct reason *why);

/*
 * Reads the rest and hands the chunks to consume, in order, each after the
 * digest that the header has for it held. Returns 0 only when all of the
 * stream came, every digest in it held, and it is the stream of this very
 * superblock and header, which came from the spare device.
 */
int stream_run(struct stream *stream, const struct superblock *superblock,
	       const struct header *header, chunk_consumer consume,
	       void *context, struct reason *why);

#endif
