/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_BASE_SAMPLES_H
#define LOADER_BASE_SAMPLES_H

#include "merge-list.h"

/*
 * Nobody but the merge itself writes to what is not merged yet, unless the file
 * system was used without its slice: then merging would destroy it. Returns 1
 * when it was, 0 when there is no sign of it, -1 when that cannot be told.
 */
int base_samples_check(const struct disk *base, const struct disk *spare,
		       const struct pending_merge *pending,
		       struct reason *why);

#endif
