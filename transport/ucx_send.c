/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_send.c - sends: messages and what is said about them, as active messages. */
#include "base/log.h"
#include "transport/ucx.h"

#define PATIENCE 64               /* a receiver that is at it returns credit within a few polls */
#define PATIENCE_SMALL 512        /* ... or takes a quarter of its credit's messages before, out of packs that take their sender no time */

/* NULL: more answers than the peer's credit allows questions. */
static struct ucx_slot *slot_get(struct ucx_wire *wire)
{
	return wire->free_count ? &wire->slots[wire->free[--wire->free_count]] : NULL;
}

static void slot_put(struct ucx_wire *wire, struct ucx_slot *slot)
{
	wire->free[wire->free_count++] = (uint16_t)(slot - wire->slots);
}

/* While another conn hangs up this one only takes note: the text of the failure that ends both is to stay. */
int ucx_verdict(struct ucx_conn *conn, const struct ucx_request *request, ucs_status_t status)
{
	if (request->verdict || status == UCS_OK)
		return request->verdict;
	if (conn->base.status >= 0 && !ucx_port_of(conn)->cancelling)
		ucx_fail(conn, snti_fail(SNT_EPEER, "ucx: connection to rank %d is lost: %s", conn->base.peer,
					 ucx.status_string(status)));
	if (conn->base.status >= 0 && !conn->wire->broken)
		conn->wire->broken = status;
	return conn->base.status < 0 ? conn->base.status : SNT_EPEER;
}

static void on_sent(void *made, ucs_status_t status, void *user_data)
{
	struct ucx_request *request = made;
	struct ucx_wire *wire = request->wire;
	struct snti_xfer *xfer = request->xfer;

	(void)user_data;
	wire->outstanding--;
	if (request->slot->head.type == UCX_ANNOUNCED && wire->conn)
		wire->conn->announcing--;
	slot_put(wire, request->slot);
	if (xfer)
		ucx_finish(wire->conn, xfer, ucx_verdict(wire->conn, request, status));
	ucx.request_free(made);
}

#define HOW(bits, way) { \
	.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_MEMORY_TYPE | (bits), \
	.flags = (way), .memory_type = UCS_MEMORY_TYPE_HOST, .cb.send = on_sent, .datatype = UCP_DATATYPE_IOV }

/* UCX is quick with what lies in one piece, and a receiver with what begins with its head. What UCX would cut, and a
 * rendezvous, has its head as a header, which travels behind the data. */
static inline __attribute__((always_inline)) void *give(struct ucx_wire *wire, struct ucx_slot *slot, const struct snti_xfer *xfer)
{
	static const ucp_request_param_t eager = HOW(0, UCP_AM_SEND_FLAG_EAGER), any = HOW(0, 0), asked = HOW(0, UCP_AM_SEND_FLAG_RNDV),
		joined = HOW(UCP_OP_ATTR_FIELD_DATATYPE, UCP_AM_SEND_FLAG_EAGER);
	const size_t head = sizeof slot->head, size = xfer ? xfer->size : 0;
	int is_asked = slot->head.type == UCX_ANNOUNCED;

	if (!size || is_asked || size > UCX_PACKED)
		return ucx.am_send_nbx(wire->ep, UCX_AM_ID, &slot->head, head, xfer ? xfer->data : NULL, size, is_asked ? &asked : &any);
	if (size <= UCX_SMALL) {
		ucx_copy_small(slot->small, xfer->data, size);
		return ucx.am_send_nbx(wire->ep, UCX_AM_ID, NULL, 0, &slot->head, head + size, &eager);
	}
	slot->parts[0] = (ucp_dt_iov_t){ &slot->head, head };
	slot->parts[1] = (ucp_dt_iov_t){ xfer->data, size };
	return ucx.am_send_nbx(wire->ep, UCX_AM_ID, NULL, 0, slot->parts, 2, &joined);
}

