/* SPDX-License-Identifier: GPL-2.0-only */
/* A status file is replaced as a whole: whoever reads it finds the old text or the new one. */
#ifndef PAYLOAD_STATUS_H
#define PAYLOAD_STATUS_H

#include <stdio.h>

#define STATUS_DRAFT_BYTES	512

static inline void status_draft(char *draft, const char *path)
{
	snprintf(draft, STATUS_DRAFT_BYTES, "%s.draft", path);
}

/* What is to be written to; NULL when there is no place for it. */
static inline FILE *status_begin(const char *path)
{
	char draft[STATUS_DRAFT_BYTES];

	status_draft(draft, path);
	return fopen(draft, "w");
}

static inline void status_end(FILE *file, const char *path)
{
	char draft[STATUS_DRAFT_BYTES];

	status_draft(draft, path);
	fclose(file);
	rename(draft, path);
}

#endif
