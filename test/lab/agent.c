// SPDX-License-Identifier: GPL-2.0-only
/*
 * The laboratory's agent: runs commands in the machine for the host.
 *
 * One process serves every virtio-serial port named "permafrost.agent.N"; a
 * port carries one session at a time, so N host processes can work at once.
 *
 * A frame is  type (1 byte), payload, CRC-32 of both (4 bytes, little-endian),
 * written in SLIP: 0xC0 ends a frame and never occurs inside one.  Whatever was
 * left half sent by a host that died, or by a machine that was switched off,
 * ends at the next 0xC0 and fails its checksum.  Both sides begin with 0xC0.
 *
 *   host to agent                          agent to host
 *   H nonce[16]            new session     h nonce[16] identity[16]
 *   X timeout_ms argv\0…   run argv        o bytes / e bytes  standard output, error
 *   I bytes                standard input  a u32   so many bytes of input taken
 *   Z                      end of input    x kind u32   ended (enum end)
 *
 * The identity is drawn once when the agent starts: whoever answers with the
 * same one after a boot has been resumed, not started.  A new session kills
 * what the one before still ran, and so does the host's absence for some seconds.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_PORTS	8
#define MAX_PAYLOAD	16384
#define MAX_FRAME	(1 + MAX_PAYLOAD + 4)
#define GRACE_MS	2000	/* a host that is away for longer has gone */
#define INPUT_WINDOW	262144	/* the host keeps at most this much input unacknowledged */
#define END		0xC0
#define ESC		0xDB
#define ESC_END		0xDC
#define ESC_ESC		0xDD

enum end { END_EXITED, END_SIGNALLED, END_TIMED_OUT, END_NOT_STARTED };

struct port {
	int fd;
	int connected;
	int64_t away_since_ms;

	unsigned char in[MAX_FRAME];
	size_t in_len;
	int in_escaped;
	int in_too_long;

	unsigned char out[2 * MAX_FRAME + 2];
	size_t out_len, out_done;

	pid_t child;
	int child_status, child_ended, timed_out;
	int64_t deadline_ms;
	int input, output, error;
	unsigned char stdin_buffer[INPUT_WINDOW];
	size_t stdin_len;
	int stdin_ended;
	uint32_t acknowledge;
};

static struct port ports[MAX_PORTS];
static int nr_ports;
static unsigned char identity[16];
static uint32_t crc_table[256];

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void make_crc_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
		crc_table[i] = c;
	}
}

static uint32_t crc32(const unsigned char *data, size_t len)
{
	uint32_t c = 0xFFFFFFFFu;

	while (len--)
		c = crc_table[(c ^ *data++) & 0xFF] ^ (c >> 8);
	return c ^ 0xFFFFFFFFu;
}

