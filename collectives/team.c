/* SPDX-License-Identifier: BSD-3-Clause */
/* team.c - makes and ends a team, connects its members, keeps its plans. */
#include "collectives/team.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"
#include "collectives/helper.h"
#include "collectives/ports.h"

static int read_options(struct snt_team *team, struct snt_team_options *options)
{
	const struct snti_settings *settings = snti_settings();
	struct snti_order order = { 0 };
	int status;

	team->timeout_ms = options->timeout_ms ? options->timeout_ms : settings->timeout_ms;
	team->algorithms = strdup(options->algorithms ? options->algorithms : settings->algorithms);
	if (!team->algorithms)
		return snti_fail(SNT_ENOMEM, "no memory for a team");
	status = snti_select_check(team->algorithms);
	if (!status)
		status = snti_order_read(options->transports ? options->transports : settings->transports, &order);
	memcpy(team->preferred, order.index, sizeof(order.index));
	team->preferred_count = order.count;
	team->is_automatic = order.is_automatic;
	team->unasked = order.rails_unasked;
	return status;
}

static void count_hosts(struct snt_team *team)
{
	uint64_t mine = team->cards[team->rank].host;
	int lead = 0;

	for (int r = 0; r < team->size; r++) {
		if (team->cards[r].host != mine)
			continue;
		team->local_rank += r < team->rank;
		team->local_size++;
	}
	while (lead < team->size && team->cards[lead].host == team->cards[0].host)
		lead++;
	team->node_size = team->size % lead ? 0 : lead;
	for (int r = 0; r < team->size && team->node_size; r++)
		if (team->cards[r].host != team->cards[r / lead * lead].host ||
		    (r % lead == 0 && r && team->cards[r].host == team->cards[r - 1].host))
			team->node_size = 0;
}

/* The wire between @rank and rank 0, as the cards tell it to everybody. */
static const struct snti_transport *wire_to_first(const struct snt_team *team, int rank)
{
	const struct snti_card *card = &team->cards[rank], *first = &team->cards[0];

	for (uint32_t i = 0; i < team->preferred_count; i++) {
		uint32_t index = team->preferred[i];
		const struct snti_transport *transport = snti_transports[index];

		if (card->ports & first->ports & 1u << index && (!transport->within_host || card->host == first->host))
			return transport;
	}
	return NULL;
}

static void find_slice(struct snt_team *team)
{
	for (int r = 1; r < team->size; r++) {
		const struct snti_transport *wire = wire_to_first(team, r);

		if (wire && wire->slice > team->slice)
			team->slice = wire->slice;
	}
}

static void set_patience(struct snt_team *team)
{
	const struct snti_settings *settings = snti_settings();
	uint64_t most_us = team->timeout_ms * 1000ull / 2;   /* who spins looks at no deadline and hears no other rank */

	/* Spinning takes the core from the very rank that is waited for. The host's cores, not this rank's own share
	 * of them: a launcher may have bound each rank to one. */
	team->spin_us = team->local_size > sysconf(_SC_NPROCESSORS_ONLN) ? 0 : settings->spin_us;
	if (team->spin_us > most_us)
		team->spin_us = most_us;
	team->yields = settings->yields;
}

static int wants_helper(const struct snt_team_options *options)
{
	return options->progress_thread ? options->progress_thread > 0 : snti_settings()->progress_thread != 0;
}

static int team_init(struct snt_team *team, struct snt_team_options *options)
{
	uint64_t deadline = snti_deadline_ms(snti_settings()->startup_ms);
	int status = read_options(team, options);

	if (!status)
		status = snti_exchange_open(options, deadline, &team->exchange);
	if (status)
		return status;
	team->rank = snti_exchange_rank(team->exchange);
	team->size = snti_exchange_size(team->exchange);
	team->cards = calloc(team->size, sizeof(*team->cards));
	team->conns = calloc(team->size, sizeof(*team->conns));
	if (!team->cards || !team->conns)
		return snti_fail(SNT_ENOMEM, "no memory for %d ranks", team->size);
	status = snti_team_open_ports(team, deadline);
	if (!status) {
		count_hosts(team);
		find_slice(team);
		set_patience(team);
		if (team->size > 1 && wants_helper(options))
			status = snti_helper_start(team);
	}
	return status;
}

static void team_free(struct snt_team *team)
{
	for (int r = 0; team->conns && r < team->size; r++)
		snti_conn_close(team->conns[r]);
	for (int i = 0; i < SNTI_PORTS_MAX; i++)
		snti_port_close(team->ports[i]);
	while (!snti_list_empty(&team->plans)) {
		struct snti_cached_plan *cached = snti_container(team->plans.next, struct snti_cached_plan, link);

		snti_list_remove(&cached->link);
		snti_plan_fini(&cached->plan);
		free(cached);
	}
	snti_exchange_close(team->exchange);
	free(team->cards);
	free(team->conns);
	free(team->algorithms);
	free(team);
}

