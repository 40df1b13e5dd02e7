// SPDX-License-Identifier: GPL-2.0-only
/*
 * The loader's pages come from the heap (--wrap), so that the sanitizer sees an
 * access one byte behind them.
 */
#include "disk.h"

#include <stdlib.h>

void *__wrap_pages_allocate(size_t bytes);
void __wrap_pages_free(void *pages, size_t bytes);

void *__wrap_pages_allocate(size_t bytes)
{
	void *pages;

	return posix_memalign(&pages, BLOCK_BYTES, bytes) ? NULL : pages;
}

void __wrap_pages_free(void *pages, size_t bytes)
{
	(void)bytes;
	free(pages);
}
