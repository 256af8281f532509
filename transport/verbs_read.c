/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_read.c - the receiver's side of large messages: asking for pieces, and landing them once they are said to be there.
 *
 * A receive asks before its message is announced when nothing can come before it on its lane; so a sender that is later
 * writes at once. Half of the slots' and blocks' reserve is kept for messages that are announced, whose sender is
 * sure to write: so asking early never keeps others from moving.
 */
#include "transport/verbs.h"

#include "base/log.h"
#include "base/settings.h"

#define ROOM_FOR_ANNOUNCED 512

static void release(struct verbs_conn *conn, struct verbs_slot *slot)
{
	if (slot->block >= 0)
		verbs_block_give(&verbs_port_of(conn)->landing, slot->block);
	slot->xfer = NULL;
	conn->slots_open--;
}

/* The queue pair keeps the places that were meant for them, and the slot is not written again before the sender has read
 * what it says now. */
void verbs_slots_drop(struct verbs_conn *conn, struct snti_xfer *xfer)
{
	for (int i = 0; i < VERBS_SLOTS; i++) {
		struct verbs_slot *slot = &conn->slots[i];

		if (slot->xfer != xfer)
			continue;
		for (uint32_t k = 0; k < slot->left; k++)
			conn->places[(slot->qp + k) % conn->qps]++;
		release(conn, slot);
		if (slot->made > conn->requests_known) {
			slot->held = 1;
			conn->slots_open++;
			conn->slots_held++;
		}
	}
}

/* With the queue pairs all places are gone. */
void verbs_slots_drop_all(struct verbs_conn *conn)
{
	struct verbs_port *port = verbs_port_of(conn);

	for (int i = 0; i < VERBS_SLOTS; i++) {
		if (!conn->slots[i].xfer)
			continue;
		port->room += conn->slots[i].left;
		release(conn, &conn->slots[i]);
	}
	for (int i = 0; i < VERBS_QPS; i++) {
		port->room += conn->places[i];
		conn->places[i] = 0;
	}
}

/* ---- asking ------------------------------------------------------------- */

static struct verbs_slot *free_slot(struct verbs_conn *conn)
{
	for (int i = 0; i < VERBS_SLOTS; i++)
		if (!conn->slots[i].xfer && !conn->slots[i].held)
			return &conn->slots[i];
	return NULL;
}

/* Negative: the conn failed. */
static int get_places(struct verbs_conn *conn, const struct verbs_slot *slot)
{
	struct verbs_port *port = verbs_port_of(conn);

	for (uint32_t i = 0; i < slot->parts; i++) {
		unsigned qp = (slot->qp + i) % conn->qps;

		if (conn->places[qp]) {
			conn->places[qp]--;
		} else if (verbs_place_post(conn, qp)) {
			verbs_fail(conn, snti_fail(SNT_EDEVICE, "verbs: %s takes no receives for rank %d", port->device.name,
						   conn->base.peer));
			return SNT_EDEVICE;
		} else {
			port->room--;
		}
	}
	return 0;
}

static void deal(struct verbs_conn *conn, struct verbs_slot *slot)
{
	const struct snti_settings *settings = snti_settings();

	slot->parts = slot->left = conn->qps > 1 && slot->length >= settings->verbs_split ? conn->qps : 1;
	slot->qp = conn->turn++ % conn->qps;
	slot->generation = (slot->generation + 1) & VERBS_GENERATIONS;
}

/* The next piece of @xfer, on a slot that has its block already. */
static int ask_piece(struct verbs_conn *conn, struct verbs_slot *slot, struct snti_xfer *xfer, int first, uint64_t answers)
{
	struct verbs_port *port = verbs_port_of(conn);
	const struct verbs_region *region = xfer->private;
	uint64_t left = xfer->size - xfer->moved;
	struct verbs_message message = { .frame = { .type = VERBS_REQUEST, .flags = first ? VERBS_FIRST : 0, .lane = xfer->lane,
		.fingerprint = xfer->fingerprint, .size = xfer->size, .number = answers } };

	slot->offset = xfer->moved;
	slot->length = region || left < port->block ? left : port->block;
	deal(conn, slot);
	if (get_places(conn, slot))
		return SNT_EDEVICE;
	xfer->moved += slot->length;
	slot->made = ++conn->requests_made;
	message.request = (struct verbs_request){ .message = xfer->number, .offset = slot->offset, .length = slot->length,
		.immediate = (uint32_t)(slot - conn->slots) | slot->generation << 8, .qp = slot->qp, .parts = slot->parts };
	if (region) {
		message.request.address = (uintptr_t)xfer->data + slot->offset;
		message.request.key = region->mr->rkey;
	} else if (slot->block >= 0) {
		message.request.address = (uintptr_t)(port->landing.base + (size_t)slot->block * port->block);
		message.request.key = port->landing.mr->rkey;
	}
	return verbs_control(conn, &message);
}

static int has_resources(const struct verbs_conn *conn, int blocks, int early)
{
	const struct verbs_port *port = verbs_port_of(conn);

	if (conn->slots_open >= (early ? VERBS_EARLY : VERBS_SLOTS) || port->room < conn->qps + (early ? ROOM_FOR_ANNOUNCED : 0))
		return 0;
	return !blocks || port->landing.idle > (early ? port->landing.count / 2 : 0);
}

