// SPDX-License-Identifier: GPL-2.0-only
/*
 * stir MIB STATUS: takes so much shared memory and writes to it without end, page
 * after page, from the first to the last and again, in turn through a mapping and by
 * write(2).  Each page says which it is and in which run it was written.  On
 * SIGUSR1 it checks every byte, and replaces STATUS by one line:
 *
 *   round=R count=C pages=P bad=B
 *
 * C is how many pages it has written, so the first C % P are of the run in which it
 * is and the others of the one before.  R is how many times it was asked.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "status.h"

#define PAGE	4096
#define WORDS	(PAGE / sizeof(uint64_t))

static volatile sig_atomic_t asked;

static void ask(int signal)
{
	(void)signal;
	asked++;
}

static uint64_t word_of(uint64_t page, uint64_t run, uint64_t word)
{
	return (run << 40 | page << 9 | word) * 0x9E3779B97F4A7C15ull;
}

static void fill(uint64_t *memory, uint64_t page, uint64_t run)
{
	for (uint64_t i = 0; i < WORDS; i++)
		memory[i] = word_of(page, run, i);
}

static int is_filled(const uint64_t *memory, uint64_t page, uint64_t run)
{
	for (uint64_t i = 0; i < WORDS; i++)
		if (memory[i] != word_of(page, run, i))
			return 0;
	return 1;
}

static int write_page(int fd, uint64_t page, uint64_t run)
{
	uint64_t words[WORDS];

	fill(words, page, run);
	return pwrite(fd, words, PAGE, page * PAGE) == PAGE;
}

static void report(const char *path, int round, const uint64_t *memory, uint64_t count, uint64_t pages)
{
	FILE *file = status_begin(path);
	uint64_t bad = 0;

	if (!file)
		return;
	for (uint64_t i = 0; i < pages; i++)
		bad += !is_filled(memory + i * WORDS, i, count / pages - (i >= count % pages));
	fprintf(file, "round=%d count=%llu pages=%llu bad=%llu\n", round, (unsigned long long)count,
		(unsigned long long)pages, (unsigned long long)bad);
	status_end(file, path);
}

int main(int argc, char **argv)
{
	uint64_t pages = argc == 3 ? strtoull(argv[1], NULL, 10) * (1048576 / PAGE) : 0;
	uint64_t *memory, count = 0;
	int fd, answered = 0;

	if (!pages) {
		fprintf(stderr, "usage: stir MIB STATUS\n");
		return 2;
	}
	fd = memfd_create("stir", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, pages * PAGE)) {
		perror("Cannot take the memory");
		return 1;
	}
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		perror("Cannot map the memory");
		return 1;
	}
	signal(SIGUSR1, ask);
	for (;; count++) {
		uint64_t page = count % pages, run = count / pages;

		if (count >= pages && answered != asked)
			report(argv[2], answered = asked, memory, count, pages);
		else if (count == pages)
			report(argv[2], 0, memory, count, pages);
		if (page & 1)
			fill(memory + page * WORDS, page, run);
		else if (!write_page(fd, page, run))
			return 1;
		if (page % 64 == 0)
			usleep(1000);
	}
}
