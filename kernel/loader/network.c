// SPDX-License-Identifier: GPL-2.0-only
/*
 * One network card with one IPv4 address: what the resumed system believes it
 * has anyway. The card is known by its hardware address, since its name is
 * another one before udev has renamed it.
 */
#include "network.h"

#include "clock.h"
#include "command-line.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/route.h>
#include <stdio.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CARDS "/sys/class/net"
#define CARD_WAIT_SECONDS 10U
#define LOOK_AGAIN_US 100000U

static bool has_hardware_address(const char *card, const char *mac)
{
	char path[sizeof(CARDS) + 300];
	char text[32];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), CARDS "/%s/address", card);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[got < 0 ? 0 : got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return !strcasecmp(text, mac);
}

static bool find_card(char *card, const char *mac)
{
	DIR *cards = opendir(CARDS);
	bool is_found = false;

	if (!cards)
		return false;
	for (struct dirent *entry; !is_found && (entry = readdir(cards));) {
		if (entry->d_name[0] == '.' ||
		    strlen(entry->d_name) >= IFNAMSIZ ||
		    !has_hardware_address(entry->d_name, mac))
			continue;
		memcpy(card, entry->d_name, strlen(entry->d_name) + 1);
		is_found = true;
	}
	closedir(cards);
	return is_found;
}

static int wait_for_card(char *card, const char *mac, struct reason *why)
{
	const u64 start = clock_ns();

	while (!find_card(card, mac)) {
		if (ns_to_seconds(clock_ns() - start) > CARD_WAIT_SECONDS)
			return refuse(why, "there is no network card with the address '%s'",
				      mac);
		usleep(LOOK_AGAIN_US);
	}
	return 0;
}

static void set_address(struct sockaddr *to, const char *text)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	inet_pton(AF_INET, text, &address.sin_addr);
	memcpy(to, &address, sizeof(address));
}

static int set_up(int fd, const char *card, bool is_up)
{
	struct ifreq request = { 0 };

	memcpy(request.ifr_name, card, IFNAMSIZ);
	if (ioctl(fd, SIOCGIFFLAGS, &request))
		return -1;
	if (is_up)
		request.ifr_flags |= IFF_UP;
	else
		request.ifr_flags &= ~IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &request);
}

static int give(int fd, unsigned long what, const char *card,
		const char *address)
{
	struct ifreq request = { 0 };

	memcpy(request.ifr_name, card, IFNAMSIZ);
	set_address(&request.ifr_addr, address);
	return ioctl(fd, what, &request);
}

static in_addr_t number_of(const char *address)
{
	struct in_addr number = { 0 };

	inet_pton(AF_INET, address, &number);
	return number.s_addr;
}

/* Whether the address of the card brings a route to @address with it. */
static bool is_in_network(const char *address, const struct way_back *way)
{
	in_addr_t differ = number_of(address) ^ number_of(way->local);

	return !(differ & number_of(way->netmask));
}

/* To one on the card's segment that is outside of its network. */
static int add_host(int fd, char *card, const char *address)
{
	struct rtentry route = { .rt_flags = RTF_UP | RTF_HOST, .rt_dev = card };

	set_address(&route.rt_dst, address);
	return ioctl(fd, SIOCADDRT, &route);
}

static int add_gateway(int fd, char *card, const char *gateway)
{
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = card };

	set_address(&route.rt_dst, "0.0.0.0");
	set_address(&route.rt_genmask, "0.0.0.0");
	set_address(&route.rt_gateway, gateway);
	return ioctl(fd, SIOCADDRT, &route);
}

/* After the card is up: before, it takes no routes. */
static int add_routes(int fd, char *card, const struct way_back *way)
{
	const bool has_gateway = way->gateway[0];
	const char *next = has_gateway ? way->gateway : way->address;

	if (!is_in_network(next, way) && add_host(fd, card, next))
		return -1;
	return has_gateway ? add_gateway(fd, card, way->gateway) : 0;
}

int network_up(struct network *network, const struct way_back *way,
	       struct reason *why)
{
	char card[IFNAMSIZ] = "";
	int result = 0;
	int fd;

	network->card[0] = '\0';
	if (!way->mac[0] || command_line_has("ip=", true))
		return 0;
	if (wait_for_card(card, way->mac, why))
		return -1;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return refuse(why, "there is no network: %s", strerror(errno));
	memcpy(network->card, card, sizeof(network->card));
	if (give(fd, SIOCSIFADDR, card, way->local) ||
	    give(fd, SIOCSIFNETMASK, card, way->netmask) ||
	    set_up(fd, card, true) || add_routes(fd, card, way))
		result = refuse(why, "cannot bring up '%s' with '%s': %s",
				card, way->local, strerror(errno));
	close(fd);
	if (result)
		network_down(network);
	return result;
}

void network_down(struct network *network)
{
	int fd;

	if (!network->card[0])
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	/* Without an address there are no routes either. */
	give(fd, SIOCSIFADDR, network->card, "0.0.0.0");
	set_up(fd, network->card, false);
	close(fd);
	network->card[0] = '\0';
}
