/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_conn.c - a conn's life: its endpoint, its busy xfers, how it fails and how it ends. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/settings.h"
#include "transport/tcp.h"
#include "transport/ucx.h"

#define BYE_MS 100                /* it is here already or lost, but for what a network repeats */
#define CANCEL_MS 1000            /* UCX lets go of memory without asking the peer: soon, or never */
#define CANCEL_HASTY_MS 100       /* ... when the owner aborts, often many conns with a peer that is stopped */
#define CANCEL_TRIES 10000        /* in any case, as time also passes while others have the core */

static void init_lists(struct ucx_conn *conn)
{
	struct snti_link *lists[] = { &conn->link, &conn->sending, &conn->receiving, &conn->spare, &conn->early,
		&conn->holder, &conn->held };

	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		snti_list_init(lists[i]);
	for (int i = 0; i < UCX_BUCKETS; i++) {
		snti_list_init(&conn->posted[i]);
		snti_list_init(&conn->unmatched[i]);
	}
}

/* A place in the port's table, and 48 bits that nobody guesses. */
static int get_token(struct ucx_wire *wire)
{
	struct ucx_port *port = wire->port;
	struct ucx_wire **tokens;
	size_t index = 0;
	int status = snti_random(&wire->token, sizeof wire->token);

	while (index < port->token_count && port->tokens[index])
		index++;
	if (status || index > 0xffff)
		return status ? status : snti_fail(SNT_ELIMIT, "ucx: too many connections");
	if (index == port->token_count) {
		tokens = realloc(port->tokens, (2 * index + 8) * sizeof *tokens);
		if (!tokens)
			return snti_fail(SNT_ENOMEM, "ucx: no memory for %zu connections", index);
		memset(tokens + index, 0, (index + 8) * sizeof *tokens);
		port->tokens = tokens;
		port->token_count = 2 * index + 8;
	}
	wire->token = (wire->token & ~(uint64_t)0xffff) | index;
	port->tokens[index] = wire;
	return 0;
}

static int make_wire(struct ucx_conn *conn)
{
	struct ucx_wire *wire = calloc(1, sizeof *wire);
	int status;

	if (!wire)
		return snti_fail(SNT_ENOMEM, "ucx: no memory for the connection to rank %d", conn->base.peer);
	snti_list_init(&wire->link);
	wire->port = ucx_port_of(conn);
	wire->conn = conn;
	for (uint32_t i = 0; i < UCX_SLOTS; i++)
		wire->free[i] = (uint16_t)i;
	wire->free_count = UCX_SLOTS;
	for (wire->idle_count = 0; wire->idle_count < UCX_PACKS; wire->idle_count++)
		wire->idle[wire->idle_count] = &wire->packs[wire->idle_count];
	status = get_token(wire);
	if (status)
		free(wire);
	else
		conn->wire = wire;
	return status;
}

static void free_wire(struct ucx_wire *wire)
{
	snti_conn_close(wire->control);
	snti_list_remove(&wire->link);
	wire->port->tokens[wire->token & 0xffff] = NULL;
	free(wire);
}

int ucx_conn_init(struct ucx_conn *conn)
{
	struct ucx_port *port = ucx_port_of(conn);
	int status;

	init_lists(conn);
	conn->eager = snti_settings()->ucx_eager;
	conn->free_chunk = 0;
	conn->deadline = snti_deadline_ms(snti_settings()->startup_ms);
	conn->base.status = SNT_BUSY;
	snti_list_append(&port->conns, &conn->link);
	port->setting_up++;
	status = make_wire(conn);
	return status ? status : ucx_early_memory(conn);
}

/* ---- xfers ---------------------------------------------------------------- */

static void finish_posted(struct ucx_conn *conn, int status)
{
	for (int i = 0; i < UCX_BUCKETS; i++)
		while (!snti_list_empty(&conn->posted[i]))
			ucx_finish(conn, snti_container(conn->posted[i].next, struct snti_xfer, link), status);
}

/* ---- failing ---------------------------------------------------------------- */

/* What UCX still holds ends when its endpoint is closed, which cannot be done from within its progress. */
void ucx_fail(struct ucx_conn *conn, int status)
{
	if (conn->base.status < 0)
		return;
	if (conn->base.status == SNT_BUSY)
		ucx_port_of(conn)->setting_up--;
	conn->base.status = status;
	ucx_port_of(conn)->ailing++;
	finish_posted(conn, status);
	ucx_drop_pack(conn, status);
}

int ucx_nonsense(struct ucx_conn *conn, const char *what)
{
	if (conn->base.status >= 0)
		ucx_fail(conn, snti_fail(SNT_EPROTOCOL, "ucx: rank %d sent %s", conn->base.peer, what));
	return conn->base.status;
}

