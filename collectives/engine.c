/* SPDX-License-Identifier: BSD-3-Clause */
/* engine.c - the one loop that all collectives run in. */
#include "collectives/engine.h"

#include <string.h>

#include "base/log.h"
#include "collectives/joint.h"
#include "collectives/plan.h"

void snti_run_begin(struct snti_run *run, uint64_t lane)
{
	run->lane = lane;
	run->first = run->started = run->finished = run->end = run->held = run->is_received = 0;
	run->answered = run->leaving_out = 0;
}

uint32_t snti_engine_join(struct snti_act *acts, uint32_t count, struct snti_conn *const *conns)
{
	struct snti_act *send = &acts[0], *recv = &acts[1], *merge = &acts[2];

	if (count != 3 || send->op != SNTI_STEP_SEND || recv->op != SNTI_STEP_RECV || merge->op != SNTI_STEP_MERGE ||
	    send->peer != recv->peer || send->memory || send->from != merge->to || recv->to != merge->from ||
	    send->size != recv->size || send->size != merge->size || !conns[send->peer]->ops->folds_behind)
		return count;
	send->spare = recv->spare = recv->to;
	recv->op = SNTI_STEP_FOLD;
	recv->left = merge->left;
	recv->to = merge->to;
	recv->from = merge->to;
	return 2;
}

static void merge(const struct snti_act *act, const struct snti_job *job)
{
	size_t count = act->size / job->width;

	if (act->left)
		job->fold(act->to, act->from, act->to, count);
	else
		job->fold(act->to, act->to, act->from, count);
}

static int start_send(const struct snti_run *run, const struct snti_job *job, const struct snti_act *act,
		      struct snti_xfer *xfer)
{
	xfer->data = (char *)act->from;
	xfer->size = act->size;
	xfer->lane = run->lane;
	xfer->fingerprint = job->fingerprint;
	xfer->memory = act->memory;
	xfer->spare = act->spare;
	xfer->unhurried = job->pipelined;
	xfer->fold = NULL;
	xfer->room = NULL;
	xfer->answered = 0;
	if (act->answer && act->memory)
		snti_joint_offer_room(run, act, xfer);
	xfer->status = SNT_BUSY;
	return snti_send(job->conns[act->peer], xfer);
}

int snti_start_receive(const struct snti_run *run, const struct snti_job *job, const struct snti_act *act,
		       struct snti_xfer *xfer)
{
	xfer->data = act->to;
	xfer->size = act->size;
	xfer->lane = run->lane;
	xfer->fingerprint = job->fingerprint;
	xfer->memory = NULL;
	xfer->fold = act->op == SNTI_STEP_FOLD ? job->fold : NULL;
	xfer->operand = act->from;
	xfer->behind = act->spare ? xfer - 1 : NULL;
	xfer->spare = act->spare;
	xfer->width = job->width;
	xfer->arriving_left = act->left;
	xfer->around = job->around;
	xfer->status = SNT_BUSY;
	return snti_recv(job->conns[act->peer], xfer);
}

/* 0: taken, or done on the spot. */
static int start_act(const struct snti_run *run, const struct snti_job *job, const struct snti_act *act,
		     struct snti_xfer *xfer)
{
	if (act->op == SNTI_STEP_SEND)
		return start_send(run, job, act, xfer);
	if (act->op == SNTI_STEP_RECV || act->op == SNTI_STEP_FOLD)
		return snti_start_receive(run, job, act, xfer);
	if (act->op == SNTI_STEP_COPY && act->size)     /* without bytes the buffers may be NULL */
		memmove(act->to, act->from, act->size);
	else if (act->size)
		merge(act, job);
	xfer->status = 0;
	return 0;
}

/* A transfer that failed behind one that still waits is news too. */
static int find_failure(const struct snti_run *run)
{
	for (uint32_t i = run->finished; i < run->started; i++)
		if (run->xfers[i - run->first].status < 0)
			return run->xfers[i - run->first].status;
	return SNT_BUSY;
}

/* The answer to this message has come with it. */
static inline void note_answer(struct snti_run *run, const struct snti_act *act, const struct snti_xfer *xfer)
{
	if (act->answer && act->op == SNTI_STEP_SEND && xfer->answered)
		run->answered |= (uint64_t)1 << (act->answer - 1 - act->end);
}

static inline int is_left_out(const struct snti_run *run)
{
	uint32_t place = run->started - run->first;

	return place < 64 && run->leaving_out >> place & 1;
}

static inline int start_next(struct snti_run *run, const struct snti_job *job, const struct snti_act *act,
			     struct snti_xfer *xfer)
{
	int status = 0;

	if (act->joins)
		return snti_joint_poll(run, job, act->end);
	if (__builtin_expect(run->leaving_out, 0) && is_left_out(run))
		xfer->status = (int)(xfer->answered = 0);
	else
		status = start_act(run, job, act, xfer);
	if (status == SNT_EPEER)     /* it left in good order before: the transport had nothing to say */
		return snti_fail(status, "rank %u has closed the connection", act->peer);
	if (!status)
		run->started++;
	return status;
}

static inline int start_round(struct snti_run *run, const struct snti_job *job)
{
	const struct snti_act *act = &run->acts[run->started];
	struct snti_xfer *xfer = &run->xfers[run->started - run->first];
	int status = 0;

	while (run->started < run->end && !status)
		status = start_next(run, job, act++, xfer++);
	return status;
}

static inline int finish_round(struct snti_run *run)
{
	const struct snti_act *act = &run->acts[run->finished];
	const struct snti_xfer *xfer = &run->xfers[run->finished - run->first];

	for (; run->finished < run->end; run->finished++) {
		if (xfer->status)
			return xfer->status;
		note_answer(run, act++, xfer++);
	}
	return 0;
}

static inline int poll_round(struct snti_run *run, const struct snti_job *job)
{
	int status;

	if (run->end == run->first)
		run->end = run->acts[run->first].end;
	status = start_round(run, job);
	status = status ? status : finish_round(run);
	if (status)
		return status == SNTI_AGAIN || status == SNT_BUSY ? find_failure(run) : status;
	run->leaving_out = run->answered;
	run->answered = 0;
	run->first = run->end;
	return 0;
}

int snti_run_poll(struct snti_run *run, const struct snti_job *job)
{
	int status = 0;

	while (!status && run->first < run->act_count)
		status = poll_round(run, job);
	return status;
}
