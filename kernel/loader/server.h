/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_SERVER_H
#define LOADER_SERVER_H

#include "stream.h"
#include "way-back.h"

/* Takes a stream of which the opening has come: 0, or -1 and why not. */
typedef int (*stream_taker)(void *context, struct stream *stream,
			    struct reason *why);

/*
 * Asks the server for the image, with the protocol of PROTOCOL.md, and has it
 * taken. Nobody who falls silent is waited for. What is cut in its middle is
 * asked for again a few times, and comes from its beginning.
 */
int server_fetch(const struct way_back *way, const u8 image_id[16],
		 stream_taker take, void *context, struct reason *why);

#endif
