/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_connect.c - how a conn comes up: the control connection proves the peer and brings its worker's address. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/ucx.h"

#define MAGIC UINT64_C(0x78637569746e7300)       /* as a number, so that another byte order is seen */
#define VERSION 3                 /* 1 had other sizes of UCX's queues and segments, 2 no packs */
#define ADDRESS_MOST (64 << 10)
#define CONTROL_NAME "sntitcp"

_Static_assert(sizeof UCX_NAME == sizeof CONTROL_NAME, "one takes the place of the other");

/* Ours is the control port's address under our name. */
void ucx_control_address(const struct snti_address *address, struct snti_address *control)
{
	*control = *address;
	if (memcmp(address->bytes, UCX_NAME, sizeof UCX_NAME - 1))
		control->bytes[0] = 0;
	else
		memcpy(control->bytes, CONTROL_NAME, sizeof UCX_NAME - 1);
}

static int begin(struct ucx_conn *conn, const struct snti_address *where, int calls)
{
	struct ucx_port *port = ucx_port_of(conn);
	struct snti_address address;
	int status = ucx_conn_init(conn);

	ucx_control_address(where, &address);
	if (!status && port->control->ops->reaches(port->control, &address))
		status = snti_fail(SNT_EUNSUPPORTED, "ucx: the address of rank %d makes no sense", conn->base.peer);
	if (!status)
		status = snti_conn_open(port->control, calls ? NULL : &address, calls ? &address : NULL, conn->base.ident,
					conn->base.peer, &conn->control);
	if (status)
		ucx_fail(conn, status);
	return status;
}

int ucx_connect(struct snti_conn *base, const struct snti_address *theirs)
{
	return begin((struct ucx_conn *)base, theirs, 1);
}

int ucx_accept(struct snti_conn *base, const struct snti_address *mine)
{
	return begin((struct ucx_conn *)base, mine, 0);
}

/* ---- step by step --------------------------------------------------------- */

static void hear(struct ucx_conn *conn, void *data, size_t size, enum ucx_phase phase)
{
	conn->heard = (struct snti_xfer){ .data = data, .size = size };
	conn->phase = phase;

	int status = snti_recv(conn->control, &conn->heard);

	if (status)
		ucx_fail(conn, status < 0 ? status : SNT_EPROTOCOL);
}

static void introduce(struct ucx_conn *conn)
{
	const struct ucx_worker *worker = &ucx_port_of(conn)->worker;

	conn->mine = (struct ucx_hello){ MAGIC, conn->wire->token, VERSION, (uint32_t)worker->address_size };
	conn->said[0] = (struct snti_xfer){ .data = &conn->mine, .size = sizeof conn->mine };
	conn->said[1] = (struct snti_xfer){ .data = worker->address, .size = worker->address_size };
	for (int i = 0; i < 2; i++) {
		int status = snti_send(conn->control, &conn->said[i]);

		if (status) {
			ucx_fail(conn, status < 0 ? status : SNT_EPROTOCOL);
			return;
		}
	}
	hear(conn, &conn->theirs, sizeof conn->theirs, UCX_HELLO);
}

static void on_hello(struct ucx_conn *conn)
{
	const struct ucx_hello *theirs = &conn->theirs;

	if (theirs->magic != MAGIC || theirs->version != VERSION || !theirs->address_size ||
	    theirs->address_size > ADDRESS_MOST) {
		ucx_nonsense(conn, "an introduction that makes no sense");
		return;
	}
	conn->peer_token = theirs->token;
	conn->peer_address = malloc(theirs->address_size);
	if (!conn->peer_address)
		ucx_fail(conn, snti_fail(SNT_ENOMEM, "ucx: no memory for the address of rank %d", conn->base.peer));
	else
		hear(conn, conn->peer_address, theirs->address_size, UCX_ADDRESS);
}

static void on_address(struct ucx_conn *conn)
{
	int status = ucx_wire_open(conn);

	if (!status)
		status = ucx_say(conn, UCX_GREET, 0, conn->eager, UCX_MESSAGES);
	if (status) {
		ucx_fail(conn, status);
		return;
	}
	conn->phase = UCX_GREETING;
	if (conn->greeted)
		ucx_is_up(conn);
}

void ucx_is_up(struct ucx_conn *conn)
{
	conn->phase = UCX_UP;
	conn->base.status = 0;
	ucx_port_of(conn)->setting_up--;
}

/* The peer is known, and our worker is not yet known to it. */
static void on_control(struct ucx_conn *conn)
{
	int status = ucx_take_class(conn);

	if (status)
		ucx_fail(conn, status);
	else
		introduce(conn);
}

static int advance(struct ucx_conn *conn)
{
	int status = conn->phase == UCX_CALLING ? conn->control->status : conn->heard.status;

	if (conn->control->status < 0)
		status = conn->control->status;
	if (status < 0) {
		ucx_fail(conn, status);
		return 1;
	}
	if (status == SNT_BUSY || conn->phase == UCX_GREETING)
		return 0;
	switch (conn->phase) {
	case UCX_CALLING: on_control(conn); break;
	case UCX_HELLO: on_hello(conn); break;
	case UCX_ADDRESS: on_address(conn); break;
	default: break;
	}
	return 1;
}

int ucx_set_up(struct ucx_conn *conn)
{
	int did = 0;

	while (conn->base.status == SNT_BUSY && advance(conn))
		did++;
	if (conn->base.status == SNT_BUSY && snti_is_past(conn->deadline))
		ucx_fail(conn, snti_fail(SNT_ETIMEOUT, "ucx: no connection with rank %d in time: %s", conn->base.peer,
					 conn->phase == UCX_GREETING ? "no message came over UCX" : "it did not introduce itself"));
	return did;
}
