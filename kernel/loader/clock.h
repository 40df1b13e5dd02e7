/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_CLOCK_H
#define LOADER_CLOCK_H

#include "types.h"

#include <time.h>

static inline u64 clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000ULL + (u64)now.tv_nsec;
}

static inline double ns_to_seconds(u64 ns)
{
	return (double)ns / 1e9;
}

#endif
