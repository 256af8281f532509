/* SPDX-License-Identifier: BSD-3-Clause */
/* exchange_source.c - where the ranks of a job meet: from a ticket, a caller's allgather, or the environment. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/settings.h"
#include "transport/environment.h"
#include "transport/exchange_parts.h"

enum { SECRET_MOST = 4096, SECRET_SHORT = 16, BACKLOG = 4096 };

int snti_meeting_from_ticket(const struct snt_ticket *ticket, struct snti_meeting *meeting)
{
	const struct snti_socket_address loopback = { .bytes = { 127, 0, 0, 1 }, .family = 4 };
	struct snti_ticket_parts parts;
	int status = snti_ticket_read(ticket, &parts);

	if (status != 0)
		return status;
	memcpy(meeting->secret, parts.secret, sizeof(parts.secret));
	meeting->port = parts.port;
	if (parts.host != 0 && parts.host == snti_host_id()) {
		meeting->addresses[0] = loopback;
		meeting->addresses[0].port = parts.port;
		meeting->count = 1;
	}
	for (int i = 0; i < parts.count; i++)
		if (meeting->count == 0 || !snti_address_equal(&parts.addresses[i], &meeting->addresses[0]))
			meeting->addresses[meeting->count++] = parts.addresses[i];
	explicit_bzero(parts.secret, sizeof(parts.secret));
	meeting->is_open = 1;
	if (meeting->rank != 0)
		snti_ticket_drop(parts.id);
	else
		meeting->listener = snti_ticket_take(parts.id);
	if (meeting->rank == 0 && meeting->listener < 0)
		return snti_fail(SNT_EINVAL, "rank 0 must be the process that made the ticket, or a child forked after that, and "
				 "a ticket serves one team");
	return 0;
}

static int from_allgather(const struct snt_team_options *options, struct snti_meeting *meeting)
{
	struct snt_ticket mine = { { 0 } }, *all = calloc((size_t)options->ranks, sizeof(*all));
	int status = 0, answer;

	if (all == NULL)
		return snti_fail(SNT_ENOMEM, "no memory for %d tickets", options->ranks);
	if (options->rank == 0)
		status = snt_ticket_create(SNT_REACH_NETWORK, &mine);
	/* Rank 0 calls it even without a ticket: the others must not wait for it. */
	answer = options->allgather(options->allgather_arg, &mine, all, sizeof(mine));
	if (status == 0 && answer != 0)
		status = snti_fail(SNT_EINVAL, "the caller's allgather returned %d", answer);
	if (status == 0)
		status = snti_meeting_from_ticket(&all[0], meeting);
	explicit_bzero(all, (size_t)options->ranks * sizeof(*all));
	free(all);
	return status;
}

/* ---- addresses from the environment -------------------------------------- */

static int read_secret_file(const char *path, char *text, size_t *length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat info;
	ssize_t size;

	if (fd < 0)
		return snti_fail(SNT_EREFUSED, "SNT_SECRET_FILE %s: %s", path, strerror(errno));
	if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
		snti_socket_close(&fd);
		return snti_fail(SNT_EREFUSED, "SNT_SECRET_FILE %s must be a file of this user that nobody else has access to (chmod 600)", path);
	}
	size = read(fd, text, SECRET_MOST);
	snti_socket_close(&fd);
	while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r'))
		size--;
	*length = size > 0 ? (size_t)size : 0;
	return size > 0 ? 0 : snti_fail(SNT_EREFUSED, "SNT_SECRET_FILE %s holds no secret", path);
}

/* Any text becomes 32 bytes: the HMAC of the text under the library's name, in pieces of a key's size. */
static int secret_from_text(const char *text, size_t length, unsigned char out[SNTI_SECRET_BYTES])
{
	unsigned char piece[SNTI_SECRET_BYTES];
	char words[2 * SNTI_SECRET_BYTES + 1];

	if (length < SECRET_SHORT)
		snti_log(SNT_LOG_WARN, "the job's secret is short: 32 random characters or more are safe");
	memset(out, 0, SNTI_SECRET_BYTES);
	for (size_t at = 0; at < length; at += sizeof(piece)) {
		size_t part = length - at < sizeof(piece) ? length - at : sizeof(piece);

		memset(piece, 0, sizeof(piece));
		memcpy(piece, text + at, part);
		for (size_t i = 0; i < SNTI_SECRET_BYTES; i++)
			snprintf(words + 2 * i, 3, "%02x", out[i]);
		if (snti_derive(piece, words, out) != 0)
			return snti_fail(SNT_EDEVICE, "libcrypto refuses to compute an HMAC");
	}
	return 0;
}

static int find_secret(const char *source, unsigned char out[SNTI_SECRET_BYTES])
{
	const struct snti_settings *settings = snti_settings();
	char text[SECRET_MOST];
	size_t length = 0;
	int status;

	if (settings->secret[0] != '\0')
		return secret_from_text(settings->secret, strlen(settings->secret), out);
	if (settings->secret_file[0] == '\0')
		return snti_fail(SNT_EREFUSED, "%s says where rank 0 is but not who may join: %sput 32 random characters in a file of mode "
				 "600 on every host and name it in SNT_SECRET_FILE (or set SNT_SECRET)", source,
				 strcmp(source, "srun") == 0 ? "start with srun --mpi=pmi2 or --mpi=pmix, or " : "");
	status = read_secret_file(settings->secret_file, text, &length);
	if (status == 0)
		status = secret_from_text(text, length, out);
	explicit_bzero(text, sizeof(text));
	return status;
}

static int lacks_link(const struct snti_socket_address *address)
{
	return address->family == 6 && snti_address_is_link_local(address) && address->scope == 0;
}

