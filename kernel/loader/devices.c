// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which block devices there are. A device-mapper device is looked at too, since
 * a spare device may be encrypted or a logical volume, but none of our own.
 */
#include "devices.h"

#include "types.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLASS "/sys/class/block"
#define OWN_UUID "PERMAFROST-"

static bool has_unsuitable_name(const char *name)
{
	/* Removable media without a medium, memory, and what others back. */
	static const char *const prefixes[] = {
		"loop", "ram", "zram", "sr", "fd", "mtdblock",
	};

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		const size_t length = strlen(prefixes[i]);

		if (!strncmp(name, prefixes[i], length) &&
		    name[length] >= '0' && name[length] <= '9')
			return true;
	}
	return false;
}

static ssize_t read_attribute(const char *name, const char *attribute,
			      char *value, size_t capacity)
{
	char path[DEVICE_PATH_BYTES + 64];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), CLASS "/%s/%s", name, attribute);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	got = read(fd, value, capacity - 1);
	close(fd);
	value[got < 0 ? 0 : got] = '\0';
	return got;
}

static bool is_our_own(const char *name)
{
	char uuid[160];

	return read_attribute(name, "dm/uuid", uuid, sizeof(uuid)) > 0 &&
	       !strncmp(uuid, OWN_UUID, strlen(OWN_UUID));
}

static bool has_bytes(const char *name)
{
	char sectors[32];

	return read_attribute(name, "size", sectors, sizeof(sectors)) > 0 &&
	       strtoull(sectors, NULL, 10) > 0;
}

void devices_scan(device_visitor visit, void *context)
{
	DIR *directory = opendir(CLASS);
	struct dirent *entry;

	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		char path[DEVICE_PATH_BYTES];

		if (entry->d_name[0] == '.' ||
		    has_unsuitable_name(entry->d_name) ||
		    !has_bytes(entry->d_name) || is_our_own(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		/* sysfs has '!' where the name has a slash. */
		for (char *at = path; *at; at++)
			if (*at == '!')
				*at = '/';
		visit(context, path);
	}
	closedir(directory);
}
