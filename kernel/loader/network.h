/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LOADER_NETWORK_H
#define LOADER_NETWORK_H

#include "way-back.h"

#include <net/if.h>

/* A network card that was brought up; its name is empty when none was. */
struct network {
	char card[IFNAMSIZ];
};

/*
 * Brings up what leads to the server, unless the kernel command line has 'ip='
 * and somebody has done so by that.
 */
int network_up(struct network *network, const struct way_back *way,
	       struct reason *why);

/* Leaves the card as it was found, for the ordinary boot. */
void network_down(struct network *network);

#endif
