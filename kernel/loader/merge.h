/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_MERGE_H
#define LOADER_MERGE_H

/*
 * Finishes the merges that a power cut interrupted, on every spare device
 * there is, or on the one given. Nothing of it may be mounted yet. Waits so
 * long for devices that are not there. Returns how many could not be finished.
 */
int merge(const char *device, unsigned int wait_seconds);

#endif
