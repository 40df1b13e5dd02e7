// SPDX-License-Identifier: GPL-2.0-only
#include "command-line.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool command_line_has(const char *wanted, bool is_prefix)
{
	static const char separators[] = " \t\n";
	char line[4096];
	ssize_t got;
	int fd;

	fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, line, sizeof(line) - 1);
	close(fd);
	line[got < 0 ? 0 : got] = '\0';
	for (char *rest, *word = strtok_r(line, separators, &rest); word;
	     word = strtok_r(NULL, separators, &rest))
		if (is_prefix ? !strncmp(word, wanted, strlen(wanted)) :
				!strcmp(word, wanted))
			return true;
	return false;
}
