/* SPDX-License-Identifier: BSD-3-Clause */
/* rails_pull.c - large messages: the receiver asks for chunks over the rails that have room, the sender serves them.
 *
 * A rail has a few chunks under way, each as long as it moves in about the same time on every rail; whichever ends one is asked for
 * the next. So shares follow from what rails deliver, and the last chunks of a message end together.
 */
#include <string.h>

#include "base/clock.h"
#include "transport/rails.h"

#define CHUNK_US 2000             /* of a rail's time in one chunk */
#define CHUNK_LEAST (64 << 10)
#define CHUNK_FIRST (128 << 10)   /* while nothing is known */
#define UNDER_WAY 10              /* chunks, of which the last one's request may still be queued behind data */
#define METER_NS 20000000
#define SLACK_NS 1000000
#define EXPLORE_NS 100000000      /* so long nothing came over a rail when it is explored */
#define EXPLORE_MOST_NS 3200000000
#define EXPLORE_PART 50           /* in so many times as long as exploring took it is not done again */
#define EXPLORE_LEAST 4096
#define EXPLORE_MOST CHUNK_LEAST
#define EXPLORE_BYTES (1 << 20)   /* enough to judge a fast one by, for which METER_NS would take many messages */

uint64_t rails_rate(const struct rails_rail *rail)
{
	unsigned speed = rails_port_of(rail->conn)->speeds[rail->mine];

	if (rail->rate || rail->rate_out)
		return rail->rate ? rail->rate : rail->rate_out;
	return speed ? speed * UINT64_C(125000) : 125000000;
}

static size_t chunk_of(const struct rails_rail *rail)
{
	uint64_t size = rail->rate / 1000000 * CHUNK_US;

	if (!rail->rate)
		return CHUNK_FIRST;
	if (size >= RAILS_CHUNK)
		return RAILS_CHUNK;
	return size < CHUNK_LEAST ? CHUNK_LEAST : size & ~(size_t)4095;
}

/* Requests wait for the data that goes the other way. Were this measured by what comes alone, then whichever direction fell
 * behind would ask for less, and wait longer for it: so both sides go by the better direction, which both know. */
static size_t window_of(const struct rails_rail *rail)
{
	uint64_t rate = rail->rate > rail->rate_out ? rail->rate : rail->rate_out, size = rate / 1000000 * CHUNK_US * UNDER_WAY;
	size_t chunk = chunk_of(rail);

	if (size < chunk * UNDER_WAY)
		size = chunk * UNDER_WAY;
	return size < chunk * RAILS_SLOTS && chunk < RAILS_CHUNK ? size : chunk * RAILS_SLOTS;
}

uint64_t rails_window_ns(const struct rails_rail *rail)
{
	uint64_t rate = rails_rate(rail);

	/* A sender sees only what its peer says about the way there. */
	if (rail->rate_out && rail->rate_out < rate)
		rate = rail->rate_out;
	return window_of(rail) * UINT64_C(1000000) / (rate / 1000 + 1);
}

/* ---- asking --------------------------------------------------------------- */

static void thank(struct rails_conn *conn, struct snti_xfer *xfer)
{
	struct rails_frame done = { .type = RAILS_DONE, .number = xfer->number };

	rails_finish(conn, xfer, 0);
	(void)!rails_put(conn, &done, NULL, 0);
}

void rails_begin_pull(struct rails_conn *conn, const struct rails_frame *frame, struct snti_xfer *xfer)
{
	xfer->number = frame->number;
	if (!xfer->size) {
		thank(conn, xfer);
		return;
	}
	conn->unasked += xfer->size;
	snti_list_remove(&xfer->link);
	snti_list_append(&conn->pulling, &xfer->link);
}

/* A rail may be lost when half a chunk has been folded. Where the operand is not what it is written over, the chunk is simply
 * folded once more; where it is, folding twice would count it twice, so that it is folded when all of it is here. */