/* 0: done; SNT_BUSY: on_sent will be called; else the conn failed. */
static inline __attribute__((always_inline)) int post(struct ucx_conn *conn, struct ucx_slot *slot, struct snti_xfer *xfer)
{
	struct ucx_wire *wire = conn->wire;
	struct ucx_request *request = give(wire, slot, xfer);

	wire->unflushed = 1;
	if (UCS_PTR_IS_PTR(request)) {
		*request = (struct ucx_request){ .wire = wire, .xfer = xfer, .slot = slot };
		wire->outstanding++;
		if (slot->head.type == UCX_ANNOUNCED)
			conn->announcing++;
		if (xfer)
			xfer->private = request;
		return SNT_BUSY;
	}
	slot_put(wire, slot);
	if (request && conn->base.status >= 0)
		ucx_fail(conn, snti_fail(SNT_EPEER, "ucx: cannot send to rank %d: %s", conn->base.peer,
					 ucx.status_string(UCS_PTR_STATUS(request))));
	return request ? conn->base.status : 0;
}

int ucx_say(struct ucx_conn *conn, enum ucx_type type, uint32_t number, uint64_t a, uint64_t b)
{
	struct ucx_slot *slot = slot_get(conn->wire);
	int status;

	if (!slot)
		return ucx_nonsense(conn, "more than it may");
	slot->head = (struct ucx_head){ .token = conn->peer_token, .lane = a, .fingerprint = b, .number = number, .type = type };
	status = post(conn, slot, NULL);
	return status == SNT_BUSY ? 0 : status;
}

/* Announcing costs a small message a round trip and the receiver an answer, so that it never catches up: credit that is
 * on its way is waited for a little. What it waits behind may be messages that nobody receives, so not for ever. */
static int is_worth_waiting(struct ucx_conn *conn, size_t size)
{
	unsigned most = size <= UCX_PACK_SMALL ? PATIENCE_SMALL : PATIENCE;

	return size <= conn->most_bytes / 4 && conn->refused++ < most;
}

int ucx_send(struct snti_conn *base, struct snti_xfer *xfer)
{
	struct ucx_conn *conn = (struct ucx_conn *)base;
	int charged = xfer->size <= conn->credit_bytes && conn->credit_messages, status;
	struct ucx_slot *slot;

	if (base->status == SNT_BUSY)
		return SNTI_AGAIN;
	if (conn->over && !base->status)
		ucx_fail(conn, snti_fail(SNT_EPEER, "ucx: rank %d has hung up", base->peer));
	if (base->status)
		return base->status;
	if (conn->dying || (!charged && (is_worth_waiting(conn, xfer->size) || conn->announcing == UCX_MESSAGES))) {
		ucx_stay_in_streak(conn);
		return SNTI_AGAIN;
	}
	if (xfer->polled && charged && xfer->size <= UCX_PACK_SMALL && ucx_is_streaming(conn) && ucx_hold(conn, xfer))
		return 0;
	if (conn->pack)
		ucx_ship(conn);
	slot = slot_get(conn->wire);
	if (!slot)
		return SNTI_AGAIN;
	slot->head = (struct ucx_head){ .token = conn->peer_token, .lane = xfer->lane, .fingerprint = xfer->fingerprint,
		.number = conn->next_number++, .type = charged ? UCX_CHARGED : UCX_ANNOUNCED };
	if (charged) {
		conn->credit_bytes -= xfer->size;
		conn->credit_messages--;
	}
	status = post(conn, slot, xfer);
	if (status == SNT_BUSY) {
		ucx_take(conn, xfer, &conn->sending);
		xfer->number = slot->head.number;
		return 0;
	}
	xfer->status = status;
	return status;
}

static void on_flushed(void *request, ucs_status_t status, void *user_data)
{
	struct ucx_wire *wire = user_data;

	(void)status;   /* a failure comes to the error handler too */
	wire->flushing = 0;
	wire->outstanding--;
	ucx.request_free(request);
}

void ucx_start_flush(struct ucx_wire *wire)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
		.cb.send = on_flushed,
		.user_data = wire,
	};

	if (wire->flushing)
		return;
	wire->unflushed = 0;
	if (UCS_PTR_IS_PTR(ucx.ep_flush_nbx(wire->ep, &param))) {
		wire->flushing = 1;
		wire->outstanding++;
	}
}

int ucx_flush(struct snti_conn *base)
{
	struct ucx_conn *conn = (struct ucx_conn *)base;

	if (base->status)
		return base->status == SNT_BUSY ? 0 : base->status;
	ucx_ship(conn);
	if (base->status)
		return base->status;
	if (conn->wire->unflushed && !conn->over)
		ucx_start_flush(conn->wire);
	return conn->wire->flushing ? SNT_BUSY : 0;
}
