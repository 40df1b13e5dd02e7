// SPDX-License-Identifier: GPL-2.0-only
/*
 * append FILE [MARK]: appends the lines "1 MARK TIME", "2 MARK TIME", … to FILE,
 * each with fsync, ten a second; TIME is the wall clock in nanoseconds, so no two
 * lines ever written are alike.  The number lives in memory only: after a resume
 * the file goes on without a gap and without a repetition exactly when memory and
 * file system are of the same instant.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const struct timespec tick = { .tv_nsec = 100000000 };
	char line[256];
	int fd;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: append FILE [MARK]\n");
		return 2;
	}
	fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	for (unsigned long number = 1;; number++) {
		struct timespec now;
		int len;

		clock_gettime(CLOCK_REALTIME, &now);
		len = snprintf(line, sizeof(line), "%lu %s %lld%09ld\n", number, argc == 3 ? argv[2] : "line",
			       (long long)now.tv_sec, now.tv_nsec);
		if (write(fd, line, len) != len || fsync(fd)) {
			perror(argv[1]);
			return 1;
		}
		nanosleep(&tick, NULL);
	}
}
