// SPDX-License-Identifier: GPL-2.0-only
/*
 * talk STATUS: two processes and a TCP connection between them.  One sends
 * numbered messages, fifty a second; the other checks that each is the next and
 * whole, and sends it back; the first checks it again.  The connection is given
 * up after some seconds of silence, so that one that was not kept shows.  Any
 * error ends both.  On SIGUSR1 STATUS is replaced by one line:
 *
 *   round=R received=N
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "status.h"

#define WORDS	128

static volatile sig_atomic_t asked;

static void ask(int signal)
{
	(void)signal;
	asked++;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void make_message(uint64_t *message, uint64_t number)
{
	message[0] = number;
	for (int i = 1; i < WORDS; i++)
		message[i] = (message[i - 1] + number) * 0x9E3779B97F4A7C15ull;
}

static void report(const char *path, int round, uint64_t received)
{
	FILE *file = status_begin(path);

	if (!file)
		return;
	fprintf(file, "round=%d received=%llu\n", round, (unsigned long long)received);
	status_end(file, path);
}

/* Gives up a connection on which nothing is heard for some seconds. */
static void be_impatient(int connection)
{
	int on = 1, idle_s = 2, probes = 3, silence_ms = 8000;

	if (setsockopt(connection, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) ||
	    setsockopt(connection, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s)) ||
	    setsockopt(connection, IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof(idle_s)) ||
	    setsockopt(connection, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes)) ||
	    setsockopt(connection, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof(silence_ms)))
		fail("setsockopt");
}

static void send_all(int connection, const uint64_t *message)
{
	size_t done = 0;

	while (done < WORDS * sizeof(uint64_t)) {
		ssize_t n = send(connection, (const char *)message + done,
				 WORDS * sizeof(uint64_t) - done, MSG_NOSIGNAL);

		if (n < 0)
			fail("send");
		done += n;
	}
}

static void receive_all(int connection, uint64_t *message)
{
	ssize_t n = recv(connection, message, WORDS * sizeof(uint64_t), MSG_WAITALL);

	if (n < 0)
		fail("recv");
	if (n != WORDS * sizeof(uint64_t)) {
		fprintf(stderr, "the connection ended after %zd bytes of a message\n", n);
		exit(1);
	}
}

static void check(const uint64_t *message, uint64_t number)
{
	uint64_t wanted[WORDS];

	make_message(wanted, number);
	if (memcmp(message, wanted, sizeof(wanted))) {
		fprintf(stderr, "message %llu is wrong, it says %llu\n", (unsigned long long)number,
			(unsigned long long)message[0]);
		exit(1);
	}
}

static void be_client(const struct sockaddr_in *address)
{
	const struct timespec tick = { .tv_nsec = 20000000 };
	int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t message[WORDS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (connection < 0 || connect(connection, (const struct sockaddr *)address, sizeof(*address)))
		fail("connect");
	be_impatient(connection);
	for (uint64_t number = 1;; number++) {
		make_message(message, number);
		send_all(connection, message);
		receive_all(connection, message);
		check(message, number);
		nanosleep(&tick, NULL);
	}
}

static void be_server(int connection, const char *path)
{
	uint64_t message[WORDS];
	int answered = 0;

	be_impatient(connection);
	report(path, 0, 0);
	for (uint64_t number = 1;; number++) {
		receive_all(connection, message);
		check(message, number);
		send_all(connection, message);
		if (answered != asked) {
			answered = asked;
			report(path, answered, number);
		}
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct sigaction asking = { .sa_handler = ask, .sa_flags = SA_RESTART };
	socklen_t len = sizeof(address);
	int listener, connection;
	pid_t client;

	if (argc != 2) {
		fprintf(stderr, "usage: talk STATUS\n");
		return 2;
	}
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &len))
		fail("listen");
	client = fork();
	if (client < 0)
		fail("fork");
	if (client == 0)
		be_client(&address);
	sigaction(SIGUSR1, &asking, NULL);
	connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (connection < 0)
		fail("accept");
	be_server(connection, argv[1]);
}