int snt_team_create(const struct snt_team_options *given, struct snt_team **out)
{
	struct snt_team_options options = SNT_TEAM_OPTIONS;
	struct snt_team *team;
	int status;

	if (out)
		*out = NULL;   /* so that a caller may destroy what never was */
	if (!out || (given && (given->size < sizeof(size_t) || given->size > 4096)))
		return snti_fail(SNT_EINVAL, out ? "options without SNT_TEAM_OPTIONS" : "no place for the team");
	if (given)
		memcpy(&options, given, given->size < sizeof(options) ? given->size : sizeof(options));
	if (options.ranks < 0 || (options.ranks && (options.rank < 0 || options.rank >= options.ranks)))
		return snti_fail(SNT_EINVAL, "rank %d is not in a team of %d ranks", options.rank, options.ranks);
	team = calloc(1, sizeof(*team));
	if (!team)
		return snti_fail(SNT_ENOMEM, "no memory for a team");
	snti_list_init(&team->running);
	snti_list_init(&team->plans);
	snti_list_init(&team->ops);
	status = team_init(team, &options);
	if (status && team->exchange)
		snti_exchange_abort(team->exchange, status, snt_error_text());
	if (status)
		team_free(team);
	else
		*out = team;
	return status;
}

void snt_team_destroy(struct snt_team *team)
{
	if (!team)
		return;
	snti_helper_stop(team);
	while (!snti_list_empty(&team->ops))
		snti_op_free(snti_container(team->ops.next, struct snt_op, all));
	if (!team->status)
		snti_team_wait(team, NULL);
	snti_exchange_leave(team->exchange);
	team_free(team);
}

int snt_team_rank(const struct snt_team *team) { return team ? team->rank : -1; }
int snt_team_size(const struct snt_team *team) { return team ? team->size : 0; }
int snt_team_local_rank(const struct snt_team *team) { return team ? team->local_rank : -1; }
int snt_team_local_size(const struct snt_team *team) { return team ? team->local_size : 0; }

/* Both ends of a pair find the same transport: the first preferred one that both have and that reaches. */
int snti_team_connect(struct snt_team *team, uint32_t peer)
{
	uint64_t low = peer < (uint32_t)team->rank ? peer : (uint32_t)team->rank;
	uint64_t high = peer < (uint32_t)team->rank ? (uint32_t)team->rank : peer;
	uint64_t ident = low << 32 | high;

	if (team->conns[peer])
		return 0;
	for (uint32_t i = 0; i < team->preferred_count; i++) {
		uint32_t index = team->preferred[i];
		struct snti_port *port = team->ports[index];
		const struct snti_address *theirs = &team->cards[peer].addresses[index];
		const struct snti_address *mine = &team->cards[team->rank].addresses[index];

		if (!port || !(team->cards[team->rank].ports & team->cards[peer].ports & 1u << index) ||
		    port->ops->reaches(port, theirs))
			continue;
		return snti_conn_open(port, mine, (uint32_t)team->rank == low ? theirs : NULL, ident, peer, &team->conns[peer]);
	}
	return snti_fail(SNT_EUNREACHABLE, "no transport reaches rank %u: allow tcp in SNT_TRANSPORTS", peer);
}

static int same_shape(const struct snti_plan *plan, const struct snti_plan_shape *shape)
{
	return plan->collective == shape->collective && plan->root == shape->root && plan->in_place == shape->in_place;
}

const struct snti_plan *snti_team_plan(struct snt_team *team, const struct snti_algorithm *algorithm,
				       const struct snti_plan_shape *shape, int *status)
{
	struct snti_cached_plan *cached;

	snti_list_each(link, &team->plans) {
		cached = snti_container(link, struct snti_cached_plan, link);
		if (cached->algorithm == algorithm && same_shape(&cached->plan, shape))
			return &cached->plan;
	}
	cached = calloc(1, sizeof(*cached));
	if (!cached) {
		*status = snti_fail(SNT_ENOMEM, "no memory for a plan");
		return NULL;
	}
	cached->algorithm = algorithm;
	snti_plan_init(&cached->plan, shape);
	algorithm->build(&cached->plan);
	*status = snti_plan_commit(&cached->plan);
	snti_list_append(&team->plans, &cached->link);
	if (!*status)
		return &cached->plan;
	snti_fail(*status, "algorithm %s cannot serve %s among %d ranks", algorithm->name,
		  snt_collective_name(shape->collective), team->size);
	snti_list_remove(&cached->link);
	snti_plan_fini(&cached->plan);
	free(cached);
	return NULL;
}