static int is_in_place(const struct snti_xfer *xfer)
{
	uintptr_t data = (uintptr_t)xfer->data, operand = (uintptr_t)xfer->operand;

	return xfer->fold && (data > operand ? data - operand : operand - data) < xfer->size;
}

static int post_chunk(struct rails_rail *rail, struct rails_chunk *chunk, uint64_t serial)
{
	const struct snti_xfer *xfer = chunk->xfer;
	int status;

	chunk->sub = (struct snti_xfer){ .data = chunk->block ? chunk->block : (char *)xfer->data + chunk->offset,
		.size = chunk->size, .lane = serial, .fingerprint = serial, .around = !chunk->block && xfer->around };
	if (xfer->fold && !chunk->block) {
		chunk->sub.fold = xfer->fold;
		chunk->sub.operand = (const char *)xfer->operand + chunk->offset;
		chunk->sub.width = xfer->width;
		chunk->sub.arriving_left = xfer->arriving_left;
	}
	snti_fail_quietly(1);
	status = rail->sub->ops->recv(rail->sub, &chunk->sub);
	snti_fail_quietly(0);
	return status;
}

static int ask(struct rails_rail *rail, struct snti_xfer *xfer, size_t offset, size_t size)
{
	struct rails_conn *conn = rail->conn;
	struct rails_port *port = rails_port_of(conn);
	struct rails_chunk *chunk = snti_container(rail->spare.next, struct rails_chunk, link);
	struct rails_frame pull = { .type = RAILS_PULL, .rail = (uint8_t)rail->index, .number = xfer->number, .offset = offset,
		.size = size, .lane = conn->next_serial + 1, .fingerprint = rail->epoch, .extra = rail->rate };

	*chunk = (struct rails_chunk){ .link = chunk->link, .xfer = xfer, .offset = offset, .size = size, .rail = rail->index };
	if (is_in_place(xfer)) {
		if (!port->free_block_count)
			return 0;
		chunk->block = port->free_blocks[--port->free_block_count];
	}
	if (post_chunk(rail, chunk, pull.lane)) {
		if (chunk->block)
			port->free_blocks[port->free_block_count++] = chunk->block;
		return 0;
	}
	conn->next_serial++;
	if (!rail->asked_bytes)
		rail->meter_ns = snti_now_ns();
	rail->asked_bytes += size;
	conn->unasked -= size;
	snti_list_remove(&chunk->link);
	snti_list_append(&rail->asked, &chunk->link);
	return !rails_put(conn, &pull, NULL, 0);
}

static double seconds(const struct rails_rail *rail, size_t more)
{
	return (double)(rail->asked_bytes + more) / (double)rails_rate(rail);
}

/* Whether the other rails would not be done sooner with all there is, this chunk too. None of them is sooner than the one that
 * would have the chunk first: so there is always one that takes it. */
static int is_worth_it(const struct rails_rail *rail, size_t size)
{
	const struct rails_conn *conn = rail->conn;
	double bytes = (double)conn->unasked, rate = 0, first = 1e9;

	for (unsigned i = 0; i < conn->count; i++) {
		const struct rails_rail *other = &conn->rails[i];

		if (other->phase != RAILS_LIVE || other == rail)
			continue;
		bytes += (double)other->asked_bytes;
		rate += (double)rails_rate(other);
		if (seconds(other, size) < first)
			first = seconds(other, size);
	}
	return rate <= 0 || seconds(rail, size) <= first || seconds(rail, size) <= bytes / rate + SLACK_NS / 1e9;
}

static int ask_lost(struct rails_rail *rail)
{
	struct rails_conn *conn = rail->conn;
	struct rails_chunk *lost = snti_container(conn->lost.next, struct rails_chunk, link);

	if (!ask(rail, lost->xfer, lost->offset, lost->size))
		return 0;
	snti_list_remove(&lost->link);
	snti_list_append(&conn->rails[lost->rail].spare, &lost->link);
	return 1;
}

