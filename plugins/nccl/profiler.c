/* SPDX-License-Identifier: BSD-3-Clause */
/* profiler.c - the profiler's tables that NCCL looks up, and the conversions between its versions. */
#include "plugins/nccl/profiler.h"

#include <string.h>

#include "base/clock.h"
#include "plugins/nccl/core.h"

#define EXPORT __attribute__((visibility("default")))

/* Operations and steps are what is counted; the network's events say on which NIC. */
enum {
	EVENTS_4 = NCCL_EVENT_COLL | NCCL_EVENT_P2P | NCCL_EVENT_PROXY_OP | NCCL_EVENT_PROXY_STEP | NCCL_EVENT_NETWORK,
	EVENTS_6 = EVENTS_4 | NCCL_EVENT_COPY_COLL,
};

struct communicator { uint64_t id; const char *name; int nodes, ranks, rank; };

static struct snti_profile_comm *begin_locked(const struct communicator *what, nccl_logger logger)
{
	struct snti_profile_comm *comm;
	uint64_t now = snti_now_ns();

	if (snti_profile_open(logger, what->rank))
		return NULL;
	comm = snti_profile_begin(what->id, what->name, now);
	if (!comm) {
		snti_profile_log(NCCL_LOG_WARN, "SNT_PROFILE: more than %d communicators, this one is not profiled",
				 SNTI_PROFILE_COMMS - 1);
		return NULL;
	}
	comm->nodes = what->nodes;
	comm->ranks = what->ranks;
	comm->rank = what->rank;
	if (!snti_profile_opened(comm))
		return comm;
	snti_profile_end(comm, now);
	return NULL;
}

/* Never fails: a job goes on without its profile. The mask is one for all communicators, the last to write it wins. */
static int begin(const struct communicator *what, void **context, int *mask, int events, nccl_logger logger)
{
	struct snti_profile_comm *comm;

	snti_profile_lock();
	comm = begin_locked(what, logger);
	*context = comm;
	*mask = comm || snti_profile_is_on() ? events : 0;
	snti_profile_unlock();
	return NCCL_SUCCESS;
}

static int init_4(void **context, int *mask, const char *name, uint64_t comm, int nodes, int ranks, int rank,
		  nccl_logger logger)
{
	return begin(&(struct communicator){ comm, name, nodes, ranks, rank }, context, mask, EVENTS_4, logger);
}

static int init_5(void **context, uint64_t comm, int *mask, const char *name, int nodes, int ranks, int rank,
		  nccl_logger logger)
{
	return begin(&(struct communicator){ comm, name, nodes, ranks, rank }, context, mask, EVENTS_4, logger);
}

static int init_6(void **context, uint64_t comm, int *mask, const char *name, int nodes, int ranks, int rank,
		  nccl_logger logger)
{
	return begin(&(struct communicator){ comm, name, nodes, ranks, rank }, context, mask, EVENTS_6, logger);
}

static int start_6(void *context, void **event, struct nccl_event_v6 *description)
{
	*event = snti_profile_start(context, description, snti_now_ns());
	return NCCL_SUCCESS;
}

/* What v5 knows lies where it lies in v6, and what v4 knows too, but for the type. */
_Static_assert(sizeof(struct nccl_event_v5) == sizeof(struct nccl_event_v6), "v5 is v6 with less in the union");

static int start_5(void *context, void **event, struct nccl_event_v5 *description)
{
	struct nccl_event_v6 whole;

	memcpy(&whole, description, sizeof whole);
	return start_6(context, event, &whole);
}

static int start_4(void *context, void **event, struct nccl_event_v4 *description)
{
	struct nccl_event_v6 whole = { .type = description->type };
	size_t from = offsetof(struct nccl_event_v4, parent);

	memcpy((char *)&whole + from, (const char *)description + from, sizeof *description - from);
	return start_6(context, event, &whole);
}

static int record(void *event, int state, union nccl_event_arguments *arguments)
{
	snti_profile_record(event, state, arguments, snti_now_ns());
	return NCCL_SUCCESS;
}

static int stop(void *event)
{
	snti_profile_stop(event, snti_now_ns());
	return NCCL_SUCCESS;
}

static int finalize(void *context)
{
	struct snti_profile_comm *comm = context;

	if (!comm)
		return NCCL_SUCCESS;
	snti_profile_lock();
	if (atomic_load(&comm->state) == SNTI_PROFILE_LIVE) {
		snti_profile_end(comm, snti_now_ns());
		snti_profile_close(comm);
	}
	snti_profile_unlock();
	return NCCL_SUCCESS;
}

#define COMMON .name = SNTI_NCCL_NAME, .stop_event = stop, .record_state = record, .finalize = finalize

EXPORT extern const struct nccl_profiler_v4 ncclProfiler_v4;
EXPORT extern const struct nccl_profiler_v5 ncclProfiler_v5;
EXPORT extern const struct nccl_profiler_v6 ncclProfiler_v6;

const struct nccl_profiler_v4 ncclProfiler_v4 = { COMMON, .init = init_4, .start_event = start_4 };
const struct nccl_profiler_v5 ncclProfiler_v5 = { COMMON, .init = init_5, .start_event = start_5 };
const struct nccl_profiler_v6 ncclProfiler_v6 = { COMMON, .init = init_6, .start_event = start_6 };
