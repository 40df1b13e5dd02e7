// SPDX-License-Identifier: GPL-2.0-only
/*
 * Numbers are those of libdm/libdevmapper.h: a cookie's upper half is flags in
 * the event, and the magic in the name of the semaphore.
 */
#include "udev-cookie.h"

#include <sys/random.h>
#include <sys/sem.h>
#include <time.h>
#include <unistd.h>

#define UPPER_HALF 16
#define MAGIC 0x0d4dU
#define PRIMARY_SOURCE_FLAG 0x0040U
#define TRIES 16
#define WAIT_SECONDS 10

union semaphore_argument {
	int value;
};

static bool is_udev_answering(void)
{
	static const char *const rules[] = {
		"/lib/udev/rules.d/95-dm-notify.rules",
		"/usr/lib/udev/rules.d/95-dm-notify.rules",
		"/etc/udev/rules.d/95-dm-notify.rules",
	};

	if (access("/run/udev/control", F_OK))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (!access(rules[i], F_OK))
			return true;
	return false;
}

void udev_cookie_create(struct udev_cookie *cookie, unsigned int events)
{
	const union semaphore_argument initial = { .value = (int)events };

	cookie->semaphore = -1;
	cookie->value = PRIMARY_SOURCE_FLAG << UPPER_HALF;
	if (!is_udev_answering())
		return;
	for (int i = 0; i < TRIES && cookie->semaphore < 0; i++) {
		uint16_t base;

		if (getrandom(&base, sizeof(base), GRND_NONBLOCK) !=
		    (ssize_t)sizeof(base))
			base = (uint16_t)(getpid() + i);
		if (!base)
			continue;
		cookie->semaphore = semget((key_t)(MAGIC << UPPER_HALF | base),
					   1, 0600 | IPC_CREAT | IPC_EXCL);
		if (cookie->semaphore >= 0)
			cookie->value |= base;
	}
	if (cookie->semaphore >= 0)
		semctl(cookie->semaphore, 0, SETVAL, initial);
}

void udev_cookie_forget(const struct udev_cookie *cookie)
{
	struct sembuf down = { .sem_op = -1, .sem_flg = IPC_NOWAIT };

	if (cookie->semaphore >= 0)
		semop(cookie->semaphore, &down, 1);
}

void udev_cookie_wait(struct udev_cookie *cookie)
{
	const struct timespec limit = { .tv_sec = WAIT_SECONDS };
	struct sembuf zero = { .sem_op = 0 };

	if (cookie->semaphore < 0)
		return;
	/* After the limit udev's part is done without it. */
	semtimedop(cookie->semaphore, &zero, 1, &limit);
	semctl(cookie->semaphore, 0, IPC_RMID);
	cookie->semaphore = -1;
}