static int ask_next(struct rails_rail *rail)
{
	struct rails_conn *conn = rail->conn;
	struct snti_xfer *xfer;
	size_t size = chunk_of(rail);

	if (rail->phase != RAILS_LIVE || snti_list_empty(&rail->spare) || rail->asked_bytes + size > window_of(rail))
		return 0;
	if (!snti_list_empty(&conn->lost))
		return ask_lost(rail);
	if (snti_list_empty(&conn->pulling))
		return 0;
	xfer = snti_container(conn->pulling.next, struct snti_xfer, link);
	if (size > xfer->size - xfer->moved)
		size = xfer->size - xfer->moved;
	if (!is_worth_it(rail, size) || !ask(rail, xfer, xfer->moved, size))
		return 0;
	xfer->moved += size;
	if (xfer->moved == xfer->size) {
		snti_list_remove(&xfer->link);
		snti_list_append(&conn->matched, &xfer->link);
	}
	return 1;
}

/* ---- exploring ------------------------------------------------------------ */

/* As far as it is known, or seen since it is explored. */
static double hoped_rate(const struct rails_rail *rail)
{
	double seen = rail->busy_ns ? (double)rail->meter_bytes * 1e9 / (double)rail->busy_ns : 0;

	return rail->on_trial && seen > (double)rail->rate ? seen : (double)rail->rate;
}

/* What it would move while the others move the rest. */
static size_t explored_size(const struct rails_rail *rail, size_t left)
{
	const struct rails_conn *conn = rail->conn;
	double bytes = (double)conn->unasked, rate = 0;
	size_t most = left / 4 < EXPLORE_MOST ? left / 4 : EXPLORE_MOST, size;

	for (unsigned i = 0; i < conn->count; i++) {
		if (conn->rails[i].phase != RAILS_LIVE || &conn->rails[i] == rail)
			continue;
		bytes += (double)conn->rails[i].asked_bytes;
		rate += (double)rails_rate(&conn->rails[i]);
	}
	if (rate <= 0 || most < EXPLORE_LEAST)
		return 0;
	bytes *= hoped_rate(rail) / rate;
	size = bytes < (double)most ? (size_t)bytes : most;
	return size < EXPLORE_LEAST ? EXPLORE_LEAST : size & ~(size_t)(EXPLORE_LEAST - 1);
}

/* What a rail is worth only shows when it is asked, and one that measured slow once would not be asked by messages that the others move
 * sooner. So now and then it gets small parts of such messages, one of each, until it has been measured. */
static void explore(struct rails_rail *rail, uint64_t now)
{
	struct rails_conn *conn = rail->conn;
	struct snti_xfer *xfer = snti_container(conn->pulling.next, struct snti_xfer, link);
	size_t size = explored_size(rail, xfer->size - xfer->moved);

	if ((!rail->on_trial && now < rail->explore_ns) || rail->explored == xfer->number + 1 || !size ||
	    is_worth_it(rail, chunk_of(rail)) || !ask(rail, xfer, xfer->moved, size))
		return;
	xfer->moved += size;
	rail->explored = xfer->number + 1;
	if (!rail->on_trial)
		rail->busy_ns = rail->meter_bytes = 0;
	rail->on_trial = 1;
}

static void explore_all(struct rails_conn *conn)
{
	uint64_t now = 0;

	for (unsigned i = 0; i < conn->count && conn->base.status == 0 && !snti_list_empty(&conn->pulling); i++) {
		struct rails_rail *rail = &conn->rails[i];

		if (rail->phase != RAILS_LIVE || !rail->rate || !snti_list_empty(&rail->asked) || snti_list_empty(&rail->spare))
			continue;
		if (!now)
			now = snti_now_ns();
		explore(rail, now);
	}
}

