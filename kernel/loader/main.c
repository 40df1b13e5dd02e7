// SPDX-License-Identifier: GPL-2.0-only
/*
 * permafrost-loader: the part of Permafrost that runs in the initramfs, before
 * any file system is mounted. The image format is service/image/FORMAT.md.
 */
#include "inspect.h"
#include "merge.h"
#include "resume.h"
#include "resume-stream.h"
#include "say.h"
#include "types.h"
#include "wrap.h"

#include <stdio.h>
#include <stdlib.h>

enum exit_status {
	EXIT_GO_ON = 0,
	EXIT_NOT_ALL = 1,
	EXIT_USAGE = 2,
};

#define WAIT_SECONDS_MAX 3600U

static const char usage[] =
	"Usage: permafrost-loader resume [--early] [--device DEVICE] [--from FILE|- | --from-program PROGRAM | --from-server]\n"
	"       permafrost-loader awaits\n"
	"       permafrost-loader merge [--wait SECONDS] [--device DEVICE]\n"
	"       permafrost-loader wrap DEVICE...\n"
	"       permafrost-loader inspect [--verify] [--foreign] [--from FILE|- | --from-server] DEVICE|FILE...\n"
	"\n"
	"resume   Finds a valid image, checks it and continues it. Returns 0 when there\n"
	"         is none or it is refused, and the ordinary boot goes on. --early leaves\n"
	"         everything to a later call unless all that it needs is there already.\n"
	"         --from continues one that comes as a stream, --from-program one that a\n"
	"         program writes, --from-server one that the spare device says to be on a\n"
	"         server; 1 when it was refused.\n"
	"awaits   0 when the image of a spare device went elsewhere as a stream and may\n"
	"         be resumed.\n"
	"merge    Writes back what a power cut kept from being written back when a\n"
	"         hibernation was rolled back; 1 when not all of it could be.\n"
	"wrap     Puts a device-mapper device over each block device and prints the paths\n"
	"         to mount; 1 when one could not be wrapped.\n"
	"inspect  Prints what is on a device; --verify reads all of it, --foreign does not\n"
	"         compare it with this machine, --from reads the stream of an image that\n"
	"         went elsewhere, --from-server fetches it. 1 when something is wrong.\n"
	"\n"
	"Example: permafrost-loader inspect --verify /dev/disk/by-id/virtio-spare\n";

static int print_usage(FILE *to, enum exit_status status)
{
	fputs(usage, to);
	return status;
}

static int run_resume(int count, char *const arguments[])
{
	const char *device = NULL, *from = NULL, *program = NULL;
	bool is_early = false, is_fetching = false;

	for (; count; count--, arguments++) {
		if (!strcmp(arguments[0], "--early")) {
			is_early = true;
		} else if (!strcmp(arguments[0], "--from-server")) {
			is_fetching = true;
		} else if (count > 1 && !strcmp(arguments[0], "--device")) {
			device = *++arguments;
			count--;
		} else if (count > 1 && !strcmp(arguments[0], "--from")) {
			from = *++arguments;
			count--;
		} else if (count > 1 &&
			   !strcmp(arguments[0], "--from-program")) {
			program = *++arguments;
			count--;
		} else {
			return print_usage(stderr, EXIT_USAGE);
		}
	}
	if ((from || program || is_fetching) && (device || is_early))
		return print_usage(stderr, EXIT_USAGE);
	say_to_kernel_log();
	if (is_fetching)
		return resume_from_server() ? EXIT_NOT_ALL : EXIT_GO_ON;
	if (program)
		return resume_from_program(program) ? EXIT_NOT_ALL : EXIT_GO_ON;
	if (from)
		return resume_from(from) ? EXIT_NOT_ALL : EXIT_GO_ON;
	resume(device, is_early);
	return EXIT_GO_ON;
}

static int run_awaits(int count, char *const arguments[])
{
	(void)arguments;
	if (count)
		return print_usage(stderr, EXIT_USAGE);
	return resume_awaits_stream() ? EXIT_GO_ON : EXIT_NOT_ALL;
}

static int run_merge(int count, char *const arguments[])
{
	const char *device = NULL;
	unsigned long wait_seconds = 0;
	char *end = NULL;

	for (; count > 1; count -= 2, arguments += 2) {
		if (!strcmp(arguments[0], "--wait"))
			wait_seconds = strtoul(arguments[1], &end, 10);
		else if (!strcmp(arguments[0], "--device"))
			device = arguments[1];
		else
			break;
	}
	if (count || (end && *end) || wait_seconds > WAIT_SECONDS_MAX)
		return print_usage(stderr, EXIT_USAGE);
	say_to_kernel_log();
	return merge(device, (unsigned int)wait_seconds) ? EXIT_NOT_ALL :
							   EXIT_GO_ON;
}

static int run_wrap(int count, char *const arguments[])
{
	if (!count || arguments[0][0] == '-')
		return print_usage(stderr, EXIT_USAGE);
	say_to_kernel_log();
	return wrap(arguments, count) ? EXIT_NOT_ALL : EXIT_GO_ON;
}

static int run_inspect(int count, char *const arguments[])
{
	struct inspection inspection = { 0 };
	int status = EXIT_GO_ON;

	for (; count && arguments[0][0] == '-'; count--, arguments++) {
		if (!strcmp(arguments[0], "--verify")) {
			inspection.is_verifying = true;
		} else if (!strcmp(arguments[0], "--foreign")) {
			inspection.is_foreign = true;
		} else if (!strcmp(arguments[0], "--from-server")) {
			inspection.is_fetching = true;
		} else if (count > 1 && !strcmp(arguments[0], "--from")) {
			inspection.from = *++arguments;
			count--;
		} else {
			return print_usage(stderr, EXIT_USAGE);
		}
	}
	if (!count)
		return print_usage(stderr, EXIT_USAGE);
	for (; count; count--, arguments++)
		if (inspect(arguments[0], &inspection))
			status = EXIT_NOT_ALL;
	return status;
}

int main(int argc, char *argv[])
{
	static const struct {
		const char *name;
		int (*run)(int count, char *const arguments[]);
	} verbs[] = {
		{ "resume", run_resume },
		{ "awaits", run_awaits },
		{ "merge", run_merge },
		{ "wrap", run_wrap },
		{ "inspect", run_inspect },
	};

	if (argc < 2)
		return print_usage(stderr, EXIT_USAGE);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(argv[1], verbs[i].name))
			return verbs[i].run(argc - 2, argv + 2);
	if (!strcmp(argv[1], "--help"))
		return print_usage(stdout, EXIT_GO_ON);
	return print_usage(stderr, EXIT_USAGE);
}
