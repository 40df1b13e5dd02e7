/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_UDEV_COOKIE_H
#define LOADER_UDEV_COOKIE_H

#include "types.h"

/*
 * What libdevmapper and udev's rules for device-mapper agree on: an event that
 * carries a cookie comes from whoever made the device, and udev counts a
 * semaphore of that name down when it is through with the event.
 */
struct udev_cookie {
	int semaphore;		/* -1: nobody to wait for */
	u32 value;		/* for the event_nr of a resume */
};

/* Expects udev to handle so many events. */
void udev_cookie_create(struct udev_cookie *cookie, unsigned int events);

/* One of the expected events will not come. */
void udev_cookie_forget(const struct udev_cookie *cookie);

/* Waits until udev is through, with a limit, and takes the semaphore away. */
void udev_cookie_wait(struct udev_cookie *cookie);

#endif
