/* SPDX-License-Identifier: BSD-3-Clause */
/* ports.c - which transports a team opens, by name or after what its hosts have, and the cards that tell every rank.
 *
 * Between two ranks goes the first transport that both have and that reaches. Each rank finds that out by itself, so all
 * must see the same: what the choice is made from is gathered first.
 */
#include "collectives/ports.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "collectives/team.h"

/* What ranks tell each other before anything is opened. */
struct hello { uint64_t host, choices; uint32_t has_fabric, reserved; };

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
	for (const unsigned char *b = bytes; size--; b++)
		hash = (hash ^ *b) * 0x100000001b3ull;
	return hash;
}

/* Ranks are on one host when they share a boot and a network namespace: then they reach each other's sockets. */
static uint64_t host_id(const struct snt_team *team)
{
	char boot[64] = "";
	struct stat space = { 0 };
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? 0 : read(fd, boot, sizeof(boot));

	if (fd >= 0)
		close(fd);
	/* Where that cannot be read, each rank counts as a host of its own: two that are not on one host must not think so. */
	if (got <= 0 || stat("/proc/self/ns/net", &space))
		return (uint64_t)team->rank + 1;
	return hash_bytes(hash_bytes(0xcbf29ce484222325ull, boot, (size_t)got), &space.st_ino, sizeof(space.st_ino));
}

/* ---- the automatic order -------------------------------------------------- */

/* Whether something between @a and @b is still to be found: both have a fabric, and nothing in common that uses it. */
static int is_lacking(const struct snti_prospect *a, const struct snti_prospect *b)
{
	return a->host != b->host && a->has_fabric && b->has_fabric && !(a->has & b->has);
}

int snti_prospects_lack(const struct snti_prospect *all, int size, int rank)
{
	for (int r = 0; r < size; r++)
		if (is_lacking(&all[rank], &all[r]))
			return 1;
	return 0;
}

uint32_t snti_prospects_use(const struct snti_prospect *all, int size, int rank)
{
	uint32_t use = 0;

	for (int r = 0; r < size; r++) {
		uint32_t common = all[rank].has & all[r].has;

		if (all[r].host != all[rank].host)
			use |= common & -common;        /* the first in the table, which is the order */
	}
	return use;
}

static int ask_about(struct snt_team *team, uint32_t index, struct snti_prospect *all, uint64_t deadline)
{
	const struct snti_transport *transport = snti_transports[index];
	uint32_t mine = 0, *found = calloc(team->size, sizeof(*found));
	char text[300] = "";
	int status;

	if (!found)
		return snti_fail(SNT_ENOMEM, "no memory for %d ranks", team->size);
	if (snti_prospects_lack(all, team->size, team->rank)) {
		mine = transport->offers(text, sizeof(text)) ? 0 : 1u << index;
		snti_log(SNT_LOG_INFO, "%s: %s%s", transport->name, mine ? "" : "left out: ", text);
	}
	status = snti_exchange_allgather(team->exchange, &mine, found, sizeof(mine), deadline);
	for (int r = 0; r < team->size && !status; r++)
		all[r].has |= found[r];
	free(found);
	return status;
}

static int any_lacks(const struct snti_prospect *all, int size)
{
	for (int r = 0; r < size; r++)
		if (snti_prospects_lack(all, size, r))
			return 1;
	return 0;
}

/* One transport after the other, each only asked for, by all alike, where two hosts would have nothing else. */
static int find_used(struct snt_team *team, struct snti_prospect *all, uint64_t deadline, uint32_t *used)
{
	int status = 0;

	for (uint32_t i = 0; i < team->preferred_count && !status; i++)
		if (snti_transports[team->preferred[i]]->offers && any_lacks(all, team->size))
			status = ask_about(team, team->preferred[i], all, deadline);
	*used = snti_prospects_use(all, team->size, team->rank);
	return status;
}

/* ---- ports ---------------------------------------------------------------- */

static int is_left_out(const struct snt_team *team, uint32_t index, uint32_t used)
{
	return team->is_automatic && snti_transports[index]->offers && !(used & 1u << index);
}

static int open_ports(struct snt_team *team, struct snti_card *mine, int local_only, uint32_t used)
{
	struct snti_port_options options = { .secret = snti_exchange_secret(team->exchange), .local_only = local_only,
					     .timeout_ms = team->timeout_ms, .beyond_tcp = team->is_automatic };
	int status = 0, last = 0;

	for (uint32_t i = 0; i < team->preferred_count; i++) {
		uint32_t index = team->preferred[i];

		if (team->ports[index] || is_left_out(team, index, used) ||
		    (team->unasked & 1u << index && !snti_rails_wanted(snti_transports[index], local_only)))
			continue;
		status = snti_port_open(snti_transports[index], &options, &team->ports[index]);
		if (!status)
			team->open[team->open_count++] = team->ports[index];
		if (!status)
			status = team->ports[index]->ops->address(team->ports[index], &mine->addresses[index]);
		/* What somebody asked for and cannot have is not passed over. */
		if (status == SNT_EINVAL)
			return status;
		if (status)
			last = status;
		else
			mine->ports |= 1u << index;
	}
	return mine->ports ? 0 : last;
}

static int check_choices(const struct hello *all, int size)
{
	for (int r = 1; r < size; r++)
		if (all[r].choices != all[0].choices)
			return snti_fail(SNT_EMISMATCH, "rank %d has other algorithms or transports set than rank 0: "
					 "SNT_ALGORITHMS and SNT_TRANSPORTS must be alike on all ranks", r);
	return 0;
}

static struct hello greeting(const struct snt_team *team)
{
	struct hello mine = { .host = host_id(team), .has_fabric = team->is_automatic && snti_has_rdma() };

	mine.choices = hash_bytes(1, team->algorithms, strlen(team->algorithms));
	mine.choices = hash_bytes(mine.choices, team->preferred, team->preferred_count * sizeof(*team->preferred));
	mine.choices = hash_bytes(mine.choices, &team->is_automatic, sizeof(team->is_automatic));
	return mine;
}

/* Who is where, so that a job on one host opens nothing to the network; and what is to be opened. */
static int look_around(struct snt_team *team, uint64_t deadline, int *local, uint32_t *used)
{
	struct hello mine = greeting(team), *hellos = calloc(team->size, sizeof(*hellos));
	struct snti_prospect *all = calloc(team->size, sizeof(*all));
	int status = SNT_ENOMEM;

	*local = 1;
	if (!hellos || !all)
		snti_fail(status, "no memory for %d ranks", team->size);
	else
		status = snti_exchange_allgather(team->exchange, &mine, hellos, sizeof(mine), deadline);
	if (!status)
		status = check_choices(hellos, team->size);
	for (int r = 0; r < team->size && !status; r++) {
		all[r] = (struct snti_prospect){ .host = hellos[r].host, .has_fabric = hellos[r].has_fabric };
		*local &= hellos[r].host == hellos[0].host;
	}
	if (!status)
		status = find_used(team, all, deadline, used);
	team->cards[team->rank].host = mine.host;
	free(hellos);
	free(all);
	return status;
}

int snti_team_open_ports(struct snt_team *team, uint64_t deadline)
{
	struct snti_card mine = { 0 };
	uint32_t used = 0;
	int local, status = look_around(team, deadline, &local, &used);

	mine.host = team->cards[team->rank].host;
	if (!status)
		status = open_ports(team, &mine, local, used);
	return status ? status : snti_exchange_allgather(team->exchange, &mine, team->cards, sizeof(mine), deadline);
}
