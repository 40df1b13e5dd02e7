/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef FUZZ_RECORDS_H
#define FUZZ_RECORDS_H

#include "superblock.h"

#include <xxhash.h>

#define CHUNK_ENTRY_BYTES 32U
#define RECORD_CHUNKS 2U

/* Its digest is of all that is before it, and ends it. */
static inline void seal_superblock(u8 *sector)
{
	write_le64(sector + SUPERBLOCK_BYTES - 8,
		   XXH64(sector, SUPERBLOCK_BYTES - 8, 0));
}

typedef void (*chunk_visitor)(void *context, u8 *entry);

/* Calls visit for every entry of every chunk table in the header section. */
static inline void visit_chunks(u8 *section, u64 bytes, chunk_visitor visit,
				void *context)
{
	for (u64 at = 0; at + 8 <= bytes;) {
		const u64 length = read_le32(section + at + 4);
		u8 *payload = section + at + 8;

		if (length > bytes - at - 8)
			return;
		if (read_le32(section + at) == RECORD_CHUNKS)
			for (u64 entry = 8; entry + CHUNK_ENTRY_BYTES <= length;
			     entry += CHUNK_ENTRY_BYTES)
				visit(context, payload + entry);
		at += 8 + ((length + 7) & ~7ULL);
	}
}

#endif
