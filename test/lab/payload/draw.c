// SPDX-License-Identifier: GPL-2.0-only
/*
 * draw NUMBER FILE: waits, on each processor, for the end of a time that
 * CLOCK_BOOTTIME has counted and CLOCK_MONOTONIC has not, as a hibernation is,
 * draws NUMBER times sixteen bytes from the random generator at once, writes
 * them to FILE, a line each, and ends.
 *
 * A draw of so few bytes is one step of the generator's chain of keys for that
 * processor (drivers/char/random.c, crng_fast_key_erasure()).  So two systems
 * that go on with one state, and take the same step, draw the same bytes,
 * however many steps others have taken in between.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "status.h"

#define BYTES		16
#define MAX_PROCESSORS	64
#define JUMP_MS		500

static int number;
static unsigned char *drawn[MAX_PROCESSORS];

static int64_t not_counted_ms(void)
{
	struct timespec boottime, monotonic;

	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	clock_gettime(CLOCK_BOOTTIME, &boottime);
	return (boottime.tv_sec - monotonic.tv_sec) * 1000LL + (boottime.tv_nsec - monotonic.tv_nsec) / 1000000;
}

static void *draw(void *argument)
{
	const struct timespec tick = { .tv_nsec = 1000000 };
	uintptr_t processor = (uintptr_t)argument;
	int64_t before = not_counted_ms();
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set)) {
		fprintf(stderr, "Cannot stay on processor %d\n", (int)processor);
		exit(1);
	}
	while (not_counted_ms() - before < JUMP_MS)
		nanosleep(&tick, NULL);
	for (int i = 0; i < number; i++) {
		if (getrandom(drawn[processor] + i * BYTES, BYTES, 0) != BYTES)
			exit(1);
	}
	return NULL;
}

static void report(const char *path, int processors)
{
	FILE *file = status_begin(path);

	if (!file)
		return;
	for (int i = 0; i < processors * number; i++) {
		for (int byte = 0; byte < BYTES; byte++)
			fprintf(file, "%02x", drawn[i / number][i % number * BYTES + byte]);
		fprintf(file, "\n");
	}
	status_end(file, path);
}

int main(int argc, char **argv)
{
	int processors = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[MAX_PROCESSORS];

	number = argc == 3 ? atoi(argv[1]) : 0;
	if (number < 1 || processors > MAX_PROCESSORS) {
		fprintf(stderr, "usage: draw NUMBER FILE\n");
		return 2;
	}
	for (int i = 0; i < processors; i++) {
		drawn[i] = calloc(number, BYTES);
		if (!drawn[i] || pthread_create(&threads[i], NULL, draw, (void *)(uintptr_t)i)) {
			fprintf(stderr, "Cannot start a thread\n");
			return 1;
		}
	}
	for (int i = 0; i < processors; i++)
		pthread_join(threads[i], NULL);
	report(argv[2], processors);
	return 0;
}
