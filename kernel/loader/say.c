// SPDX-License-Identifier: GPL-2.0-only
/*
 * Messages. In the initramfs they go to the kernel's log as well, from where
 * the journal of the ordinary boot takes them.
 */
#include "say.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KERNEL_NOTICE "<5>"
#define PREFIX "permafrost: "

static int kernel_log = -1;

void say_to_kernel_log(void)
{
	kernel_log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
}

/* Text from an image must not smuggle control characters into a log. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

void say(const char *format, ...)
{
	char line[512] = KERNEL_NOTICE PREFIX;
	const size_t level = strlen(KERNEL_NOTICE);
	const size_t used = strlen(line);
	va_list arguments;
	ssize_t written;
	size_t length;

	va_start(arguments, format);
	vsnprintf(line + used, sizeof(line) - used - 1, format, arguments);
	va_end(arguments);
	make_printable(line);
	length = strlen(line);
	line[length++] = '\n';

	/* A message that cannot be written has nowhere to be reported. */
	if (kernel_log >= 0)
		written = write(kernel_log, line, length);
	written = write(STDERR_FILENO, line + level, length - level);
	(void)written;
}

int refuse(struct reason *why, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why->text, sizeof(why->text), format, arguments);
	va_end(arguments);
	return -1;
}
