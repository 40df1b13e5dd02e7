/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_RESUME_H
#define LOADER_RESUME_H

#include "superblock.h"

/*
 * Resumes the valid image of the device, or of any device when it is NULL.
 * Returns when there is nothing to resume or it was refused: the ordinary boot
 * goes on, and no valid image is left behind. An early call, when devices may
 * still be missing, resumes or leaves everything as it is.
 */
void resume(const char *device, bool is_early);

/* Does the kernel command line have 'noresume'? */
bool resume_is_forbidden(void);

/* File systems that are half written back are not those of the image. */
int resume_check_merges(const struct disk *disk,
			const struct superblock *superblock,
			struct reason *why);

#endif
