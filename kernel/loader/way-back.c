// SPDX-License-Identifier: GPL-2.0-only
/* The record WAY_BACK; no text in it is longer than what it is for. */
#include "way-back.h"

#include <arpa/inet.h>

struct field {
	const char *key;
	char *to;
	size_t capacity;
};

static int take_value(const struct field *field, const char *value,
		      size_t bytes, struct reason *why)
{
	if (bytes >= field->capacity || memchr(value, '\0', bytes))
		return refuse(why, "'%s' of the way back to the image is too long",
			      field->key);
	memcpy(field->to, value, bytes);
	field->to[bytes] = '\0';
	return 0;
}

static int take_line(const struct field *fields, size_t count,
		     const char *line, size_t bytes, struct reason *why)
{
	for (size_t i = 0; i < count; i++) {
		const size_t key_bytes = strlen(fields[i].key);

		if (bytes > key_bytes && line[key_bytes] == '=' &&
		    !memcmp(line, fields[i].key, key_bytes))
			return take_value(&fields[i], line + key_bytes + 1,
					  bytes - key_bytes - 1, why);
	}
	return 0;
}

static bool is_address(const char *text)
{
	struct in_addr address;

	return inet_pton(AF_INET, text, &address) == 1;
}

static int check(struct way_back *way, const char *kind, struct reason *why)
{
	if (strcmp(kind, "tcp") && strcmp(kind, "tls"))
		return refuse(why, "the way back to the image is of the unknown kind '%s'",
			      kind);
	way->is_tls = !strcmp(kind, "tls");
	if (!is_address(way->address) || !way->port[0] || !way->name[0] ||
	    (way->is_tls && !way->host[0]))
		return refuse(why, "the way back to the image does not say where it is");
	if (way->mac[0] && (!is_address(way->local) ||
			    !is_address(way->netmask)))
		return refuse(why, "the way back to the image does not say by which address");
	if (way->gateway[0] && !is_address(way->gateway))
		return refuse(why, "the way back to the image has no right gateway");
	return 0;
}

int way_back_read(const struct header *header, struct way_back *way,
		  struct reason *why)
{
	char kind[8] = "";
	const struct field fields[] = {
		{ "target", way->target, sizeof(way->target) },
		{ "kind", kind, sizeof(kind) },
		{ "host", way->host, sizeof(way->host) },
		{ "address", way->address, sizeof(way->address) },
		{ "port", way->port, sizeof(way->port) },
		{ "name", way->name, sizeof(way->name) },
		{ "mac", way->mac, sizeof(way->mac) },
		{ "local", way->local, sizeof(way->local) },
		{ "netmask", way->netmask, sizeof(way->netmask) },
		{ "gateway", way->gateway, sizeof(way->gateway) },
	};
	const char *at = header->way_back.start;
	size_t left = header->way_back.bytes;

	memset(way, 0, sizeof(*way));
	if (!at)
		return 1;
	while (left) {
		const char *end = memchr(at, '\n', left);
		const size_t length = end ? (size_t)(end - at) : left;

		if (take_line(fields, ARRAY_SIZE(fields), at, length, why))
			return -1;
		at += length + (end ? 1 : 0);
		left -= length + (end ? 1 : 0);
	}
	return check(way, kind, why);
}
