/* SPDX-License-Identifier: BSD-3-Clause */
/* loop_wire.c - messages between ranks that all live in this thread. */
#include "tests/loop_wire.h"

#include <stdlib.h>
#include <string.h>

struct loop_conn {
	struct snti_conn base;
	struct loop_wire *wire;
	uint32_t from, to;
};

uint32_t loop_wire_roll(struct loop_wire *wire, uint32_t below)
{
	wire->seed = wire->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(wire->seed >> 33) % below;
}

static struct snti_link *queue(struct loop_wire *wire, uint32_t from, uint32_t to, int receives)
{
	return &wire->queues[((size_t)from * wire->ranks + to) * 2 + receives];
}

static int offer(struct loop_wire *wire, struct snti_link *list, struct snti_xfer *xfer)
{
	if (loop_wire_roll(wire, 5) == 0)
		return SNTI_AGAIN;
	xfer->moved = 0;
	snti_list_append(list, &xfer->link);
	return 0;
}

static int loop_send(struct snti_conn *conn, struct snti_xfer *xfer)
{
	struct loop_conn *c = (struct loop_conn *)conn;

	return offer(c->wire, queue(c->wire, c->from, c->to, 0), xfer);
}

static int loop_recv(struct snti_conn *conn, struct snti_xfer *xfer)
{
	struct loop_conn *c = (struct loop_conn *)conn;

	return offer(c->wire, queue(c->wire, c->to, c->from, 1), xfer);
}

static struct snti_xfer *first_on(struct snti_link *list, uint64_t lane)
{
	snti_list_each(link, list) {
		struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

		if (xfer->lane == lane)
			return xfer;
	}
	return NULL;
}

/* Some are lent, some are not; some senders have room, some have it in vain. */
static int loop_borrow(struct snti_conn *conn, struct snti_xfer *xfer)
{
	struct loop_conn *c = (struct loop_conn *)conn;
	struct snti_xfer *send = first_on(queue(c->wire, c->to, c->from, 0), xfer->lane);

	if (!send || loop_wire_roll(c->wire, 5) == 0)
		return SNTI_AGAIN;
	if (send->moved || send->size != xfer->size || send->fingerprint != xfer->fingerprint || loop_wire_roll(c->wire, 4) == 0)
		return SNTI_UNLENT;
	snti_list_remove(&send->link);
	snti_list_init(&send->link);
	xfer->private = send;
	xfer->lent = send->data;
	xfer->room = loop_wire_roll(c->wire, 4) ? send->room : NULL;
	xfer->answer = send->answer;
	xfer->status = 0;
	snti_list_init(&xfer->link);
	c->wire->lent++;
	return 0;
}

static int loop_write(struct snti_conn *conn, int begins)
{
	struct loop_conn *c = (struct loop_conn *)conn;

	c->wire->writing += begins ? 1 : -1;
	return 0;
}

static int loop_give_back(struct snti_conn *conn, struct snti_xfer *xfer, int answered)
{
	struct loop_conn *c = (struct loop_conn *)conn;
	struct snti_xfer *send = xfer->private;
	struct loop_wire *wire = c->wire;

	wire->moved_bytes += xfer->size;
	wire->answered += answered;
	send->answered = answered;
	send->status = wire->dies_at && wire->moved_bytes >= wire->dies_at ? SNT_EPEER : 0;
	return send->status;
}

static void drop_all(struct snti_link *list, int status)
{
	while (!snti_list_empty(list)) {
		struct snti_xfer *xfer = snti_container(list->next, struct snti_xfer, link);

		snti_list_remove(&xfer->link);
		xfer->status = status;
	}
}

static void loop_hang_up(struct snti_conn *conn)
{
	struct loop_conn *c = (struct loop_conn *)conn;

	drop_all(queue(c->wire, c->from, c->to, 0), SNT_ECANCELED);
	drop_all(queue(c->wire, c->to, c->from, 1), SNT_ECANCELED);
}