static uint32_t get32(const unsigned char *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put32(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = v >> (8 * i);
}

static int can_send(const struct port *p)
{
	return p->out_done == p->out_len;
}

/* One frame at a time waits in p->out: callers ask can_send() first. */
static void send_frame(struct port *p, char type, const void *payload, size_t len)
{
	unsigned char raw[MAX_FRAME];
	size_t n = 0;

	raw[0] = type;
	memcpy(raw + 1, payload, len);
	put32(raw + 1 + len, crc32(raw, 1 + len));
	p->out[n++] = END;
	for (size_t i = 0; i < len + 5; i++) {
		if (raw[i] == END || raw[i] == ESC) {
			p->out[n++] = ESC;
			p->out[n++] = raw[i] == END ? ESC_END : ESC_ESC;
		} else {
			p->out[n++] = raw[i];
		}
	}
	p->out[n++] = END;
	p->out_len = n;
	p->out_done = 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void forget_command(struct port *p)
{
	close_fd(&p->input);
	close_fd(&p->output);
	close_fd(&p->error);
	p->child = 0;
	p->child_ended = p->timed_out = 0;
	p->deadline_ms = 0;
	p->stdin_len = 0;
	p->stdin_ended = 0;
	p->acknowledge = 0;
}

/* The command leads its own process group: everything it started goes with it. */
static void kill_command(struct port *p)
{
	if (p->child > 0) {
		kill(-p->child, SIGKILL);
		if (!p->child_ended)
			waitpid(p->child, NULL, 0);
	}
	forget_command(p);
}

static void report_end(struct port *p, enum end kind, uint32_t code)
{
	unsigned char payload[5] = { kind };

	put32(payload + 1, code);
	send_frame(p, 'x', payload, sizeof(payload));
}

static void start_session(struct port *p, const unsigned char *nonce)
{
	unsigned char payload[32];

	kill_command(p);
	memcpy(payload, nonce, 16);
	memcpy(payload + 16, identity, 16);
	send_frame(p, 'h', payload, sizeof(payload));
}

static void become_command(char **argv, int in, int out, int err)
{
	sigset_t none;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	if (chdir("/root"))
		_exit(126);
	execvp(argv[0], argv);
	dprintf(2, "Cannot run '%s': %s\n", argv[0], strerror(errno));
	_exit(127);
}

static void run_command(struct port *p, uint32_t timeout_ms, char **argv)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, err[2] = { -1, -1 };

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		goto failed;
	p->child = fork();
	if (p->child < 0)
		goto failed;
	if (p->child == 0)
		become_command(argv, in[0], out[1], err[1]);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	p->input = in[1];
	p->output = out[0];
	p->error = err[0];
	fcntl(p->input, F_SETFL, O_NONBLOCK);
	fcntl(p->output, F_SETFL, O_NONBLOCK);
	fcntl(p->error, F_SETFL, O_NONBLOCK);
	p->deadline_ms = timeout_ms ? now_ms() + timeout_ms : 0;
	return;

failed:
	report_end(p, END_NOT_STARTED, errno);
	for (int i = 0; i < 2; i++) {
		close_fd(&in[i]);
		close_fd(&out[i]);
		close_fd(&err[i]);
	}
	p->child = 0;
}

static void start_command(struct port *p, unsigned char *payload, size_t len)
{
	char *argv[1024];
	int argc = 0;

	kill_command(p);
	if (len < 6 || payload[len - 1]) {
		report_end(p, END_NOT_STARTED, EINVAL);
		return;
	}
	for (size_t at = 4; at < len && argc < 1023; at += strlen((char *)payload + at) + 1)
		argv[argc++] = (char *)payload + at;
	argv[argc] = NULL;
	run_command(p, get32(payload), argv);
}

static void take_frame(struct port *p, unsigned char *frame, size_t len)
{
	if (len < 5 || get32(frame + len - 4) != crc32(frame, len - 4))
		return;
	len -= 5;
	switch (frame[0]) {
	case 'H':
		if (len == 16)
			start_session(p, frame + 1);
		break;
	case 'X':
		start_command(p, frame + 1, len);
		break;
	case 'I':
		if (p->input >= 0 && p->stdin_len + len <= INPUT_WINDOW) {
			memcpy(p->stdin_buffer + p->stdin_len, frame + 1, len);
			p->stdin_len += len;
		} else {
			p->acknowledge += len;	/* nobody reads it: let the host go on */
		}
		break;
	case 'Z':
		p->stdin_ended = 1;
		break;
	}
}

static void take_byte(struct port *p, unsigned char byte)
{
	if (byte == END) {
		if (p->in_len && !p->in_too_long)
			take_frame(p, p->in, p->in_len);
		p->in_len = p->in_escaped = p->in_too_long = 0;
		return;
	}
	if (byte == ESC) {
		p->in_escaped = 1;
		return;
	}
	if (p->in_escaped)
		byte = byte == ESC_END ? END : ESC;
	p->in_escaped = 0;
	if (p->in_len == MAX_FRAME)
		p->in_too_long = 1;
	else
		p->in[p->in_len++] = byte;
}

/*
 * The kernel tells of hosts that come and go by a work queue, data comes by an
 * interrupt: a port can look deserted when the next session is under way already.
 * So a session ends when the next begins, or when nobody was there for a while.
 */
static void miss_host(struct port *p)
{
	p->connected = 0;
	p->away_since_ms = now_ms();
}

static void give_up_host(struct port *p)
{
	p->away_since_ms = 0;
	p->out_len = p->out_done = 0;
	kill_command(p);
}

static void read_port(struct port *p)
{
	static unsigned char buffer[65536];
	ssize_t n = read(p->fd, buffer, sizeof(buffer));

	if (n == 0) {
		miss_host(p);
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		take_byte(p, buffer[i]);
}

static void write_port(struct port *p)
{
	ssize_t n = write(p->fd, p->out + p->out_done, p->out_len - p->out_done);

	if (n > 0)
		p->out_done += n;
}

static void feed_command(struct port *p)
{
	ssize_t n = write(p->input, p->stdin_buffer, p->stdin_len);

	if (n < 0 && errno != EAGAIN) {
		p->acknowledge += p->stdin_len;
		p->stdin_len = 0;
		close_fd(&p->input);
	} else if (n > 0) {
		p->acknowledge += n;
		p->stdin_len -= n;
		memmove(p->stdin_buffer, p->stdin_buffer + n, p->stdin_len);
	}
}

/* Returns whether a frame was made of what the command has printed. */
static int relay(struct port *p, int *fd, char type)
{
	unsigned char buffer[MAX_PAYLOAD];
	ssize_t n = *fd < 0 ? -1 : read(*fd, buffer, sizeof(buffer));

	if (n > 0)
		send_frame(p, type, buffer, n);
	else if (n == 0)
		close_fd(fd);
	return n > 0;
}

/*
 * What a command leaves running in the background may keep its pipes open for
 * ever: the end is reported once the command is gone and the pipes are empty.
 */
static void advance(struct port *p)
{
	unsigned char count[4];

	if (p->child && !p->child_ended && p->deadline_ms && now_ms() >= p->deadline_ms) {
		p->timed_out = 1;
		kill(-p->child, SIGKILL);
		p->deadline_ms = 0;
	}
	if (p->stdin_len && p->input >= 0)
		feed_command(p);
	if (!p->stdin_len && p->stdin_ended)
		close_fd(&p->input);
	if (!can_send(p))
		return;
	if (p->acknowledge) {
		put32(count, p->acknowledge);
		p->acknowledge = 0;
		send_frame(p, 'a', count, sizeof(count));
		return;
	}
	if (!p->child || relay(p, &p->output, 'o') || relay(p, &p->error, 'e'))
		return;
	if (!p->child_ended)
		return;
	if (p->timed_out)
		report_end(p, END_TIMED_OUT, 0);
	else if (WIFSIGNALED(p->child_status))
		report_end(p, END_SIGNALLED, WTERMSIG(p->child_status));
	else
		report_end(p, END_EXITED, WEXITSTATUS(p->child_status));
	forget_command(p);
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < nr_ports; i++) {
			if (ports[i].child == pid) {
				ports[i].child_status = status;
				ports[i].child_ended = 1;
			}
		}
	}
}

