// SPDX-License-Identifier: GPL-2.0-only
/*
 * The client of a server of images: service/image/PROTOCOL.md.
 *
 * - A network needs its time after the card has come up, and a server that lost
 *   its power as well may be starting: connecting is tried for half a minute.
 * - TLS is spoken by openssl(1), which refuses a server whose certificate is
 *   not for that host or not signed by our authority. A stream that is cut
 *   short is told by its missing end, so nothing depends on how TLS ends.
 * - A session is worth more than a minute: a stream that is cut in its middle,
 *   as by a server that starts anew, is asked for again.
 */
#include "server.h"

#include "clock.h"
#include "say.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#define CONNECT_SECONDS 30U
#define ATTEMPT_MS 5000
#define TRY_AGAIN_US 500000U
#define SILENCE_SECONDS 30
#define FETCHES_MAX 3

#define REQUEST_BYTES 256U
#define REQUEST_VERSION 1U
#define REQUEST_FETCH 3U
#define ANSWER_BYTES_MAX 1024U

#define OPENSSL "/usr/bin/openssl"
#define TLS_FILES "/etc/permafrost/tls/"

/* A connection to a server. */
struct server {
	int fd;
	pid_t helper;		/* speaks TLS; 0 when nobody has to */
};

static int connect_once(const struct sockaddr_in *address)
{
	socklen_t length = sizeof(int);
	struct pollfd waiting;
	int error = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	waiting = (struct pollfd){ .fd = fd, .events = POLLOUT };
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		error = errno;
	if (error == EINPROGRESS) {
		error = poll(&waiting, 1, ATTEMPT_MS) > 0 ? 0 : ETIMEDOUT;
		if (!error)
			getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	}
	if (error) {
		close(fd);
		return -error;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return fd;
}

static int connect_patiently(const struct way_back *way, struct reason *why)
{
	const u64 start = clock_ns();
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(way->port)),
	};

	inet_pton(AF_INET, way->address, &address.sin_addr);
	for (;;) {
		const int fd = connect_once(&address);

		if (fd >= 0)
			return fd;
		if (ns_to_seconds(clock_ns() - start) > CONNECT_SECONDS)
			return refuse(why, "cannot connect to '%s' (%s): %s",
				      way->target, way->address, strerror(-fd));
		usleep(TRY_AGAIN_US);
	}
}

/* An address is not a name that can be asked for. */
static bool is_number(const char *host)
{
	struct in_addr address;

	return inet_pton(AF_INET, host, &address) == 1;
}

static void run_openssl(const struct way_back *way, int fd)
{
	const bool has_number = is_number(way->host);
	char where[sizeof(way->address) + sizeof(way->port) + 1];
	const char *arguments[] = {
		"openssl", "s_client", "-quiet", "-verify_quiet", "-tls1_3",
		"-connect", where,
		"-CAfile", TLS_FILES "ca.pem",
		"-cert", TLS_FILES "certificate.pem",
		"-key", TLS_FILES "key.pem",
		"-verify_return_error",
		has_number ? "-verify_ip" : "-verify_hostname", way->host,
		has_number ? "-noservername" : "-servername",
		has_number ? NULL : way->host, NULL,
	};

	snprintf(where, sizeof(where), "%s:%s", way->address, way->port);
	if (dup2(fd, STDIN_FILENO) >= 0 && dup2(fd, STDOUT_FILENO) >= 0)
		execv(OPENSSL, (char *const *)arguments);
	_exit(127);
}

/* Our end of what openssl encrypts. */
static int start_openssl(struct server *server, const struct way_back *way,
			 struct reason *why)
{
	int ends[2];

	if (access(OPENSSL, X_OK))
		return refuse(why, "'" OPENSSL "' is not in the initramfs, so '%s' cannot be reached",
			      way->target);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return refuse(why, "cannot start openssl: %s", strerror(errno));
	server->helper = fork();
	if (!server->helper)
		run_openssl(way, ends[1]);
	close(ends[1]);
	server->fd = ends[0];
	if (server->helper < 0) {
		server->helper = 0;
		return refuse(why, "cannot start openssl: %s", strerror(errno));
	}
	return 0;
}

