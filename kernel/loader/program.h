/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_PROGRAM_H
#define LOADER_PROGRAM_H

#include "say.h"

#include <sys/types.h>

/* Somebody else's program, whose standard output is read. */
struct program {
	int fd;
	pid_t pid;
};

/* Starts it with our standard input and error output, without arguments. */
int program_start(struct program *program, const char *path,
		  struct reason *why);

/* Ends it with all that it has started, busy or not. */
void program_stop(const struct program *program);

#endif
