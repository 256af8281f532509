/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_lend.c - messages that stay in the sender's memory while they are used, and answers written beside them. */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/shm.h"

#define LEAVE_MS 200u   /* longer than a process that may run takes for a piece */

/* The message that the next receive would get, if it can be lent; else NULL and why not in @status. */
static struct shm_early *next_lent(struct shm_conn *c, const struct snti_xfer *xfer, int *status)
{
	struct shm_early *early;

	*status = c->base.status == SNT_BUSY ? SNTI_AGAIN : c->base.status;
	if (*status)
		return NULL;
	early = shm_early_find(c, xfer->lane);
	if (!early && shm_has_cell(c) && shm_drain(c))
		early = c->base.status ? NULL : shm_early_find(c, xfer->lane);
	if (!early) {
		*status = c->base.status < 0 ? c->base.status : c->gone && !shm_has_cell(c) ? c->gone : SNTI_AGAIN;
		return NULL;
	}
	*status = SNTI_UNLENT;
	return early->is_offer && early->offer.memory && early->size == xfer->size && early->fingerprint == xfer->fingerprint
		? early : NULL;
}

int shm_borrow(struct snti_conn *conn, struct snti_xfer *xfer)
{
	struct shm_conn *c = shm_conn_of(conn);
	int status;
	struct shm_early *early = next_lent(c, xfer, &status);
	struct shm_in *in = early ? &c->in[early->number] : NULL;

	if (!early)
		return status;
	if (!shm_mapped(c, &early->offer, xfer->size) ||
	    (early->offer.room_memory && !shm_room(c, &early->offer, xfer->size)))
		shm_read_socket(c);     /* descriptors were sent before the offer */
	if (c->base.status < 0)
		return c->base.status;
	xfer->lent = shm_mapped(c, &early->offer, xfer->size);
	if (!xfer->lent)
		return SNTI_UNLENT;
	*in = (struct shm_in){ .xfer = xfer, .state = SHM_IN_LENT, .mapped = xfer->lent };
	in->room = early->offer.room_memory ? shm_room(c, &early->offer, xfer->size) : NULL;
	xfer->room = in->room;
	xfer->answer = (uint32_t)early->offer.answer;
	xfer->number = early->number;
	xfer->status = 0;
	snti_list_init(&xfer->link);
	shm_early_drop(c, early);
	return 0;
}

static int gave_up(struct shm_conn *c)
{
	if (c->base.status >= 0)
		shm_fail(c, snti_fail(SNT_EPEER, "rank %d gave up while its memory was used", c->base.peer));
	return c->base.status;
}

/* Either this side sees that the peer has left, or the peer sees that this side is writing, and waits. */
int shm_write(struct snti_conn *conn, int begins)
{
	struct shm_conn *c = shm_conn_of(conn);

	if (c->base.status < 0)
		return c->base.status;
	if (!begins) {
		snti_stream_end();
		shm_store(c->own_writing, 0);
		return 0;
	}
	shm_store(c->own_writing, 1);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!shm_load(c->peer_left))
		return 0;
	shm_store(c->own_writing, 0);
	return gave_up(c);
}

int shm_give_back(struct snti_conn *conn, struct snti_xfer *xfer, int answered)
{
	struct shm_conn *c = shm_conn_of(conn);

	if (c->base.status < 0 || shm_was_abandoned(c))
		return gave_up(c);
	shm_finish_in(c, (uint32_t)xfer->number, answered ? SHM_ANSWERED : SHM_DONE);
	return 0;
}

static int has_rooms_out(const struct shm_conn *c)
{
	for (size_t i = 0; i < SHM_NUMBERS; i++)
		if (c->out[i] && c->out[i]->room)
			return 1;
	return 0;
}

/* Before the caller may write to what it had offered: a peer that reads on looks at this afterwards, one that writes
 * before each piece. The piece that it may be writing just now ends soon, unless its process is stopped in the middle. */
void shm_leave_offers(struct shm_conn *c)
{
	uint64_t deadline;

	if (!c->region)
		return;
	shm_store(c->own_left, 1);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!has_rooms_out(c))
		return;
	deadline = snti_deadline_ms(LEAVE_MS);
	while (shm_load(c->peer_writing) && !c->gone && !snti_is_past(deadline))
		sched_yield();
	if (shm_load(c->peer_writing) && !c->gone)
		snti_log(SNT_LOG_WARN, "rank %d stands still while it writes a result: it may write there once more when it goes on",
			 c->base.peer);
}
