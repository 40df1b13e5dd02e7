// SPDX-License-Identifier: GPL-2.0-only
/*
 * hold MIB STATUS [CONTENT] [shared]: takes so much memory, fills every page, and counts.
 * CONTENT is half (the default: bytes that only this page has, half of them
 * compressible, as memory is), random, text (words, in an order that only this
 * page has) or zeros; shared memory is that of files in memory.  On SIGUSR1 it checks every byte and replaces STATUS by one
 * line:
 *
 *   round=R count=C pages=P bad=B
 *
 * R is how many times it was asked, so whoever asks can wait for the answer.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "status.h"

#define PAGE	4096
#define WORDS	(PAGE / sizeof(uint64_t))

enum content { HALF, RANDOM, TEXT, ZEROS };

static volatile sig_atomic_t asked;

static void ask(int signal)
{
	(void)signal;
	asked++;
}

static uint64_t next(uint64_t x)
{
	x ^= x << 13;
	x ^= x >> 7;
	return x ^ x << 17;
}

static void make_random(uint64_t *page, uint64_t x, size_t words)
{
	for (size_t i = 0; i < WORDS; i++) {
		if (i < words)
			x = next(x);
		page[i] = x;
	}
}

static void make_text(char *page, uint64_t x)
{
	static const char *const words[] = {
		"the ", "kernel ", "copies ", "memory ", "while ", "every ", "process ", "sleeps, ", "and ", "a ",
		"machine ", "goes ", "on ", "where ", "it ", "was ", "when ", "power ", "comes ", "back.\n", "file ",
		"system ", "of ", "snapshot ", "image ", "written ", "in ", "chunks ", "to ", "device ", "page ", "is ",
	};
	size_t filled = 0;

	while (filled < PAGE) {
		const char *word;

		x = next(x);
		word = words[x >> 59];
		while (*word && filled < PAGE)
			page[filled++] = *word++;
	}
}

static void make_page(uint64_t *page, uint64_t number, enum content content)
{
	uint64_t x = number * 0x9E3779B97F4A7C15ull + 0x5045524D41465253ull;

	switch (content) {
	case HALF:
		make_random(page, x, WORDS / 2);
		break;
	case RANDOM:
		make_random(page, x, WORDS);
		break;
	case TEXT:
		make_text((char *)page, x);
		break;
	case ZEROS:
		memset(page, 0, PAGE);
		break;
	}
}

static int parse_content(const char *name)
{
	static const char *const names[] = { [HALF] = "half", [RANDOM] = "random", [TEXT] = "text", [ZEROS] = "zeros" };

	for (int i = 0; i < 4; i++)
		if (!strcmp(name, names[i]))
			return i;
	return -1;
}

static uint64_t count_bad(const unsigned char *memory, uint64_t pages, enum content content)
{
	uint64_t wanted[WORDS], bad = 0;

	for (uint64_t i = 0; i < pages; i++) {
		make_page(wanted, i, content);
		bad += memcmp(memory + i * PAGE, wanted, PAGE) != 0;
	}
	return bad;
}

static void report(const char *path, int round, uint64_t count, uint64_t pages, uint64_t bad)
{
	FILE *file = status_begin(path);

	if (!file)
		return;
	fprintf(file, "round=%d count=%llu pages=%llu bad=%llu\n", round, (unsigned long long)count,
		(unsigned long long)pages, (unsigned long long)bad);
	status_end(file, path);
}

int main(int argc, char **argv)
{
	const struct timespec tick = { .tv_nsec = 1000000 };
	uint64_t pages, count = 0;
	unsigned char *memory;
	int content = argc > 3 ? parse_content(argv[3]) : HALF;
	int is_shared = argc == 5 && !strcmp(argv[4], "shared");
	int answered = 0;

	if (argc < 3 || argc > 5 || content < 0 || (argc == 5 && !is_shared)) {
		fprintf(stderr, "usage: hold MIB STATUS [half|random|text|zeros] [shared]\n");
		return 2;
	}
	pages = strtoull(argv[1], NULL, 10) * (1048576 / PAGE);
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
		      MAP_ANONYMOUS | (is_shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	if (memory == MAP_FAILED) {
		perror("Cannot take the memory");
		return 1;
	}
	for (uint64_t i = 0; i < pages; i++)
		make_page((uint64_t *)(memory + i * PAGE), i, content);
	signal(SIGUSR1, ask);
	report(argv[2], 0, 0, pages, 0);
	for (;; count++) {
		if (answered != asked) {
			answered = asked;
			report(argv[2], answered, count, pages, count_bad(memory, pages, content));
		}
		nanosleep(&tick, NULL);
	}
}
