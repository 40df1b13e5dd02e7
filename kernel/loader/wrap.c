// SPDX-License-Identifier: GPL-2.0-only
/* Names and UUIDs of wrapped devices are a contract with udev's rules. */
#include "wrap.h"

#include "devmapper.h"
#include "udev-cookie.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NAME_PREFIX "permafrost-"
#define UUID_PREFIX "PERMAFROST-wrap-"
#define KERNEL_NAME_BYTES 64
#define NAME_BYTES (KERNEL_NAME_BYTES + 32)
#define DEVICES_MAX 256

struct wrapped {
	const char *path;		/* what to print */
	char node[NAME_BYTES + 16];	/* our device's node, when there is one */
	dev_t device;
	bool is_new;
};

static bool is_devmapper(dev_t device)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/dm", major(device),
		 minor(device));
	return !access(path, F_OK);
}

static int find_kernel_name(dev_t device, char *name, struct reason *why)
{
	char link[64], target[PATH_MAX];
	const char *slash;
	ssize_t length;

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(device),
		 minor(device));
	length = readlink(link, target, sizeof(target) - 1);
	target[length < 0 ? 0 : length] = '\0';
	slash = strrchr(target, '/');
	if (!slash || strlen(slash + 1) >= KERNEL_NAME_BYTES)
		return refuse(why, "'%s' does not lead to the kernel's name",
			      link);
	strcpy(name, slash + 1);
	return 0;
}

static int measure(const char *path, struct mapped_device *device,
		   dev_t *below, struct reason *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat status;
	int read_only = 0, result = 0;
	u64 bytes = 0;

	if (fd < 0)
		return refuse(why, "cannot open '%s': %s", path,
			      strerror(errno));
	if (fstat(fd, &status) || !S_ISBLK(status.st_mode))
		result = refuse(why, "'%s' is not a block device", path);
	else if (ioctl(fd, BLKGETSIZE64, &bytes) ||
		 ioctl(fd, BLKROGET, &read_only))
		result = refuse(why, "cannot find the size of '%s': %s", path,
				strerror(errno));
	close(fd);
	*below = status.st_rdev;
	device->sectors = bytes / 512;
	device->is_read_only = read_only;
	return result;
}

static int wrap_one(int control, const char *path,
		    const struct udev_cookie *cookie, struct wrapped *to,
		    struct reason *why)
{
	char kernel_name[KERNEL_NAME_BYTES];
	char name[NAME_BYTES], uuid[NAME_BYTES];
	struct mapped_device device = {
		.name = name, .uuid = uuid, .target = "linear",
	};
	dev_t below = 0;

	if (measure(path, &device, &below, why))
		return -1;
	if (is_devmapper(below))
		return 0;
	if (find_kernel_name(below, kernel_name, why))
		return -1;
	snprintf(device.parameters, sizeof(device.parameters), "%u:%u 0",
		 major(below), minor(below));
	snprintf(name, sizeof(name), NAME_PREFIX "%s", kernel_name);
	snprintf(uuid, sizeof(uuid), UUID_PREFIX "%s", kernel_name);
	if (!devmapper_has(control, name, uuid)) {
		if (devmapper_create(control, &device, cookie->value,
				     &to->device, why))
			return -1;
		to->is_new = true;
	}
	snprintf(to->node, sizeof(to->node), "/dev/mapper/%s", name);
	to->path = to->node;
	return 0;
}

/* udev makes a link of it; without udev a node does as well. */
static void make_node(const struct wrapped *wrapped)
{
	if (!access(wrapped->node, F_OK))
		return;
	mkdir("/dev/mapper", 0755);
	if (mknod(wrapped->node, S_IFBLK | 0600, wrapped->device))
		say("cannot make '%s': %s", wrapped->node, strerror(errno));
}

static int wrap_all(int control, char *const paths[], int count,
		    struct wrapped *wrapped)
{
	struct udev_cookie cookie;
	struct reason why;
	int failures = 0;

	udev_cookie_create(&cookie, (unsigned int)count);
	for (int i = 0; i < count; i++) {
		if (wrap_one(control, paths[i], &cookie, &wrapped[i], &why)) {
			say("not wrapping '%s': %s", paths[i], why.text);
			failures++;
		}
		if (!wrapped[i].is_new)
			udev_cookie_forget(&cookie);
	}
	udev_cookie_wait(&cookie);
	for (int i = 0; i < count; i++)
		if (wrapped[i].is_new)
			make_node(&wrapped[i]);
	return failures;
}

int wrap(char *const paths[], int count)
{
	static struct wrapped wrapped[DEVICES_MAX];
	struct reason why;
	int control, failures = count;

	if (count > DEVICES_MAX)
		count = DEVICES_MAX;
	for (int i = 0; i < count; i++)
		wrapped[i].path = paths[i];
	control = devmapper_open(&why);
	if (control < 0) {
		say("not wrapping any device: %s", why.text);
	} else {
		failures = wrap_all(control, paths, count, wrapped);
		close(control);
	}
	for (int i = 0; i < count; i++)
		puts(wrapped[i].path);
	return failures;
}