static void on_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
	struct ucx_wire *wire = arg;

	(void)ep;
	wire->broken = status;
	if (wire->conn)
		wire->port->ailing++;
}

int ucx_wire_open(struct ucx_conn *conn)
{
	ucp_ep_params_t params = {
		.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
			UCP_EP_PARAM_FIELD_ERR_HANDLER,
		.address = conn->peer_address,
		.err_mode = UCP_ERR_HANDLING_MODE_PEER,
		.err_handler = { .cb = on_error, .arg = conn->wire },
	};
	ucs_status_t status = ucx.ep_create(ucx_port_of(conn)->worker.handle, &params, &conn->wire->ep);

	if (status == UCS_OK)
		return 0;
	conn->wire->ep = NULL;
	return snti_fail(status == UCS_ERR_UNREACHABLE ? SNT_EUNSUPPORTED : SNT_EDEVICE,
			 "ucx: no endpoint to rank %d: %s (UCX_TLS, UCX_NET_DEVICES)", conn->base.peer, ucx.status_string(status));
}

/* @force: ends what is in flight instead of waiting for it. */
static void close_wire(struct ucx_wire *wire, int force)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
		.flags = force ? UCP_EP_CLOSE_FLAG_FORCE : 0,
	};
	void *request;

	if (wire->closing)
		return;
	wire->closing = 1;
	request = wire->ep ? ucx.ep_close_nbx(wire->ep, &param) : NULL;
	wire->closed = UCS_PTR_IS_PTR(request) ? request : NULL;
}

/* In this order, as a descriptor that is released tells the peer, if there still is an endpoint to do it by, that
 * all is well. */
static void end_wire(struct ucx_conn *conn, int force)
{
	close_wire(conn->wire, force);
	if (conn->entries)
		ucx_entry_drop_descriptors(conn);
}

/* Whether the peer that has hung up leaves something undone for good. */
static int is_left_alone(const struct ucx_conn *conn)
{
	if (!conn->over || !conn->waiting)
		return 0;
	return conn->abandoned || snti_list_empty(&conn->receiving) || snti_is_past(conn->grace);
}

static int has_ended(const struct snti_conn *control)
{
	return control->status < 0 || ((const struct tcp_conn *)control)->over;
}

/* Who hangs up says so over UCX, behind everything it sent. That may be seen later than the end of the control connection:
 * UCX's progress has idle calls while there is something for it. Only who had to force its end may never get it out. */
static int is_bye_awaited(struct ucx_conn *conn)
{
	if (!conn->bye_until)
		conn->bye_until = snti_deadline_ms(BYE_MS);
	return !snti_is_past(conn->bye_until);
}

static void watch_control(struct ucx_conn *conn, int idle)
{
	if (conn->over || !idle || !has_ended(conn->control))
		return;
	if (conn->control->status < 0)
		ucx_fail(conn, conn->control->status);
	else if (is_bye_awaited(conn))
		return;
	else if (conn->waiting)
		ucx_fail(conn, snti_fail(SNT_EPEER, "ucx: rank %d has hung up", conn->base.peer));
	else
		conn->over = 1;
}

int ucx_look_after(struct ucx_conn *conn, int idle)
{
	if (conn->base.status == 0 && conn->control)
		watch_control(conn, idle);
	if (conn->dying && conn->base.status == 0) {
		if (!conn->wire->flushing && conn->wire->unflushed)
			ucx_start_flush(conn->wire);
		else if (!conn->wire->flushing || snti_is_past(conn->grace))
			ucx_fail(conn, conn->dying);
	}
	if (conn->base.status == 0 && is_left_alone(conn))
		ucx_fail(conn, snti_fail(SNT_EPEER, "ucx: rank %d has hung up", conn->base.peer));
	if (conn->base.status >= 0 && conn->wire->broken && !conn->over && idle)
		ucx_fail(conn, snti_fail(SNT_EPEER, "ucx: connection to rank %d is lost: %s", conn->base.peer,
					 ucx.status_string(conn->wire->broken)));
	if (conn->base.status < 0 && conn->wire)
		end_wire(conn, 1);
	return conn->base.status >= 0 && (conn->dying || conn->wire->broken || (conn->over && conn->waiting) ||
					  (!conn->over && conn->control && has_ended(conn->control)));
}

/* ---- the end ---------------------------------------------------------------- */

/* Whether UCX has closed it and calls back for nothing any more. It also waits until the peer has all that was
 * sent, which is in vain when that has hung up as well. */
