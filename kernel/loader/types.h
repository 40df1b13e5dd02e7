/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_TYPES_H
#define LOADER_TYPES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define MIB (1024ULL * 1024ULL)

/* Direct I/O is done in these units, which suit every logical sector size. */
#define BLOCK_BYTES 4096U

/* Sizes, places and times of the format are below: exact in every language. */
#define QUANTITY_END (1ULL << 53)

static inline u32 read_le32(const u8 *bytes)
{
	u32 value;

	memcpy(&value, bytes, sizeof(value));
	return le32toh(value);
}

static inline u64 read_le64(const u8 *bytes)
{
	u64 value;

	memcpy(&value, bytes, sizeof(value));
	return le64toh(value);
}

static inline void write_le64(u8 *bytes, u64 value)
{
	value = htole64(value);
	memcpy(bytes, &value, sizeof(value));
}

/* Is [offset, offset + bytes) inside [start, start + length)? */
static inline bool is_inside(u64 offset, u64 bytes, u64 start, u64 length)
{
	return offset >= start && bytes <= length &&
	       offset - start <= length - bytes;
}

static inline bool is_zero(const u8 *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i])
			return false;
	return true;
}

/* A text, at least one NUL, and nothing but NULs behind it? */
static inline bool is_padded_text(const u8 *field, size_t bytes)
{
	const u8 *end = memchr(field, 0, bytes);

	return end && is_zero(end, (size_t)(field + bytes - end));
}

#endif
