// SPDX-License-Identifier: GPL-2.0-only
/*
 * sleepers NUMBER STATUS: so many processes, each asleep in one of the calls in
 * which programs wait, with a count in memory of its own.  On SIGUSR1 each is
 * woken and says its count and whether its call has failed; then STATUS is
 * replaced by one line:
 *
 *   round=R answered=A wrong=W
 *
 * A count that is not R, or a call that failed (EINTR above all), is wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "status.h"

#define PATIENCE_MS	60000

struct answer {
	uint32_t round, failures;
};

static int wait_by_read(int fd)
{
	char byte;

	return read(fd, &byte, 1);
}

static int wait_by_recv(int fd)
{
	char byte;

	return recv(fd, &byte, 1, 0);
}

static int wait_by_readv(int fd)
{
	char byte;
	struct iovec place = { .iov_base = &byte, .iov_len = 1 };

	return readv(fd, &place, 1);
}

static int wait_by_poll(int fd)
{
	struct pollfd one = { .fd = fd, .events = POLLIN };

	return poll(&one, 1, -1) == 1 ? wait_by_read(fd) : -1;
}

static int wait_by_select(int fd)
{
	fd_set set;

	if (fd >= FD_SETSIZE)
		return wait_by_read(fd);
	FD_ZERO(&set);
	FD_SET(fd, &set);
	return select(fd + 1, &set, NULL, NULL, NULL) == 1 ? wait_by_read(fd) : -1;
}

static int wait_by_epoll(int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int set = epoll_create1(EPOLL_CLOEXEC);
	int ready;

	if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)) {
		close(set);
		return -1;
	}
	ready = epoll_wait(set, &event, 1, -1);
	close(set);
	return ready == 1 ? wait_by_read(fd) : -1;
}

static int (*const ways[])(int) = {
	wait_by_read, wait_by_recv, wait_by_readv, wait_by_poll, wait_by_select, wait_by_epoll,
};

static void sleep_for_ever(int fd, int (*wait)(int))
{
	struct answer answer = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		if (wait(fd) != 1) {
			answer.failures++;
			continue;
		}
		answer.round++;
		if (send(fd, &answer, sizeof(answer), 0) != sizeof(answer))
			_exit(1);
	}
}

static int *start(int number)
{
	const struct rlimit files = { .rlim_cur = number + 16, .rlim_max = number + 16 };
	int *sockets = calloc(number, sizeof(int));

	if (!sockets || setrlimit(RLIMIT_NOFILE, &files))
		return NULL;
	for (int i = 0; i < number; i++) {
		int pair[2];
		pid_t pid;

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
			return NULL;
		pid = fork();
		if (pid < 0)
			return NULL;
		if (pid == 0)
			sleep_for_ever(pair[1], ways[i % (sizeof(ways) / sizeof(ways[0]))]);
		close(pair[1]);
		sockets[i] = pair[0];
	}
	return sockets;
}

static int hear(int socket, struct answer *answer)
{
	struct pollfd one = { .fd = socket, .events = POLLIN };

	return poll(&one, 1, PATIENCE_MS) == 1 &&
	       recv(socket, answer, sizeof(*answer), MSG_WAITALL) == sizeof(*answer);
}

static void report(const char *path, int round, int answered, int wrong)
{
	FILE *file = status_begin(path);

	if (!file)
		return;
	fprintf(file, "round=%d answered=%d wrong=%d\n", round, answered, wrong);
	status_end(file, path);
}

static void wake_all(const int *sockets, int number, int round, const char *path)
{
	int answered = 0, wrong = 0;

	for (int i = 0; i < number; i++)
		send(sockets[i], "", 1, MSG_NOSIGNAL);
	for (int i = 0; i < number; i++) {
		struct answer answer;

		if (!hear(sockets[i], &answer))
			continue;
		answered++;
		wrong += answer.round != (uint32_t)round || answer.failures != 0;
	}
	report(path, round, answered, wrong);
}

int main(int argc, char **argv)
{
	int number = argc == 3 ? atoi(argv[1]) : 0;
	sigset_t asking;
	int *sockets;

	if (number < 1) {
		fprintf(stderr, "usage: sleepers NUMBER STATUS\n");
		return 2;
	}
	sigemptyset(&asking);
	sigaddset(&asking, SIGUSR1);
	sigprocmask(SIG_BLOCK, &asking, NULL);
	sockets = start(number);
	if (!sockets) {
		perror("Cannot start the sleepers");
		return 1;
	}
	report(argv[2], 0, number, 0);
	for (int round = 1;; round++) {
		if (sigwaitinfo(&asking, NULL) == SIGUSR1)
			wake_all(sockets, number, round, argv[2]);
	}
}
