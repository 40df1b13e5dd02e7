// SPDX-License-Identifier: GPL-2.0-only
/*
 * timers STATUS: clocks, two timers that are far from due, and threads that
 * sleep in every way for short times, over and over.  On SIGUSR1 STATUS is
 * replaced by one line, times in microseconds:
 *
 *   round=R monotonic=T boottime=T realtime=T left_monotonic=T left_boottime=T slept=N early=N
 *
 * left_… is what timerfd_gettime(2) says of the timers that are far from due.
 * early counts sleeps that were shorter, by CLOCK_MONOTONIC, than what was asked.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "status.h"

#define FAR_S	1000000

static unsigned long slept, early;

static int64_t microseconds(struct timespec t)
{
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return microseconds(t);
}

static void by_nanosleep(int ms)
{
	const struct timespec length = { .tv_nsec = ms * 1000000L };

	nanosleep(&length, NULL);
}

static void by_poll(int ms)
{
	poll(NULL, 0, ms);
}

static void by_select(int ms)
{
	struct timeval length = { .tv_usec = ms * 1000L };

	select(0, NULL, NULL, NULL, &length);
}

static void by_epoll(int ms)
{
	struct epoll_event event;
	int set = epoll_create1(EPOLL_CLOEXEC);

	epoll_wait(set, &event, 1, ms);
	close(set);
}

static void by_timerfd(int ms)
{
	const struct itimerspec length = { .it_value.tv_nsec = ms * 1000000L };
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	uint64_t expirations;

	timerfd_settime(timer, 0, &length, NULL);
	if (read(timer, &expirations, sizeof(expirations)) < 0)
		perror("read of a timer");
	close(timer);
}

static void by_posix_timer(int ms)
{
	const struct itimerspec length = { .it_value.tv_nsec = ms * 1000000L };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	timer_t timer;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &length, NULL);
	while (sigwaitinfo(&set, NULL) < 0)
		;
	timer_delete(timer);
}

static void (*const ways[])(int) = { by_nanosleep, by_poll, by_select, by_epoll, by_timerfd, by_posix_timer };

#define WAYS	(sizeof(ways) / sizeof(ways[0]))

static void *sleep_over_and_over(void *way)
{
	void (*wait)(int) = ways[(uintptr_t)way];

	for (int ms = 100;; ms = ms % 900 + 100) {
		int64_t before = now(CLOCK_MONOTONIC);

		wait(ms);
		if (now(CLOCK_MONOTONIC) - before < ms * 1000LL)
			__atomic_add_fetch(&early, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&slept, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static int start_far(clockid_t clock)
{
	const struct itimerspec length = { .it_value.tv_sec = FAR_S };
	int timer = timerfd_create(clock, TFD_CLOEXEC);

	return timer < 0 || timerfd_settime(timer, 0, &length, NULL) ? -1 : timer;
}

static int64_t left(int timer)
{
	struct itimerspec rest = { 0 };

	timerfd_gettime(timer, &rest);
	return microseconds(rest.it_value);
}

static void report(const char *path, int round, int monotonic, int boottime)
{
	FILE *file = status_begin(path);

	if (!file)
		return;
	fprintf(file, "round=%d monotonic=%lld boottime=%lld realtime=%lld left_monotonic=%lld left_boottime=%lld"
		" slept=%lu early=%lu\n", round, (long long)now(CLOCK_MONOTONIC), (long long)now(CLOCK_BOOTTIME),
		(long long)now(CLOCK_REALTIME), (long long)left(monotonic), (long long)left(boottime),
		__atomic_load_n(&slept, __ATOMIC_RELAXED), __atomic_load_n(&early, __ATOMIC_RELAXED));
	status_end(file, path);
}

int main(int argc, char **argv)
{
	int monotonic = start_far(CLOCK_MONOTONIC), boottime = start_far(CLOCK_BOOTTIME);
	sigset_t set, asking;

	if (argc != 2 || monotonic < 0 || boottime < 0) {
		fprintf(stderr, "usage: timers STATUS\n");
		return 2;
	}
	sigemptyset(&asking);
	sigaddset(&asking, SIGUSR1);
	set = asking;
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (uintptr_t way = 0; way < WAYS; way++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, sleep_over_and_over, (void *)way)) {
			fprintf(stderr, "Cannot start a thread\n");
			return 1;
		}
	}
	report(argv[1], 0, monotonic, boottime);
	for (int round = 1;; round++) {
		if (sigwaitinfo(&asking, NULL) == SIGUSR1)
			report(argv[1], round, monotonic, boottime);
	}
}
