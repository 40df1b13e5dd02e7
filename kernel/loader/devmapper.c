// SPDX-License-Identifier: GPL-2.0-only
/* Device-mapper's ioctls, as far as a device of one target needs them. */
#include "devmapper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CONTROL "/dev/mapper/control"
#define CONTROL_NUMBER "/sys/class/misc/device-mapper/dev"

/* Five seconds: udev looks at a new device for much less. */
#define REMOVE_TRIES 250U
#define REMOVE_POLL_MICROSECONDS 20000U

/* An ioctl's fixed part with room for one target and its parameters. */
struct request {
	struct dm_ioctl io;
	struct dm_target_spec target;
	char parameters[PARAMETERS_BYTES];
};

/* Without udev or devtmpfs the node has to be made. */
static int make_control_node(void)
{
	unsigned int major_number, minor_number;
	FILE *file = fopen(CONTROL_NUMBER, "re");
	int fields;

	if (!file)
		return -1;
	fields = fscanf(file, "%u:%u", &major_number, &minor_number);
	fclose(file);
	if (fields != 2)
		return -1;
	mkdir("/dev/mapper", 0755);
	return mknod(CONTROL, S_IFCHR | 0600,
		     makedev(major_number, minor_number));
}

int devmapper_open(struct reason *why)
{
	int control = open(CONTROL, O_RDWR | O_CLOEXEC);

	if (control < 0 && errno == ENOENT && !make_control_node())
		control = open(CONTROL, O_RDWR | O_CLOEXEC);
	if (control < 0)
		return refuse(why, "the kernel has no device-mapper ('%s': %s)",
			      CONTROL, strerror(errno));
	return control;
}

static int prepare(struct request *request, const char *name)
{
	memset(request, 0, sizeof(*request));
	/* The first of its interface: every kernel of this major takes it. */
	request->io.version[0] = DM_VERSION_MAJOR;
	request->io.data_size = sizeof(*request);
	request->io.data_start = offsetof(struct request, target);
	if (strlen(name) >= sizeof(request->io.name)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(request->io.name, name, strlen(name));
	return 0;
}

bool devmapper_has(int control, const char *name, const char *uuid)
{
	struct request request;

	return !prepare(&request, name) &&
	       !ioctl(control, DM_DEV_STATUS, &request) &&
	       !strcmp(request.io.uuid, uuid);
}

static int create(int control, const struct mapped_device *device,
		  dev_t *created)
{
	struct request request;

	if (prepare(&request, device->name))
		return -1;
	if (strlen(device->uuid) >= sizeof(request.io.uuid)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(request.io.uuid, device->uuid, strlen(device->uuid));
	if (ioctl(control, DM_DEV_CREATE, &request))
		return -1;
	*created = (dev_t)request.io.dev;
	return 0;
}

static int load(int control, const struct mapped_device *device)
{
	struct request request;

	if (prepare(&request, device->name))
		return -1;
	if (device->is_read_only)
		request.io.flags |= DM_READONLY_FLAG;
	request.io.target_count = 1;
	request.target.length = device->sectors;
	request.target.next = sizeof(request.target) +
			      sizeof(request.parameters);
	memcpy(request.target.target_type, device->target,
	       strlen(device->target));
	memcpy(request.parameters, device->parameters,
	       sizeof(request.parameters));
	return ioctl(control, DM_TABLE_LOAD, &request);
}

static int start(int control, const char *name, u32 udev_cookie)
{
	struct request request;

	if (prepare(&request, name))
		return -1;
	request.io.event_nr = udev_cookie;
	return ioctl(control, DM_DEV_SUSPEND, &request);
}

int devmapper_remove(int control, const char *name, struct reason *why)
{
	struct request request;

	for (unsigned int tries = REMOVE_TRIES;; tries--) {
		if (!prepare(&request, name) &&
		    !ioctl(control, DM_DEV_REMOVE, &request))
			return 0;
		if (errno != EBUSY || !tries)
			return refuse(why, "cannot remove '%s': %s", name,
				      strerror(errno));
		usleep(REMOVE_POLL_MICROSECONDS);
	}
}

int devmapper_status(int control, const char *name,
		     char status[PARAMETERS_BYTES], struct reason *why)
{
	struct request request;

	if (prepare(&request, name) ||
	    ioctl(control, DM_TABLE_STATUS, &request))
		return refuse(why, "cannot ask for the status of '%s': %s",
			      name, strerror(errno));
	if (request.io.target_count != 1 ||
	    request.io.flags & DM_BUFFER_FULL_FLAG)
		return refuse(why, "the status of '%s' is longer than expected",
			      name);
	memcpy(status, request.parameters, PARAMETERS_BYTES);
	status[PARAMETERS_BYTES - 1] = '\0';
	return 0;
}

int devmapper_create(int control, const struct mapped_device *device,
		     u32 udev_cookie, dev_t *created, struct reason *why)
{
	struct reason ignored;
	int cause;

	if (create(control, device, created))
		return refuse(why, "cannot create '%s': %s", device->name,
			      strerror(errno));
	if (!load(control, device) &&
	    !start(control, device->name, udev_cookie))
		return 0;
	cause = errno;
	/* Left over without a table it would be in nobody's way. */
	devmapper_remove(control, device->name, &ignored);
	return refuse(why, "cannot load the table of '%s': %s", device->name,
		      strerror(cause));
}
