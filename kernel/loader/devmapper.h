/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_DEVMAPPER_H
#define LOADER_DEVMAPPER_H

#include "say.h"
#include "types.h"

#include <sys/types.h>

#define PARAMETERS_BYTES 128

/* A device with a table of one target. */
struct mapped_device {
	const char *name;
	const char *uuid;
	const char *target;
	char parameters[PARAMETERS_BYTES];
	u64 sectors;
	bool is_read_only;
};

/* Opens device-mapper's control device. */
int devmapper_open(struct reason *why);

/* Is there a device of that name and UUID already? */
bool devmapper_has(int control, const char *name, const char *uuid);

/* Makes the device and lets it run; udev_cookie is for its event. */
int devmapper_create(int control, const struct mapped_device *device,
		     u32 udev_cookie, dev_t *created, struct reason *why);

/* What the device's target says of itself, NUL terminated. */
int devmapper_status(int control, const char *name,
		     char status[PARAMETERS_BYTES], struct reason *why);

/* Removes the device; whoever looks at it just now is waited for. */
int devmapper_remove(int control, const char *name, struct reason *why);

#endif
