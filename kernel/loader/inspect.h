/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_INSPECT_H
#define LOADER_INSPECT_H

#include <stdbool.h>

struct inspection {
	bool is_verifying;	/* read and check every chunk */
	bool is_foreign;	/* do not compare with this machine */
	const char *from;	/* a stream the device gives leave to, or NULL */
	bool is_fetching;	/* that stream comes from its server */
};

/* Prints what is on a device or in a file. Returns 0 when all of it is good. */
int inspect(const char *path, const struct inspection *inspection);

#endif