static int loop_flush(struct snti_conn *conn)
{
	struct loop_conn *c = (struct loop_conn *)conn;

	return snti_list_empty(queue(c->wire, c->from, c->to, 0)) ? 0 : SNT_BUSY;
}

static const struct snti_transport loop_transport = {
	.name = "loop", .conn_size = sizeof(struct loop_conn), .hang_up = loop_hang_up, .send = loop_send,
	.recv = loop_recv, .flush = loop_flush, .borrow = loop_borrow, .write = loop_write, .give_back = loop_give_back,
};

int loop_wire_init(struct loop_wire *wire, uint32_t ranks, uint64_t seed)
{
	size_t count = (size_t)ranks * ranks * 2;

	*wire = (struct loop_wire){ .seed = seed, .ranks = ranks, .queues = calloc(count, sizeof(struct snti_link)) };
	for (size_t i = 0; wire->queues && i < count; i++)
		snti_list_init(&wire->queues[i]);
	return wire->queues ? 0 : SNT_ENOMEM;
}

void loop_wire_fini(struct loop_wire *wire)
{
	free(wire->queues);
}

struct snti_conn *loop_wire_conn(struct loop_wire *wire, uint32_t from, uint32_t to)
{
	struct loop_conn *c = aligned_alloc(128, (sizeof(*c) + 127) / 128 * 128);

	if (c)
		*c = (struct loop_conn){ .base = { .ops = &loop_transport, .peer = to }, .wire = wire, .from = from, .to = to };
	return c ? &c->base : NULL;
}

/* The first receive in the queue on the send's lane: lanes overtake each other, messages on one do not. */
static struct snti_xfer *match(struct snti_link *sends, struct snti_link *receives, const struct snti_xfer *send)
{
	snti_list_each(link, sends) {
		struct snti_xfer *earlier = snti_container(link, struct snti_xfer, link);

		if (earlier == send)
			break;
		if (earlier->lane == send->lane)
			return NULL;
	}
	snti_list_each(link, receives) {
		struct snti_xfer *recv = snti_container(link, struct snti_xfer, link);

		if (recv->lane == send->lane)
			return recv;
	}
	return NULL;
}

static struct snti_xfer *some_xfer(struct loop_wire *wire, struct snti_link *list)
{
	uint32_t count = 0;

	snti_list_each(link, list)
		count++;
	count = count ? loop_wire_roll(wire, count) : 0;
	snti_list_each(link, list)
		if (!count--)
			return snti_container(link, struct snti_xfer, link);
	return NULL;
}

static void end_both(struct snti_xfer *send, struct snti_xfer *recv, int status)
{
	snti_list_remove(&send->link);
	snti_list_remove(&recv->link);
	send->status = recv->status = status;
}

/* Whole elements only, as the table promises. */
static void dribble(struct loop_wire *wire, struct snti_xfer *send, struct snti_xfer *recv)
{
	size_t width = recv->fold ? recv->width : 1, left = send->size - send->moved;
	size_t piece = (loop_wire_roll(wire, 64) + 1) * width;

	if (!snti_fits(recv, send->size) || send->fingerprint != recv->fingerprint) {
		end_both(send, recv, SNT_EMISMATCH);
		return;
	}
	piece = piece < left ? piece : left;
	if (piece)
		snti_land(recv, send->moved, (char *)send->data + send->moved, piece);
	send->moved += piece;
	wire->moved_bytes += piece;
	if (wire->dies_at && wire->moved_bytes >= wire->dies_at)
		end_both(send, recv, SNT_EPEER);
	else if (send->moved == send->size)
		end_both(send, recv, 0);
}

void loop_wire_poll(struct loop_wire *wire)
{
	uint32_t from = loop_wire_roll(wire, wire->ranks), to = loop_wire_roll(wire, wire->ranks);
	struct snti_link *sends = queue(wire, from, to, 0), *receives = queue(wire, from, to, 1);
	struct snti_xfer *send = some_xfer(wire, sends), *recv = send ? match(sends, receives, send) : NULL;

	if (recv)
		dribble(wire, send, recv);
}
