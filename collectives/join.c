/* SPDX-License-Identifier: BSD-3-Clause */
/* join.c - folds out of the senders' memory: all that is lent in one pass, into the result and into the senders' rooms. */
#include "collectives/join.h"

#include "base/log.h"
#include "collectives/plan.h"

enum { BLOCK = 8 << 10 };   /* bytes that stay in the first cache between the fold and the stores of its result */

/* Messages that are lent, and how to fold them. */
struct held {
	struct snti_run *run;
	const struct snti_job *job;
	uint32_t count, rooms;
	const void *sources[SNTI_FOLD_MOST];
	uint32_t with_room[SNTI_FOLD_MOST];         /* steps */
};

static struct snti_xfer *xfer_of(const struct snti_run *run, uint32_t i)
{
	return &run->xfers[i - run->first];
}

void snti_join_offer_room(const struct snti_run *run, const struct snti_act *act, struct snti_xfer *xfer)
{
	const struct snti_act *take = &run->acts[act->answer - 1];

	if (!take->memory || take->size != act->size)
		return;
	xfer->room = take->to;
	xfer->room_memory = take->memory;
	xfer->answer = act->number;
}

static void fold(const struct held *h, char *dst, size_t at, size_t size)
{
	const struct snti_act *act = &h->run->acts[h->run->held];
	const char *mine = (const char *)h->sources[0] + at, *theirs = (const char *)h->sources[1] + at;
	const void *sources[SNTI_FOLD_MOST];
	size_t count = size / h->job->width;

	if (h->count == 1) {
		h->job->fold(dst, act->left ? theirs : mine, act->left ? mine : theirs, count);
		return;
	}
	for (uint32_t i = 0; i <= h->count; i++)
		sources[i] = (const char *)h->sources[i] + at;
	snti_fold_many(h->job->type, h->job->how, dst, sources, h->count + 1, count);
}

static int put(const struct held *h, size_t at, const char *bytes, size_t size)
{
	for (uint32_t i = 0; i < h->rooms; i++) {
		struct snti_conn *conn = h->job->conns[h->run->acts[h->with_room[i]].peer];
		int status = conn->ops->put(conn, xfer_of(h->run, h->with_room[i]), at, bytes, size);

		if (status)
			return status;
	}
	return 0;
}

/* What others get leaves a block at a time, as long as it is in the first cache; the own result with it where the
 * caches would not keep it anyway. */
static int fold_and_put(const struct held *h, char *to, size_t size)
{
	_Alignas(64) char block[BLOCK];
	int status = 0;

	if (!h->rooms)
		fold(h, to, 0, size);
	for (size_t at = 0; h->rooms && at < size && !status; at += BLOCK) {
		size_t part = size - at < BLOCK ? size - at : BLOCK;
		char *dst = h->job->around ? block : to + at;

		fold(h, dst, at, part);
		status = put(h, at, dst, part);
		if (h->job->around)
			snti_copy_around(to + at, dst, part);
	}
	return status;
}

static int give_back(const struct held *h, uint32_t end)
{
	struct snti_run *run = h->run;
	uint32_t answered = 0;
	int status = 0;

	for (uint32_t i = run->held; i < run->started && !status; i++) {
		struct snti_conn *conn = h->job->conns[run->acts[i].peer];
		int has_answer = answered < h->rooms && h->with_room[answered] == i;

		if (has_answer) {
			run->answered |= (uint64_t)1 << (run->acts[i].answer - 1 - end);
			answered++;
		}
		status = conn->ops->give_back(conn, xfer_of(run, i), has_answer);
	}
	run->held = run->started;
	return status;
}

/* Folds all that is lent. Only the last fold of the round makes an answer. */
static int fold_held(struct snti_run *run, const struct snti_job *job, uint32_t end)
{
	struct held h = { .run = run, .job = job };
	const struct snti_act *first = &run->acts[run->held];
	int begins = run->held == run->first || !first[-1].joint, status;

	if (run->held == run->started)
		return 0;
	h.sources[0] = begins ? first->from : first->to;
	for (uint32_t i = run->held; i < run->started; i++) {
		const struct snti_xfer *xfer = xfer_of(run, i);

		if (xfer->status < 0)
			return xfer->status;
		h.sources[++h.count] = xfer->lent;
		if (run->started == end && run->acts[i].answer && xfer->has_room && xfer->answer == run->acts[i].number)
			h.with_room[h.rooms++] = i;
	}
	status = fold_and_put(&h, first->to, first->size);
	return status ? status : give_back(&h, end);
}

static int borrow(const struct snti_run *run, const struct snti_job *job, const struct snti_act *act,
		  struct snti_xfer *xfer)
{
	struct snti_conn *conn = job->conns[act->peer];
	int status;

	if (!conn->ops->borrow || act->size <= conn->ops->lends)
		return SNTI_UNLENT;
	xfer->size = act->size;
	xfer->lane = run->lane;
	xfer->fingerprint = job->fingerprint;
	xfer->at_most = 0;
	xfer->status = SNT_BUSY;
	status = conn->ops->borrow(conn, xfer);
	return status == SNT_EPEER ? snti_fail(status, "rank %u has closed the connection", act->peer) : status;
}

/* The next message cannot be lent: what is before it is folded first, so that the order stays. */
static int receive(struct snti_run *run, const struct snti_job *job, uint32_t end)
{
	struct snti_act act = run->acts[run->started];
	int status = fold_held(run, job, end);

	if (status)
		return status;
	if (run->started > run->first && run->acts[run->started - 1].joint)
		act.from = act.to;
	status = snti_start_receive(run, job, &act, xfer_of(run, run->started));
	run->is_received = !status;
	return status;
}

/* One step further; SNT_BUSY: its message is not through. */
static int take_next(struct snti_run *run, const struct snti_job *job, uint32_t end)
{
	const struct snti_act *act = &run->acts[run->started];
	struct snti_xfer *xfer = xfer_of(run, run->started);
	int status;

	if (!run->is_received) {
		status = borrow(run, job, act, xfer);
		if (!status)
			run->started++;
		else if (status == SNTI_UNLENT)
			status = receive(run, job, end);
		if (status || !run->is_received)
			return status;
	}
	status = xfer->status;
	if (!status) {
		run->is_received = 0;
		run->held = ++run->started;
	}
	return status;
}

int snti_join(struct snti_run *run, const struct snti_job *job, uint32_t end)
{
	int status = 0;

	if (run->held < run->started && (run->started == run->first || !run->acts[run->started - 1].joint))
		run->held = run->started;
	while (run->started < end && !status)
		status = take_next(run, job, end);
	return status ? status : fold_held(run, job, end);
}