/* In vain, the next time is twice as far off. */
static void end_trial(struct rails_rail *rail, uint64_t rate, uint64_t now)
{
	uint64_t pause = rail->pause_ns > EXPLORE_NS ? rail->pause_ns : EXPLORE_NS, least = rail->busy_ns * EXPLORE_PART;

	pause = rate / 2 < rail->rate ? 2 * pause : EXPLORE_NS;
	rail->pause_ns = pause < EXPLORE_MOST_NS ? pause : EXPLORE_MOST_NS;
	/* It may have been a pause of the sender's, which is to put it off no longer than that. */
	least = least < EXPLORE_MOST_NS ? least : EXPLORE_MOST_NS;
	rail->explore_ns = now + (rail->pause_ns > least ? rail->pause_ns : least);
}

/* Requests fill at most half of the ring: the other half is for what has to be said in any case. */
void rails_pull(struct rails_conn *conn)
{
	int asked = 1;

	if (conn->unasked && conn->tail - conn->head < RAILS_RING / 2)
		explore_all(conn);
	while (asked && conn->unasked) {
		asked = 0;
		for (unsigned i = 0; i < conn->count; i++)
			if (conn->base.status == 0 && conn->tail - conn->head < RAILS_RING / 2)
				asked |= ask_next(&conn->rails[i]);
	}
}

/* Down more slowly than up: it may have been a pause of the sender's. */
static void set_rate(struct rails_rail *rail, uint64_t rate)
{
	if (!rail->rate || (rail->on_trial && rate > rail->rate))
		rail->rate = rate + 1;
	else if (rate > rail->rate)
		rail->rate += (rate - rail->rate) / 4;
	else
		rail->rate -= (rail->rate - rate) / 16;
}

/* Counts only time in which something was asked for, as much of it as makes the bursts that switches let through even out. */
static void meter(struct rails_rail *rail, size_t size, uint64_t now)
{
	uint64_t rate;

	rail->meter_bytes += size;
	rail->busy_ns += now - rail->meter_ns;
	rail->meter_ns = now;
	if (!rail->on_trial && rail->explore_ns < now + EXPLORE_NS)
		rail->explore_ns = now + EXPLORE_NS;
	if (rail->busy_ns < METER_NS && (!rail->on_trial || rail->meter_bytes < EXPLORE_BYTES))
		return;
	rate = rail->meter_bytes * UINT64_C(1000000) / (rail->busy_ns / 1000 + 1);
	if (rail->on_trial)
		end_trial(rail, rate, now);
	set_rate(rail, rate);
	rail->on_trial = 0;
	rail->busy_ns = rail->meter_bytes = 0;
}

static void chunk_done(struct rails_rail *rail, struct rails_chunk *chunk, uint64_t now)
{
	struct rails_conn *conn = rail->conn;
	struct rails_port *port = rails_port_of(conn);
	struct snti_xfer *xfer = chunk->xfer;

	if (chunk->block) {
		snti_land(xfer, chunk->offset, chunk->block, chunk->size);
		port->free_blocks[port->free_block_count++] = chunk->block;
	}
	rail->asked_bytes -= chunk->size;
	meter(rail, chunk->size, now);
	snti_list_remove(&chunk->link);
	snti_list_append(&rail->spare, &chunk->link);
	port->moved++;
	xfer->acked += chunk->size;
	if (xfer->acked == xfer->size)
		thank(conn, xfer);
}

void rails_landed(struct rails_rail *rail)
{
	struct snti_link *link = rail->asked.next, *next;
	uint64_t now = 0;

	for (; link != &rail->asked && rail->phase == RAILS_LIVE; link = next) {
		struct rails_chunk *chunk = snti_container(link, struct rails_chunk, link);

		next = link->next;
		if (chunk->sub.status == SNT_BUSY)
			continue;
		if (chunk->sub.status) {
			if (chunk->sub.status == SNT_EMISMATCH)
				rails_nonsense(rail->conn, "a chunk of another length than was asked for");
			return;
		}
		if (!now)
			now = rail->heard_ns = snti_now_ns();
		chunk_done(rail, chunk, now);
	}
}

