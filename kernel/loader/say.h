/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_SAY_H
#define LOADER_SAY_H

/* Why something was not done: one sentence without a full stop. */
struct reason {
	char text[320];
};

#define PRINTF(at, first) __attribute__((format(printf, at, first)))

/* Whether say() also writes to the kernel's log. */
void say_to_kernel_log(void);

void say(const char *format, ...) PRINTF(1, 2);

/* Keeps the sentence and returns -1, so that a caller can return both. */
int refuse(struct reason *why, const char *format, ...) PRINTF(2, 3);

#endif
