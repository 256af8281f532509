/* SPDX-License-Identifier: BSD-3-Clause */
/* joint.c - folds out of the senders' memory: all that is lent in one pass, into the result and into the senders' rooms. */
#include "collectives/joint.h"

#include "base/log.h"
#include "collectives/plan.h"

/* Messages that are lent, how to fold them, and who has room for the answer. */
struct held {
	struct snti_run *run;
	const struct snti_job *job;
	struct snti_fold_spread spread;
	uint32_t with_room[SNTI_FOLD_MOST];         /* steps */
};

static struct snti_xfer *xfer_of(const struct snti_run *run, uint32_t i)
{
	return &run->xfers[i - run->first];
}

/* Whether the joint fold begins with step @i. */
static int is_first(const struct snti_run *run, uint32_t i)
{
	return i == run->first || !run->acts[i - 1].joint;
}

void snti_joint_offer_room(const struct snti_run *run, const struct snti_act *act, struct snti_xfer *xfer)
{
	const struct snti_act *take = &run->acts[act->answer - 1];

	if (!take->memory || take->size != act->size)
		return;
	xfer->room = take->to;
	xfer->room_memory = take->memory;
	xfer->answer = act->number;
}

static struct snti_conn *conn_of_room(const struct held *h, uint32_t i)
{
	return h->job->conns[h->run->acts[h->with_room[i]].peer];
}

/* Into all rooms at once, so that no reading waits for a store to be through. */
static int spread(const struct held *h, size_t count)
{
	uint32_t rooms = h->spread.places - 1, begun = 0;
	int status = 0, ended;

	while (begun < rooms && !status) {
		status = conn_of_room(h, begun)->ops->write(conn_of_room(h, begun), 1);
		begun += !status;
	}
	if (!status)
		snti_fold_spread(&h->spread, count);
	while (begun--) {
		ended = conn_of_room(h, begun)->ops->write(conn_of_room(h, begun), 0);
		status = status ? status : ended;
	}
	return status;
}

static int fold_all(struct held *h, const struct snti_act *act)
{
	struct snti_fold_spread *f = &h->spread;
	size_t count = act->size / h->job->width;

	if (f->places == 1 && f->number == 2) {
		h->job->fold(act->to, f->sources[0], f->sources[1], count);
		return 0;
	}
	if (f->places == 1) {
		snti_fold_many(f->type, f->fold, act->to, f->sources, f->number, count);
		return 0;
	}
	return spread(h, count);
}

static int give_back(const struct held *h, uint32_t end)
{
	struct snti_run *run = h->run;
	uint32_t answered = 0;
	int status = 0;

	for (uint32_t i = run->held; i < run->started && !status; i++) {
		struct snti_conn *conn = h->job->conns[run->acts[i].peer];
		int has_answer = answered < h->spread.places - 1 && h->with_room[answered] == i;

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
	struct snti_fold_spread *f = &h.spread;
	const struct snti_act *first = &run->acts[run->held];
	int begins = is_first(run, run->held), status;

	if (run->held == run->started)
		return 0;
	*f = (struct snti_fold_spread){ .type = job->type, .fold = job->how, .number = 1, .places = 1, .kept = !job->around };
	f->sources[0] = begins ? first->from : first->to;
	f->to[0] = first->to;
	for (uint32_t i = run->held; i < run->started; i++) {
		const struct snti_xfer *xfer = xfer_of(run, i);

		if (xfer->status < 0)
			return xfer->status;
		f->sources[f->number++] = xfer->lent;
		if (run->started != end || !run->acts[i].answer || !xfer->room || xfer->answer != run->acts[i].number)
			continue;
		h.with_room[f->places - 1] = i;
		f->to[f->places++] = xfer->room;
	}
	if (first->left) {      /* then it is alone */
		f->sources[1] = f->sources[0];
		f->sources[0] = xfer_of(run, run->held)->lent;
	}
	status = fold_all(&h, first);
	return status ? status : give_back(&h, end);
}

static int borrow(const struct snti_run *run, const struct snti_job *job, const struct snti_act *act,
		  struct snti_xfer *xfer)
{
	struct snti_conn *conn = job->conns[act->peer];
	int status;

	/* Who has it private itself gets it through the wire, as a rule, and should wait for it at once. */
	if (!act->memory || !conn->ops->borrow || act->size <= conn->ops->lends)
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
	if (!is_first(run, run->started))
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

int snti_joint_poll(struct snti_run *run, const struct snti_job *job, uint32_t end)
{
	int status = 0;

	if (is_first(run, run->started))
		run->held = run->started;
	while (run->started < end && !status)
		status = take_next(run, job, end);
	return status ? status : fold_held(run, job, end);
}
