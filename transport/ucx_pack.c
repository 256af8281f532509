/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_pack.c - small messages that follow each other closely leave in one active message.
 *
 * An active message costs both sides more than copying a small one. Who sends again on a conn before anything has come
 * that could be an answer, to this thread, is in a streak. What is not the first in it is held back while its owner, who
 * polls until it is done, sends more: until a poll finds nothing new since the last one.
 */
#include <string.h>

#include "base/log.h"
#include "transport/ucx.h"

#define PART_MOST (sizeof(struct ucx_part) + sizeof(struct ucx_others) + UCX_PACK_SMALL)

__thread uint32_t ucx_answers;

static void put(struct ucx_wire *wire, struct ucx_pack *pack)
{
	wire->idle[wire->idle_count++] = pack;
}

static void begin(struct ucx_conn *conn, const struct snti_xfer *xfer)
{
	conn->pack = conn->wire->idle[--conn->wire->idle_count];
	conn->pack->head = (struct ucx_head){ .token = conn->peer_token, .lane = xfer->lane, .fingerprint = xfer->fingerprint,
		.number = conn->next_number, .type = UCX_PACK };
	conn->pack_others = (struct ucx_others){ xfer->lane, xfer->fingerprint };
	conn->pack_used = conn->pack_count = 0;
	snti_list_append(&ucx_port_of(conn)->holders, &conn->holder);
	ucx_port_of(conn)->holding++;
}

static void add(struct ucx_conn *conn, struct snti_xfer *xfer)
{
	struct ucx_others others = { xfer->lane, xfer->fingerprint };
	struct ucx_part part = { .size = (uint32_t)xfer->size, .has_others = others.lane != conn->pack_others.lane ||
		others.fingerprint != conn->pack_others.fingerprint };
	char *at = conn->pack->parts + conn->pack_used;

	memcpy(at, &part, sizeof part);
	at += sizeof part;
	if (part.has_others) {
		memcpy(at, &others, sizeof others);
		at += sizeof others;
		conn->pack_others = others;
	}
	ucx_copy_small(at, xfer->data, xfer->size);
	conn->pack_used = (size_t)(at - conn->pack->parts) + ucx_part_room(xfer->size);
	conn->pack_count++;
	conn->is_fresh = 1;
	conn->credit_bytes -= xfer->size;
	conn->credit_messages--;
	ucx_take(conn, xfer, &conn->held);
	xfer->number = conn->next_number++;
}

int ucx_hold(struct ucx_conn *conn, struct snti_xfer *xfer)
{
	if (!conn->pack && !conn->wire->idle_count)
		return 0;
	if (!conn->pack)
		begin(conn, xfer);
	add(conn, xfer);
	if (conn->pack_count == UCX_PACK_MOST || conn->pack_used > sizeof conn->pack->parts - PART_MOST)
		ucx_ship(conn);
	return 1;
}

static void on_sent(void *made, ucs_status_t status, void *user_data)
{
	struct ucx_request *request = made;
	struct ucx_wire *wire = request->wire;
	struct snti_xfer *xfer = request->xfer;
	int verdict = xfer ? ucx_verdict(wire->conn, request, status) : 0;

	(void)user_data;
	wire->outstanding--;
	put(wire, request->pack);
	while (xfer) {
		struct snti_xfer *next = snti_container(xfer->link.next, struct snti_xfer, link);

		ucx_finish(wire->conn, xfer, verdict);
		xfer = &next->link != &wire->conn->sending && next->private == made ? next : NULL;
	}
	ucx.request_free(made);
}

static struct snti_xfer *take_held(struct ucx_conn *conn)
{
	return snti_list_empty(&conn->held) ? NULL : snti_container(conn->held.next, struct snti_xfer, link);
}

/* The pack's place is UCX's until on_sent. */
static void await_sent(struct ucx_conn *conn, struct ucx_pack *pack, struct ucx_request *request)
{
	struct snti_xfer *xfer;

	*request = (struct ucx_request){ .wire = conn->wire, .xfer = take_held(conn), .pack = pack };
	conn->wire->outstanding++;
	while ((xfer = take_held(conn))) {
		xfer->private = request;
		snti_list_remove(&xfer->link);
		snti_list_append(&conn->sending, &xfer->link);
	}
}

static struct ucx_pack *take_pack(struct ucx_conn *conn)
{
	struct ucx_pack *pack = conn->pack;

	conn->pack = NULL;
	snti_list_remove(&conn->holder);
	ucx_port_of(conn)->holding--;
	return pack;
}

static void finish_held(struct ucx_conn *conn, int status)
{
	struct snti_xfer *xfer;

	while ((xfer = take_held(conn)))
		ucx_finish(conn, xfer, status);
}

void ucx_ship(struct ucx_conn *conn)
{
	static const ucp_request_param_t eager = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_MEMORY_TYPE,
		.flags = UCP_AM_SEND_FLAG_EAGER, .memory_type = UCS_MEMORY_TYPE_HOST, .cb.send = on_sent };
	struct ucx_pack *pack;
	struct ucx_request *request;

	if (!conn->pack || conn->base.status || conn->over || conn->dying)
		return;
	pack = take_pack(conn);
	conn->wire->unflushed = 1;
	request = ucx.am_send_nbx(conn->wire->ep, UCX_AM_ID, NULL, 0, pack, sizeof pack->head + conn->pack_used, &eager);
	if (UCS_PTR_IS_PTR(request)) {
		await_sent(conn, pack, request);
		return;
	}
	put(conn->wire, pack);
	if (request)
		ucx_fail(conn, snti_fail(SNT_EPEER, "ucx: cannot send to rank %d: %s", conn->base.peer,
					 ucx.status_string(UCS_PTR_STATUS(request))));
	finish_held(conn, 0);   /* none is left of a conn that failed */
}

void ucx_drop_pack(struct ucx_conn *conn, int status)
{
	if (conn->pack)
		put(conn->wire, take_pack(conn));
	finish_held(conn, status);
}

int ucx_ship_all(struct ucx_port *port, int hurries)
{
	struct snti_link *link = port->holders.next, *next;
	int did = 0;

	for (; link != &port->holders; link = next) {
		struct ucx_conn *conn = snti_container(link, struct ucx_conn, holder);

		next = link->next;
		if (conn->is_fresh && !hurries)
			did++;
		else
			ucx_ship(conn);
		did += !conn->pack;
		conn->is_fresh = 0;
	}
	return did;
}