/* ---- serving -------------------------------------------------------------- */

int rails_on_pull(struct rails_conn *conn, const struct rails_frame *frame)
{
	struct rails_rail *rail = frame->rail < conn->count ? &conn->rails[frame->rail] : NULL;
	const struct snti_xfer *xfer = rails_find_announced(conn, frame->number);

	if (!rail || !xfer || xfer->moved || !frame->size || frame->size > RAILS_CHUNK || frame->size > xfer->size ||
	    frame->offset > xfer->size - frame->size || frame->fingerprint > rail->epoch || !frame->lane)
		return rails_nonsense(conn, "a request for what was not announced");
	/* Of a rail that is lost here: over there they are about to learn it. */
	if (frame->fingerprint < rail->epoch || rail->phase == RAILS_ABSENT)
		return 0;
	if (rail->want_tail - rail->want_head == RAILS_SLOTS)
		return rails_nonsense(conn, "more requests than a rail has slots");
	rail->wants[rail->want_tail++ % RAILS_SLOTS] = *frame;
	rail->rate_out = frame->extra;
	return 0;
}

static void serve_over(struct rails_rail *rail, struct rails_serve *serve)
{
	struct snti_xfer *xfer = serve->xfer;

	snti_list_remove(&serve->link);
	snti_list_append(&rail->idle, &serve->link);
	if (--xfer->acked == 0 && xfer->moved)
		rails_finish(rail->conn, xfer, 0);
}

static int serve_next(struct rails_rail *rail)
{
	const struct rails_frame *want = &rail->wants[rail->want_head % RAILS_SLOTS];
	struct rails_serve *serve = snti_container(rail->idle.next, struct rails_serve, link);
	struct snti_xfer *xfer;
	int status;

	if (rail->want_head == rail->want_tail || snti_list_empty(&rail->idle))
		return 0;
	xfer = rails_find_announced(rail->conn, want->number);
	serve->xfer = xfer;
	serve->sub = (struct snti_xfer){ .data = (char *)xfer->data + want->offset, .size = want->size, .lane = want->lane,
		.fingerprint = want->lane, .memory = xfer->memory };
	snti_fail_quietly(1);
	status = rail->sub->ops->send(rail->sub, &serve->sub);
	snti_fail_quietly(0);
	if (status)
		return 0;
	rail->want_head++;
	xfer->acked++;
	snti_list_remove(&serve->link);
	snti_list_append(&rail->served, &serve->link);
	return 1;
}

void rails_serve_wants(struct rails_rail *rail)
{
	struct snti_link *link = rail->served.next, *next;

	for (; link != &rail->served; link = next) {
		struct rails_serve *serve = snti_container(link, struct rails_serve, link);

		next = link->next;
		if (serve->sub.status != 0)
			continue;
		serve_over(rail, serve);
		rails_port_of(rail->conn)->moved++;
	}
	while (serve_next(rail))
		;
}

void rails_lose_chunks(struct rails_rail *rail)
{
	struct rails_conn *conn = rail->conn;
	struct rails_port *port = rails_port_of(conn);

	while (!snti_list_empty(&rail->asked)) {
		struct rails_chunk *chunk = snti_container(rail->asked.next, struct rails_chunk, link);

		if (chunk->block)
			port->free_blocks[port->free_block_count++] = chunk->block;
		chunk->block = NULL;
		conn->unasked += chunk->size;
		snti_list_remove(&chunk->link);
		snti_list_append(&conn->lost, &chunk->link);
	}
	while (!snti_list_empty(&rail->served))
		serve_over(rail, snti_container(rail->served.next, struct rails_serve, link));
	rail->asked_bytes = 0;
	rail->want_head = rail->want_tail = 0;
}