/* A port without a host always polls as hung up: SIGIO says when one comes. */
static void look_for_host(struct port *p)
{
	struct pollfd poll_port = { .fd = p->fd, .events = POLLIN };

	if (p->connected)
		return;
	if (poll(&poll_port, 1, 0) >= 0 && !(poll_port.revents & POLLHUP)) {
		p->connected = 1;
		p->away_since_ms = 0;
	} else if (p->away_since_ms && now_ms() - p->away_since_ms >= GRACE_MS) {
		give_up_host(p);
	}
}

static int open_ports(void)
{
	char path[300], name[64];
	struct dirent *entry;
	DIR *dir = opendir("/sys/class/virtio-ports");

	while (dir && nr_ports < MAX_PORTS && (entry = readdir(dir))) {
		struct port *p = &ports[nr_ports];
		FILE *file;

		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (!fgets(name, sizeof(name), file))
			name[0] = 0;
		fclose(file);
		if (strncmp(name, "permafrost.agent.", 17))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		p->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (p->fd < 0) {
			fprintf(stderr, "Cannot open '%s': %s\n", path, strerror(errno));
			continue;
		}
		fcntl(p->fd, F_SETOWN, getpid());
		fcntl(p->fd, F_SETFL, O_NONBLOCK | O_ASYNC);
		p->input = p->output = p->error = -1;
		nr_ports++;
	}
	if (dir)
		closedir(dir);
	return nr_ports;
}

static int watch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int is_pollable(int fd, int wanted)
{
	return wanted ? fd : -1;
}

static void serve_once(int signals)
{
	struct pollfd set[1 + 4 * MAX_PORTS];
	struct signalfd_siginfo info;
	int wait_ms = 2000, n = 0;

	set[n++] = (struct pollfd){ .fd = signals, .events = POLLIN };
	for (int i = 0; i < nr_ports; i++) {
		struct port *p = &ports[i];
		int idle = can_send(p);

		look_for_host(p);
		set[n++] = (struct pollfd){ .fd = is_pollable(p->fd, p->connected),
					    .events = POLLIN | (idle ? 0 : POLLOUT) };
		set[n++] = (struct pollfd){ .fd = is_pollable(p->input, p->stdin_len > 0),
					    .events = POLLOUT };
		set[n++] = (struct pollfd){ .fd = is_pollable(p->output, idle), .events = POLLIN };
		set[n++] = (struct pollfd){ .fd = is_pollable(p->error, idle), .events = POLLIN };
		if (p->deadline_ms) {
			int64_t left = p->deadline_ms - now_ms();

			if (left < wait_ms)
				wait_ms = left < 0 ? 0 : left;
		}
		if (idle && (p->acknowledge || (p->child && p->child_ended)))
			wait_ms = 0;
	}
	if (poll(set, n, wait_ms) < 0)
		return;
	while (read(signals, &info, sizeof(info)) > 0)
		;
	reap();
	for (int i = 0; i < nr_ports; i++) {
		struct port *p = &ports[i];
		short events = set[1 + 4 * i].revents;

		if (events & POLLIN)
			read_port(p);
		else if (events & POLLHUP)
			miss_host(p);
		if (p->connected && !can_send(p))
			write_port(p);
		advance(p);
		if (p->connected && !can_send(p))
			write_port(p);
	}
}

int main(void)
{
	int signals = watch_signals();

	make_crc_table();
	if (signals < 0 || getrandom(identity, sizeof(identity), 0) != sizeof(identity)) {
		perror("Cannot prepare");
		return 1;
	}
	if (!open_ports()) {
		fprintf(stderr, "Cannot find a virtio port 'permafrost.agent.N'\n");
		return 1;
	}
	setenv("HOME", "/root", 1);
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	for (;;)
		serve_once(signals);
}
