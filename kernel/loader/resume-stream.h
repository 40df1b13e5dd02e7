/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_RESUME_STREAM_H
#define LOADER_RESUME_STREAM_H

#include "types.h"

/*
 * Resumes the image that comes from a file or device in its stream form, or,
 * as "-", from standard input. Returns, with -1, only when it was refused;
 * why has been said, and another source may be tried.
 */
int resume_from(const char *source);

/*
 * Resumes what a program writes to its standard output. Returns as resume_from()
 * does, after the program has ended or been ended.
 */
int resume_from_program(const char *path);

/*
 * Fetches the image from the server that the spare device names and resumes it.
 * Returns as resume_from() does, without a word where no server is named.
 */
int resume_from_server(void);

/* Is there a spare device whose image went elsewhere as a stream, and may be resumed? */
bool resume_awaits_stream(void);

#endif