/* 1: asked for; 0: not now, and nothing has changed. */
static int ask(struct verbs_conn *conn, struct snti_xfer *xfer, uint64_t answers, int early)
{
	struct verbs_port *port = verbs_port_of(conn);
	struct verbs_region *region;
	int blocks;

	if (!has_resources(conn, 0, early))
		return 0;
	region = xfer->fold ? NULL : verbs_region_get(port, xfer->data, xfer->size, 1);
	blocks = !region && xfer->size;
	if (!has_resources(conn, blocks, early))
		return 0;
	xfer->private = region;
	xfer->number = conn->next_message++;
	for (int i = 0; i < VERBS_DEPTH && (!i || (xfer->moved < xfer->size && has_resources(conn, blocks, early))); i++) {
		struct verbs_slot *slot = free_slot(conn);

		slot->xfer = xfer;
		slot->block = blocks ? verbs_block_take(&port->landing) : -1;
		conn->slots_open++;
		if (ask_piece(conn, slot, xfer, !i, answers))
			break;
	}
	return 1;
}

/* Nothing before it on its lane may still come as a frame of its own. */
void verbs_ask_early(struct verbs_conn *conn, struct snti_xfer *xfer)
{
	struct snti_link *bucket = verbs_bucket(conn->posted, xfer->lane);

	/* Of what may be shorter it is not known how much to ask for. */
	if (xfer->size <= conn->eager || xfer->at_most || !snti_list_empty(&conn->asking))
		return;
	snti_list_each(link, bucket) {
		struct snti_xfer *earlier = snti_container(link, struct snti_xfer, link);

		if (earlier == xfer)
			break;
		if (earlier->lane == xfer->lane && earlier->number == VERBS_NONE)
			return;
	}
	ask(conn, xfer, VERBS_NONE, 1);
}

/* The sender has announced it as @number: it is asked for as soon as that is possible. */
void verbs_ask(struct verbs_conn *conn, struct snti_xfer *xfer, uint64_t number)
{
	snti_list_remove(&xfer->link);
	if (xfer->number != VERBS_NONE) {
		snti_list_append(&conn->matched, &xfer->link);
		return;
	}
	xfer->number = number;
	snti_list_append(&conn->asking, &xfer->link);
	verbs_wants_output(conn);
}

int verbs_ask_more(struct verbs_conn *conn)
{
	int did = 0;

	while (!snti_list_empty(&conn->asking)) {
		struct snti_xfer *xfer = snti_container(conn->asking.next, struct snti_xfer, link);

		if (!ask(conn, xfer, xfer->number, 0) || conn->base.status < 0)
			break;
		snti_list_remove(&xfer->link);
		snti_list_append(&conn->matched, &xfer->link);
		did++;
	}
	return did;
}

/* ---- landing ------------------------------------------------------------ */

static void mark(struct verbs_conn *conn, struct snti_xfer *xfer)
{
	snti_list_remove(&xfer->link);
	snti_list_append(&conn->matched, &xfer->link);
}

/* The sender is writing for these slots: their receives have met their messages. When it said so, it knew of so many
 * requests; a slot may have been used again since. */
void verbs_mark_taken(struct verbs_conn *conn, uint64_t taken, uint64_t requests)
{
	for (; taken; taken &= taken - 1) {
		struct verbs_slot *slot = &conn->slots[__builtin_ctzll(taken)];

		if (slot->xfer && slot->made <= requests)
			mark(conn, slot->xfer);
	}
}

/* Frames tell it, and so does data, which answers a request: they are read in their order. */
void verbs_mark_known(struct verbs_conn *conn, uint64_t requests)
{
	if (requests > conn->requests_made) {
		verbs_nonsense(conn, "a count of more requests than it got");
		return;
	}
	if (requests > conn->requests_known)
		conn->requests_known = requests;
	for (int i = 0; conn->slots_held && i < VERBS_SLOTS; i++) {
		struct verbs_slot *slot = &conn->slots[i];

		if (!slot->held || slot->made > conn->requests_known)
			continue;
		slot->held = 0;
		conn->slots_held--;
		conn->slots_open--;
	}
}

static void piece_is_here(struct verbs_conn *conn, struct verbs_slot *slot)
{
	struct verbs_port *port = verbs_port_of(conn);
	struct snti_xfer *xfer = slot->xfer;

	mark(conn, xfer);
	if (slot->block >= 0)
		snti_land(xfer, slot->offset, port->landing.base + (size_t)slot->block * port->block, slot->length);
	xfer->acked += slot->length;
	if (xfer->moved < xfer->size) {
		ask_piece(conn, slot, xfer, 0, VERBS_NONE);
		return;
	}
	release(conn, slot);
	if (xfer->acked == xfer->size)
		verbs_finish(conn, xfer, 0);
}

int verbs_on_immediate(struct verbs_conn *conn, uint32_t immediate)
{
	struct verbs_slot *slot = &conn->slots[immediate % VERBS_SLOTS];

	if ((immediate & 0xff) >= VERBS_SLOTS || !slot->xfer || slot->generation != immediate >> 8 || !slot->left)
		return verbs_nonsense(conn, "data that nobody asked for");
	verbs_port_of(conn)->room++;
	conn->pieces_seen++;
	verbs_mark_known(conn, slot->made);
	if (--slot->left == 0)
		piece_is_here(conn, slot);
	return 0;
}