static int is_gone(struct ucx_wire *wire)
{
	wire->left |= wire->control && has_ended(wire->control);
	if (wire->closed && (wire->left || ucx.request_check_status(wire->closed) != UCS_INPROGRESS)) {
		ucx.request_free(wire->closed);
		wire->closed = NULL;
	}
	return !wire->closed && !wire->outstanding;
}

static void sweep(struct ucx_port *port)
{
	struct snti_link *link = port->lingers.next;

	while (link != &port->lingers) {
		struct ucx_wire *wire = snti_container(link, struct ucx_wire, link);

		link = link->next;
		if (is_gone(wire))
			free_wire(wire);
	}
}

/* Sees to endpoints whose conns have hung up; waits (only at the port's close) until UCX is done with them. */
void ucx_linger(struct ucx_port *port, int wait_ms)
{
	uint64_t deadline = snti_deadline_ms((uint64_t)wait_ms);

	sweep(port);
	while (wait_ms && !snti_list_empty(&port->lingers) && !snti_is_past(deadline)) {
		if (!ucx.worker_progress(port->worker.handle) && !port->control->ops->poll(port->control))
			poll(NULL, 0, 0);
		sweep(port);
	}
}

/* Before the worker is destroyed: UCX wants no request to be held then. */
void ucx_give_up_lingers(struct ucx_port *port)
{
	snti_list_each(link, &port->lingers) {
		struct ucx_wire *wire = snti_container(link, struct ucx_wire, link);

		if (wire->closed)
			ucx.request_free(wire->closed);
		wire->closed = NULL;
	}
}

/* After it: UCX calls nothing back any more. */
void ucx_free_lingers(struct ucx_port *port)
{
	while (!snti_list_empty(&port->lingers))
		free_wire(snti_container(port->lingers.next, struct ucx_wire, link));
}

static void orphan(struct ucx_conn *conn, struct snti_link *list, int status)
{
	while (!snti_list_empty(list)) {
		struct snti_xfer *xfer = snti_container(list->next, struct snti_xfer, link);

		((struct ucx_request *)xfer->private)->xfer = NULL;
		ucx_finish(conn, xfer, status);
	}
}

/* The memory of xfers in flight is the caller's again when this returns: UCX has to let go of it first. */
static void cancel(struct ucx_conn *conn)
{
	uint64_t deadline = snti_deadline_ms(conn->base.port->hasty ? CANCEL_HASTY_MS : CANCEL_MS);

	conn->wire->port->cancelling = 1;
	for (int tries = 0; conn->wire->outstanding && (tries < CANCEL_TRIES || !snti_is_past(deadline)); tries++)
		ucx.worker_progress(conn->wire->port->worker.handle);
	conn->wire->port->cancelling = 0;
	if (conn->wire->outstanding)
		snti_log(SNT_LOG_WARN, "ucx: UCX does not let go of %zu messages with rank %d", conn->wire->outstanding,
			 conn->base.peer);
	orphan(conn, &conn->sending, SNT_ECANCELED);
	orphan(conn, &conn->receiving, SNT_ECANCELED);
}

static void drop_wire(struct ucx_conn *conn, int was_up)
{
	struct ucx_wire *wire = conn->wire;
	int force = !was_up || wire->outstanding || wire->broken || conn->over;

	if (was_up && !conn->over)
		(void)!ucx_say(conn, UCX_BYE, conn->next_number++, !snti_list_empty(&conn->sending), 0);
	end_wire(conn, force);
	if (force)
		cancel(conn);
	wire->conn = NULL;
	wire->left |= conn->over;
	if (force)
		snti_conn_close(conn->control);
	else
		wire->control = conn->control;
	snti_list_append(&wire->port->lingers, &wire->link);
	conn->wire = NULL;
}

void ucx_hang_up(struct snti_conn *base)
{
	struct ucx_conn *conn = (struct ucx_conn *)base;
	struct ucx_port *port = ucx_port_of(conn);
	int was_up;

	if (!conn->link.next)
		return;
	ucx_ship(conn);
	was_up = base->status == 0;
	if (base->status == SNT_BUSY)
		port->setting_up--;
	if (conn->phase > UCX_CALLING && conn->phase < UCX_UP)
		port->half_open = 1;
	base->status = base->status < 0 ? base->status : SNT_ECANCELED;
	finish_posted(conn, SNT_ECANCELED);
	ucx_drop_pack(conn, SNT_ECANCELED);
	if (conn->wire)
		drop_wire(conn, was_up);
	else
		snti_conn_close(conn->control);
	conn->control = NULL;
	snti_list_remove(&conn->link);
	free(conn->peer_address);
	free(conn->memory);
	conn->peer_address = conn->memory = NULL;
	conn->entries = NULL;
}
