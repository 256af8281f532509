/* SPDX-License-Identifier: BSD-3-Clause */
/* api.c - the blocking one-liners: a call finds its prepared operation again. */
#include <string.h>

#include "base/log.h"
#include "collectives/helper.h"

static int same_call(const struct snt_call *a, const struct snt_call *b)
{
	if (a->collective == SNT_BARRIER)
		return b->collective == SNT_BARRIER;
	return a->in == b->in && a->out == b->out && a->count == b->count && a->collective == b->collective &&
	       a->type == b->type && a->fold == b->fold && a->root == b->root && a->tag == b->tag;
}

static uint32_t place_of(const struct snt_call *call)
{
	uint64_t hash = (uintptr_t)call->in / 8 * 31 + (uintptr_t)call->out / 8 * 17 + call->count;

	hash = (hash ^ call->collective ^ (uint64_t)call->root << 3 ^ call->tag) * 0x9e3779b97f4a7c15ull;
	return hash >> 32 & (SNTI_RECENT - 1);
}

static int run(struct snt_op *op)
{
	int status = snti_op_start(op);

	return status ? status : snti_op_wait(op);
}

/* Counts may change between calls behind the same pointer, so those are never remembered. */
static int call_once(struct snt_team *team, const struct snt_call *call)
{
	struct snt_op *op;
	int status = snti_op_create(team, call, &op);

	if (status)
		return status;
	status = run(op);
	snti_op_free(op);
	return status;
}

static int call_now(struct snt_team *team, const struct snt_call *call)
{
	struct snt_op **recent;
	int status;

	if (call->size < sizeof(*call) || call->in_layout.counts || call->in_layout.offsets || call->out_layout.counts ||
	    call->out_layout.offsets)
		return call_once(team, call);
	recent = &team->recent[place_of(call)];
	if (*recent && same_call(&(*recent)->call, call) && (*recent)->status != SNT_BUSY)
		return run(*recent);
	if (*recent)
		snti_op_free(*recent);
	*recent = NULL;
	status = snti_op_create(team, call, recent);
	return status ? status : run(*recent);
}

/* The owner is inside from beginning to end, so the thread is not woken. */
static int call_beside(struct snt_team *team, const struct snt_call *call)
{
	int status;

	snti_helper_enter(team->helper);
	status = call_now(team, call);
	snti_helper_leave(team->helper);
	return status;
}

int snt_call(struct snt_team *team, const struct snt_call *call)
{
	if (!team || !call)
		return snti_fail(SNT_EINVAL, "a NULL team or call");
	return team->helper ? call_beside(team, call) : call_now(team, call);
}

int snt_allreduce(struct snt_team *team, const void *in, void *out, size_t count, enum snt_type type, enum snt_fold fold)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_ALLREDUCE), .in = in, .out = out, .count = count,
						  .type = type, .fold = fold });
}

int snt_reduce_scatter(struct snt_team *team, const void *in, void *out, size_t count, enum snt_type type,
		       enum snt_fold fold)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_REDUCE_SCATTER), .in = in, .out = out, .count = count,
						  .type = type, .fold = fold });
}

int snt_allgather(struct snt_team *team, const void *in, void *out, size_t count, enum snt_type type)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_ALLGATHER), .in = in, .out = out, .count = count,
						  .type = type });
}

int snt_broadcast(struct snt_team *team, const void *in, void *out, size_t count, enum snt_type type, int root)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_BROADCAST), .in = in, .out = out, .count = count,
						  .type = type, .root = root });
}

int snt_reduce(struct snt_team *team, const void *in, void *out, size_t count, enum snt_type type, enum snt_fold fold,
	       int root)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_REDUCE), .in = in, .out = out, .count = count,
						  .type = type, .fold = fold, .root = root });
}

int snt_alltoall(struct snt_team *team, const void *in, void *out, size_t count, enum snt_type type)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_ALLTOALL), .in = in, .out = out, .count = count,
						  .type = type });
}

int snt_gather(struct snt_team *team, const void *in, void *out, size_t count, enum snt_type type, int root)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_GATHER), .in = in, .out = out, .count = count,
						  .type = type, .root = root });
}

int snt_scatter(struct snt_team *team, const void *in, void *out, size_t count, enum snt_type type, int root)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_SCATTER), .in = in, .out = out, .count = count,
						  .type = type, .root = root });
}

int snt_barrier(struct snt_team *team)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_BARRIER) });
}

int snt_send(struct snt_team *team, const void *in, size_t count, enum snt_type type, int to, uint32_t tag)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_SEND), .in = in, .count = count, .type = type,
						  .root = to, .tag = tag });
}

int snt_recv(struct snt_team *team, void *out, size_t count, enum snt_type type, int from, uint32_t tag)
{
	return snt_call(team, &(struct snt_call){ SNT_CALL(SNT_RECV), .out = out, .count = count, .type = type,
						  .root = from, .tag = tag });
}
