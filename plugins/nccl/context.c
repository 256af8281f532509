/* SPDX-License-Identifier: BSD-3-Clause */
/* context.c - contexts, and the comms that belong to each. */
#include "plugins/nccl/core.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

static pthread_mutex_t world = PTHREAD_MUTEX_INITIALIZER;

static int init_locked(struct snti_nccl_context **context)
{
	int status = snti_nccl_find_devices();

	if (status)
		return status;
	*context = calloc(1, sizeof **context);
	if (!*context)
		return snti_fail(SNT_ENOMEM, "no memory for a communicator");
	return 0;
}

int snti_nccl_init(struct snti_nccl_context **context, int traffic_class, nccl_logger logger, nccl_profiler profiler)
{
	int status;

	*context = NULL;
	snti_nccl_set_logger(logger);
	pthread_mutex_lock(&world);
	status = init_locked(context);
	pthread_mutex_unlock(&world);
	if (status) {
		snti_nccl_log(NCCL_LOG_WARN, "cannot be used: %s", snt_error_text());
		return snti_nccl_result(status);
	}
	snti_list_init(&(*context)->comms);
	(*context)->users = 1;
	(*context)->traffic_class = traffic_class > UINT8_MAX ? -1 : traffic_class;
	(*context)->profiler = profiler;
	return NCCL_SUCCESS;
}

/* ---- hints --------------------------------------------------------------- */

/* With so many comms at once each of them needs no parallel streams of its own. */
#define MANY 8

static int flows_of(const int32_t attributes[4])
{
	int64_t peers = attributes[0] > 0 ? attributes[0] : 1, flows = attributes[2] > 0 ? attributes[2] : 1;

	return peers * flows < MANY ? (int)(peers * flows) : MANY;
}

void snti_nccl_hint(struct snti_nccl_context *context, const struct nccl_attributes *attributes)
{
	atomic_store(&context->flows[0], flows_of(attributes->send));
	atomic_store(&context->flows[1], flows_of(attributes->recv));
}

/* Who has said how many there shall be is not overruled. */
static int is_chosen(void)
{
	static const char *const variables[] = { "SNT_TCP_SOCKETS", "SNT_VERBS_QPS", "NCCL_NSOCKS_PERTHREAD",
		"NCCL_IB_QPS_PER_CONNECTION" };

	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		if (getenv(variables[i]))
			return 1;
	return 0;
}

unsigned snti_nccl_streams(struct snti_nccl_context *context, int is_receiver)
{
	if (atomic_load(&context->flows[is_receiver]) < MANY || is_chosen())
		return 0;
	if (!atomic_exchange(&context->is_told, 1))
		snti_nccl_log(NCCL_LOG_INFO, "many connections at once: each has one socket or queue pair for its data");
	return 1;
}

/* ---- what belongs to it -------------------------------------------------- */

static void let_go(struct snti_nccl_context *context)
{
	if (--context->users == 0)
		free(context);
}

void snti_nccl_join(struct snti_nccl_context *context, struct snti_nccl_comm *comm)
{
	pthread_mutex_lock(&world);
	comm->context = context;
	context->users++;
	snti_list_append(&context->comms, &comm->link);
	pthread_mutex_unlock(&world);
}

static void leave_locked(struct snti_nccl_comm *comm)
{
	snti_list_remove(&comm->link);
	let_go(comm->context);
}

void snti_nccl_leave(struct snti_nccl_comm *comm)
{
	pthread_mutex_lock(&world);
	leave_locked(comm);
	pthread_mutex_unlock(&world);
}

struct snti_nccl_comm *snti_nccl_find(struct snti_nccl_context *context, uint64_t ident)
{
	struct snti_nccl_comm *found = NULL;

	pthread_mutex_lock(&world);
	snti_list_each(link, &context->comms) {
		struct snti_nccl_comm *comm = snti_container(link, struct snti_nccl_comm, link);

		if (comm->kind == SNTI_NCCL_CONNECTS && comm->ident == ident)
			found = comm;
	}
	pthread_mutex_unlock(&world);
	return found;
}

struct snti_nccl_comm *snti_nccl_forgotten(struct snti_nccl_context *context)
{
	struct snti_nccl_comm *found = NULL;

	pthread_mutex_lock(&world);
	snti_list_each(link, &context->comms) {
		struct snti_nccl_comm *comm = snti_container(link, struct snti_nccl_comm, link);

		if (comm->kind == SNTI_NCCL_CONNECTS && snti_is_past(comm->deadline))
			found = comm;
	}
	pthread_mutex_unlock(&world);
	return found;
}

int snti_nccl_finalize(struct snti_nccl_context *context)
{
	struct snti_link half, *link, *next;

	if (!context)
		return NCCL_SUCCESS;
	snti_list_init(&half);
	pthread_mutex_lock(&world);
	for (link = context->comms.next; link != &context->comms; link = next) {
		struct snti_nccl_comm *comm = snti_container(link, struct snti_nccl_comm, link);

		next = link->next;
		if (comm->kind != SNTI_NCCL_LISTENS && comm->kind != SNTI_NCCL_CONNECTS)
			continue;
		leave_locked(comm);
		snti_list_append(&half, &comm->link);
	}
	let_go(context);
	pthread_mutex_unlock(&world);
	while (!snti_list_empty(&half)) {
		link = half.next;
		snti_list_remove(link);
		snti_nccl_free(snti_container(link, struct snti_nccl_comm, link));
	}
	return NCCL_SUCCESS;
}
