// SPDX-License-Identifier: GPL-2.0-only
/*
 * look FILE COPY: maps FILE, and has none of its pages in memory.  At SIGUSR1 it
 * reads all of the mapping and writes what it saw to COPY.
 *
 * Who waits for a page of a mapped file is asleep in a page fault, which nothing
 * but an answer of the device or server ends (mm/filemap.c, filemap_fault()).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"

static void *map(const char *path, size_t *bytes)
{
	int fd = open(path, O_RDONLY);
	struct stat status;
	void *mapped;

	if (fd < 0 || fstat(fd, &status))
		return NULL;
	*bytes = status.st_size;
	mapped = mmap(NULL, *bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		return NULL;
	return mapped;
}

int main(int argc, char **argv)
{
	size_t bytes = 0;
	void *mapped, *seen;
	sigset_t set;
	FILE *file;
	int signal;

	if (argc != 3) {
		fprintf(stderr, "usage: look FILE COPY\n");
		return 2;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	mapped = map(argv[1], &bytes);
	seen = malloc(bytes);
	if (!mapped || !seen) {
		perror(argv[1]);
		return 1;
	}
	sigwait(&set, &signal);
	memcpy(seen, mapped, bytes);
	file = status_begin(argv[2]);
	if (!file || fwrite(seen, 1, bytes, file) != bytes) {
		perror(argv[2]);
		return 1;
	}
	status_end(file, argv[2]);
	return 0;
}
