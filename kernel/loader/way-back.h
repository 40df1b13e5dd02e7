/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_WAY_BACK_H
#define LOADER_WAY_BACK_H

#include "header.h"

/* How an image that went to a server is fetched: the record of FORMAT.md. */
struct way_back {
	char target[256];
	char host[256];
	char address[16];
	char port[6];
	char name[64];
	char mac[18];		/* empty: no card has to be brought up */
	char local[16];
	char netmask[16];
	char gateway[16];	/* empty: none on the way */
	bool is_tls;
};

/*
 * What the header says. Returns 1 when it says nothing, so that somebody else
 * has to bring the image.
 */
int way_back_read(const struct header *header, struct way_back *way,
		  struct reason *why);

#endif
