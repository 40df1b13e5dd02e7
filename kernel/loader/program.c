// SPDX-License-Identifier: GPL-2.0-only
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void run(const char *path, int output)
{
	setpgid(0, 0);
	if (dup2(output, STDOUT_FILENO) >= 0)
		execl(path, path, (char *)NULL);
	/* A script without its first line, as a shell would. */
	if (errno == ENOEXEC)
		execl("/bin/sh", "sh", path, (char *)NULL);
	fprintf(stderr, "permafrost: cannot run '%s': %s\n", path,
		strerror(errno));
	_exit(127);
}

int program_start(struct program *program, const char *path,
		  struct reason *why)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return refuse(why, "cannot run '%s': %s", path,
			      strerror(errno));
	program->pid = fork();
	if (!program->pid)
		run(path, ends[1]);
	close(ends[1]);
	if (program->pid < 0) {
		close(ends[0]);
		return refuse(why, "cannot run '%s': %s", path,
			      strerror(errno));
	}
	/* Both sides do, so that it is done whoever comes first. */
	setpgid(program->pid, program->pid);
	program->fd = ends[0];
	return 0;
}

void program_stop(const struct program *program)
{
	close(program->fd);
	kill(-program->pid, SIGKILL);
	/* Not waited for: it may be hanging in the kernel. */
}
