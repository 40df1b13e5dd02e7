/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_SERVER_H
#define LOADER_SERVER_H

#include "way-back.h"

#include <sys/types.h>

/* A server that sends an image. */
struct server {
	int fd;
	pid_t helper;		/* speaks TLS; 0 when nobody has to */
};

/*
 * Asks the server for the image, with the protocol of PROTOCOL.md; from then
 * on the stream comes through fd. Nobody who falls silent is waited for.
 */
int server_open(struct server *server, const struct way_back *way,
		const u8 image_id[16], struct reason *why);
void server_close(struct server *server);

#endif