static int ask(const struct server *server, const struct way_back *way,
	       const u8 image_id[16], struct reason *why)
{
	static const char magic[16] = { 'P', 'e', 'r', 'm', 'a', 'f', 'r', 'o',
					's', 't', 'S', 'e', 'r', 'v', 'e', 'r' };
	const u32 numbers[] = { htole32(REQUEST_VERSION),
				htole32(REQUEST_BYTES), htole32(REQUEST_FETCH) };
	u8 request[REQUEST_BYTES] = { 0 };

	memcpy(request, magic, sizeof(magic));
	memcpy(request + 16, numbers, sizeof(numbers));
	memcpy(request + 32, image_id, 16);
	memcpy(request + 56, way->name, strlen(way->name));
	write_le64(request + 248, XXH64(request, 248, 0));
	if (send(server->fd, request, sizeof(request), MSG_NOSIGNAL) !=
	    sizeof(request))
		return refuse(why, "cannot ask '%s': %s", way->target,
			      strerror(errno));
	return 0;
}

/* Byte by byte: what follows the line is the stream's. */
static int hear_line(const struct server *server, const struct way_back *way,
		     char *line, struct reason *why)
{
	for (size_t bytes = 0; bytes < ANSWER_BYTES_MAX; bytes++) {
		const ssize_t got = read(server->fd, &line[bytes], 1);

		if (got < 0 && errno == EAGAIN)
			return refuse(why, "'%s' did not answer for %d s",
				      way->target, SILENCE_SECONDS);
		if (got <= 0)
			return refuse(why, "'%s' closed the connection without an answer",
				      way->target);
		if (line[bytes] == '\n') {
			line[bytes] = '\0';
			return 0;
		}
	}
	return refuse(why, "what answers at '%s' is no server of images",
		      way->target);
}

static int hear_answer(const struct server *server, const struct way_back *way,
		       struct reason *why)
{
	static const char sending[] = "sending ", failed[] = "failed ";
	char line[ANSWER_BYTES_MAX];

	if (hear_line(server, way, line, why))
		return -1;
	if (!strncmp(line, failed, strlen(failed)))
		return refuse(why, "'%s' does not send the image: %.200s",
			      way->target, line + strlen(failed));
	if (strncmp(line, sending, strlen(sending)))
		return refuse(why, "what answers at '%s' is no server of images",
			      way->target);
	return 0;
}

static void close_server(struct server *server)
{
	if (server->fd >= 0)
		close(server->fd);
	server->fd = -1;
	if (server->helper) {
		kill(server->helper, SIGKILL);
		waitpid(server->helper, NULL, 0);
	}
	server->helper = 0;
}

static int open_server(struct server *server, const struct way_back *way,
		       const u8 image_id[16], struct reason *why)
{
	const struct timeval silence = { .tv_sec = SILENCE_SECONDS };
	int result = 0;

	server->helper = 0;
	server->fd = connect_patiently(way, why);
	if (server->fd < 0)
		return -1;
	if (way->is_tls) {
		/* It was to see that the network is there. */
		close(server->fd);
		server->fd = -1;
		result = start_openssl(server, way, why);
	}
	if (!result) {
		setsockopt(server->fd, SOL_SOCKET, SO_RCVTIMEO, &silence,
			   sizeof(silence));
		setsockopt(server->fd, SOL_SOCKET, SO_SNDTIMEO, &silence,
			   sizeof(silence));
		result = ask(server, way, image_id, why);
	}
	if (!result)
		result = hear_answer(server, way, why);
	if (result)
		close_server(server);
	return result;
}

static int fetch_once(const struct way_back *way, const u8 image_id[16],
		      stream_taker take, void *context, bool *was_cut,
		      struct reason *why)
{
	struct server server;
	struct stream stream;
	int result;

	*was_cut = false;
	if (open_server(&server, way, image_id, why))
		return -1;
	result = stream_begin(&stream, server.fd, way->target,
			      STREAM_ANY_PATIENCE, why);
	if (!result) {
		result = take(context, &stream, why);
		*was_cut = stream.was_cut;
	}
	close_server(&server);
	return result;
}

int server_fetch(const struct way_back *way, const u8 image_id[16],
		 stream_taker take, void *context, struct reason *why)
{
	for (int fetches = 1;; fetches++) {
		bool was_cut;
		int result = fetch_once(way, image_id, take, context, &was_cut,
					why);

		if (!result || !was_cut || fetches == FETCHES_MAX)
			return result;
		say("%s; asking for it again", why->text);
	}
}
