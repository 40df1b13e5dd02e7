/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_DEVICES_H
#define LOADER_DEVICES_H

#define DEVICE_PATH_BYTES 300

typedef void (*device_visitor)(void *context, const char *path);

/* Visits every block device that may be a spare device with an image on it. */
void devices_scan(device_visitor visit, void *context);

#endif