static void add_addresses(struct snti_meeting *meeting, const struct addrinfo *list, uint16_t port)
{
	for (const struct addrinfo *one = list; one != NULL && meeting->count < SNTI_MEETING_ADDRESSES; one = one->ai_next) {
		struct snti_socket_address *address = &meeting->addresses[meeting->count];

		if (snti_address_from_system(address, one->ai_addr) != 0)
			continue;
		address->port = port;
		meeting->count++;
	}
}

int snti_meeting_resolve(struct snti_meeting *meeting)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list = NULL;

	if (getaddrinfo(meeting->host, NULL, &hints, &list) != 0)
		return SNT_BUSY;
	add_addresses(meeting, list, meeting->port);
	for (int i = 0; i < SNTI_OTHER_PORTS && meeting->others[i] != 0; i++)
		add_addresses(meeting, list, meeting->others[i]);
	freeaddrinfo(list);
	if (meeting->count == 1 && lacks_link(&meeting->addresses[0]))
		return snti_fail(SNT_EINVAL, "rank 0's address %s (from %s) holds on one link only: say which, as in %s%%eth0",
				 meeting->host, meeting->source, meeting->host);
	return meeting->count > 0 ? 0 : SNT_BUSY;
}

/* Rank 0 never asks what its name means: it listens everywhere, or on loopback when that was asked for. */
static int listen_for(struct snti_meeting *meeting)
{
	struct snti_socket_address where = { .port = meeting->port };
	uint16_t ports[1 + SNTI_OTHER_PORTS];
	int is_v4 = strcmp(meeting->host, "localhost") == 0 || strncmp(meeting->host, "127.", 4) == 0;

	if (is_v4)
		memcpy(where.bytes, (const unsigned char[]){ 127, 0, 0, 1 }, 4);
	if (strcmp(meeting->host, "::1") == 0)
		where.bytes[15] = 1;
	where.family = is_v4 ? 4 : where.bytes[15] != 0 ? 6 : 0;
	if (meeting->others[0] == 0)
		return snti_socket_listen(&where, BACKLOG, &meeting->listener);
	ports[0] = meeting->port;
	memcpy(ports + 1, meeting->others, sizeof(meeting->others));
	return snti_socket_listen_first(&where, ports, 1 + SNTI_OTHER_PORTS, &meeting->listener);
}

static int from_address(const struct snti_place *place, struct snti_meeting *meeting)
{
	unsigned char secret[SNTI_SECRET_BYTES];
	int status = find_secret(place->source, meeting->secret);

	if (status == 0 && place->job[0] != '\0') {
		memcpy(secret, meeting->secret, sizeof(secret));
		if (snti_derive(secret, place->job, meeting->secret) != 0)
			status = snti_fail(SNT_EDEVICE, "libcrypto refuses to compute an HMAC");
		explicit_bzero(secret, sizeof(secret));
	}
	if (status != 0)
		return status;
	memcpy(meeting->others, place->others, sizeof(meeting->others));
	snprintf(meeting->host, sizeof(meeting->host), "%s", place->host);
	meeting->port = place->port;
	return meeting->rank == 0 ? listen_for(meeting) : 0;
}

static int from_environment(const struct snt_team_options *options, const struct snti_place *place, struct snti_meeting *meeting)
{
	struct snt_ticket ticket;
	int status;

	meeting->source = place->source;
	if (meeting->ranks == 1)
		return 0;
	if (place->kind == SNTI_PLACE_NONE)
		return snti_fail(SNT_EINVAL, "%d ranks, but neither a ticket nor a launcher's variables say where they meet", meeting->ranks);
	if (place->kind == SNTI_PLACE_ADDRESS)
		return from_address(place, meeting);
	if (options->ranks > 0 && (options->ranks != place->ranks || options->rank != place->rank))
		return snti_fail(SNT_EINVAL, "rank %d of %d was asked for, but %s says rank %d of %d", options->rank, options->ranks,
				 place->source, place->rank, place->ranks);
	status = place->kind == SNTI_PLACE_PMIX ? snti_pmix_share(place, &ticket) : snti_pmi1_share(place, &ticket);
	if (status == 0)
		status = snti_meeting_from_ticket(&ticket, meeting);
	explicit_bzero(&ticket, sizeof(ticket));
	return status;
}

static int find_ranks(const struct snt_team_options *options, struct snti_place *place, struct snti_meeting *meeting)
{
	int status = 0;

	if (options->ranks < 0 || options->rank < 0 || (options->ranks > 0 && options->rank >= options->ranks))
		return snti_fail(SNT_EINVAL, "rank %d of %d makes no sense", options->rank, options->ranks);
	if (options->ranks == 0 && options->allgather != NULL && options->ticket == NULL)
		return snti_fail(SNT_EINVAL, "an allgather needs rank and ranks in the options too");
	if (options->ranks == 0 || (options->ranks > 1 && options->ticket == NULL && options->allgather == NULL))
		status = snti_place_find(snti_place_variable, place);
	meeting->rank = options->ranks > 0 ? options->rank : place->rank;
	meeting->ranks = options->ranks > 0 ? options->ranks : place->ranks;
	return status;
}

int snti_meeting_find(const struct snt_team_options *options, struct snti_meeting *meeting)
{
	const struct snt_team_options standard = SNT_TEAM_OPTIONS;
	struct snti_place place = { .ranks = 1, .source = "the environment" };
	int status;

	if (options == NULL)
		options = &standard;
	status = find_ranks(options, &place, meeting);
	if (status != 0)
		return status;
	meeting->source = "the ticket";
	if (options->ticket != NULL)
		return snti_meeting_from_ticket(options->ticket, meeting);
	if (options->allgather != NULL && options->ranks > 0)
		return from_allgather(options, meeting);
	return from_environment(options, &place, meeting);
}
