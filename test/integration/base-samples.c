// SPDX-License-Identifier: GPL-2.0-only
/*
 * base-samples BASE SPARE: what the loader finds of the first merge that is
 * listed on a spare device, by ordinary files.
 */
#include "base-samples.h"

#include <fcntl.h>
#include <stdio.h>

static int check(const struct disk *base, const struct disk *spare,
		 struct reason *why)
{
	static struct merge_list list;
	struct superblock superblock;

	if (superblock_read(spare, &superblock, why) != SUPERBLOCK_READ ||
	    merge_list_read(spare, &superblock, &list, why) || !list.count)
		return -2;
	return base_samples_check(base, spare, &list.merges[0], why);
}

int main(int count, char **words)
{
	struct reason why = { .text = "" };
	struct disk base, spare;
	int result;

	if (count != 3 || disk_open(&base, words[1], O_RDONLY, &why) ||
	    disk_open(&spare, words[2], O_RDONLY, &why))
		return 2;
	result = check(&base, &spare, &why);
	printf("%d %s\n", result, result < 0 ? why.text : "");
	disk_close(&base);
	disk_close(&spare);
	return 0;
}
