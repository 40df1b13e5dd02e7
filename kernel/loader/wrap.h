/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_WRAP_H
#define LOADER_WRAP_H

/*
 * Wraps block devices in linear ones, so that their tables can be exchanged
 * under a mounted file system later. Prints, a line for each, the path to
 * mount: the device itself when it is device-mapper's already or could not be
 * wrapped. Returns how many could not.
 */
int wrap(char *const paths[], int count);

#endif
