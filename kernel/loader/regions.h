/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_REGIONS_H
#define LOADER_REGIONS_H

#include "header.h"

/*
 * Is every file system on its device as it was at the snapshot? A device that
 * is not there yet is waited for until wait_seconds are over.
 */
int regions_check(const struct header *header, unsigned int wait_seconds,
		  struct reason *why);

#endif
