/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_COMMAND_LINE_H
#define LOADER_COMMAND_LINE_H

#include <stdbool.h>

/* Does the kernel command line have this word, or one that begins with it? */
bool command_line_has(const char *wanted, bool is_prefix);

#endif
