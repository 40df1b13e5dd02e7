/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_DEVMAPPER_H
#define LOADER_DEVMAPPER_H

#include "say.h"
#include "types.h"

#include <sys/types.h>

struct linear_device {
	const char *name;
	const char *uuid;
	dev_t below;		/* the device it maps one to one */
	u64 sectors;
	bool is_read_only;
};

/* Opens device-mapper's control device. */
int devmapper_open(struct reason *why);

/* Is there a device of that name and UUID already? */
bool devmapper_has(int control, const char *name, const char *uuid);

/* Makes the device and lets it run; udev_cookie is for its event. */
int devmapper_create_linear(int control, const struct linear_device *device,
			    u32 udev_cookie, dev_t *created,
			    struct reason *why);

#endif
