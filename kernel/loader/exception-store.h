/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_EXCEPTION_STORE_H
#define LOADER_EXCEPTION_STORE_H

#include "disk.h"

/* The store that a device-mapper snapshot keeps in a slice of a disk. */
struct exception_store {
	const struct disk *disk;
	u64 offset;		/* from the start of the disk */
	u64 bytes;
	u32 chunk_bytes;
};

/* A chunk of the base of which the store has a newer copy. */
struct exception {
	u64 index;		/* in the order of writing */
	u64 base_chunk;
	u64 store_chunk;
};

/* Returns not 0, with a reason, to end. */
typedef int (*exception_visitor)(void *context,
				 const struct exception *exception,
				 struct reason *why);

/* Visits what is not merged yet; returns not 0 when it or the visitor failed. */
int exception_store_scan(const struct exception_store *store,
			 exception_visitor visit, void *context,
			 struct reason *why);

/* Is everything merged, for certain? */
bool exception_store_is_empty(const struct exception_store *store);

/*
 * What is merged next is merged, and taken off the store, all at once: the last
 * chunks that follow one another on base and store. Gives the index of the
 * first of them.
 */
int exception_store_find_last_run(const struct exception_store *store,
				  u64 *index, struct reason *why);

#endif
