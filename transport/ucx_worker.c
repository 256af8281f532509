/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_worker.c - a port's context and worker, and the traffic class that both sides of a connection have. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "transport/tcp.h"
#include "transport/ucx.h"

static int open_context(const struct ucx_port *port, struct ucx_worker *worker)
{
	uint8_t class = (uint8_t)worker->class;
	struct snti_port_options options = { .local_only = port->local_only, .device = *port->device ? port->device : NULL,
		.traffic_class = worker->class < 0 ? NULL : &class };
	char text[200];
	int status = ucx_context(&options, &worker->context, text, sizeof text);

	return status ? snti_fail(status, "ucx: %s", text) : 0;
}

static int open_handle(struct ucx_port *port, struct ucx_worker *worker)
{
	ucp_worker_params_t params = { .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE, .thread_mode = UCS_THREAD_MODE_SINGLE };
	ucp_am_handler_param_t handler = {
		.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS | UCP_AM_HANDLER_PARAM_FIELD_CB |
			UCP_AM_HANDLER_PARAM_FIELD_ARG,
		.id = UCX_AM_ID,
		.flags = UCP_AM_FLAG_WHOLE_MSG,
		.cb = ucx_arrived,
		.arg = port,
	};
	struct epoll_event event = { .events = EPOLLIN };
	ucs_status_t status = ucx.worker_create(worker->context, &params, &worker->handle);

	if (status != UCS_OK)
		return snti_fail(SNT_EDEVICE, "ucx: no worker: %s", ucx.status_string(status));
	status = ucx.worker_set_am_recv_handler(worker->handle, &handler);
	if (status == UCS_OK)
		status = ucx.dt_create_generic(&ucx_fold_ops, port, &worker->folding);
	if (status == UCS_OK)
		status = ucx.worker_get_address(worker->handle, &worker->address, &worker->address_size);
	if (status == UCS_OK)
		status = ucx.worker_get_efd(worker->handle, &worker->fd);
	if (status != UCS_OK)
		return snti_fail(SNT_EDEVICE, "ucx: the worker cannot be used: %s", ucx.status_string(status));
	return epoll_ctl(port->epoll, EPOLL_CTL_ADD, worker->fd, &event) ?
		snti_fail(SNT_EDEVICE, "ucx: cannot watch the worker: %m") : 0;
}

/* UCX's tcp knows no class. Between the processes of one host nobody looks at marks. */
static void tell_unmarked(const struct ucx_port *port, const struct ucx_worker *worker)
{
	static atomic_flag is_told = ATOMIC_FLAG_INIT;
	struct ucx_fabric fabric;

	if (worker->class < 0 || port->local_only)
		return;
	ucx_fabric_of(worker->context, &fabric);
	if (!fabric.kinds && !atomic_flag_test_and_set(&is_told))
		snti_log(SNT_LOG_WARN, "ucx: UCX finds only tcp between hosts, and marks no packets there: traffic class %d has no "
			 "effect; the tcp transport marks them", worker->class);
}

int ucx_worker_open(struct ucx_port *port, int class)
{
	struct ucx_worker worker = { .class = class, .fd = -1 };
	int status = open_context(port, &worker);

	if (!status)
		status = open_handle(port, &worker);
	if (status) {
		ucx_worker_close(port, &worker);
		return status;
	}
	tell_unmarked(port, &worker);
	port->worker = worker;
	return 0;
}

/* UCX before 1.14 aborts the process (PR 8175 there) when its tcp is taken down while it still has a message of its
 * own about connecting. */
static int would_abort(const struct ucx_port *port)
{
	const char *chosen = getenv("UCX_TLS");
	unsigned major, minor, release;

	ucx.get_version(&major, &minor, &release);
	return port->half_open && major == 1 && minor < 14 && (!chosen || strstr(chosen, "tcp") || strstr(chosen, "all"));
}

static void close_handle(struct ucx_port *port, struct ucx_worker *worker)
{
	if (worker->fd >= 0)
		epoll_ctl(port->epoll, EPOLL_CTL_DEL, worker->fd, NULL);
	if (worker->address)
		ucx.worker_release_address(worker->handle, worker->address);
	if (would_abort(port)) {
		snti_log(SNT_LOG_INFO, "ucx: connections ended half open: a worker stays, as this version of UCX cannot end it");
		return;
	}
	ucx.worker_destroy(worker->handle);
	if (worker->folding)
		ucx.dt_destroy(worker->folding);
	ucx.cleanup(worker->context);
}

/* Also one that was opened in part. */
void ucx_worker_close(struct ucx_port *port, struct ucx_worker *worker)
{
	if (worker->handle)
		close_handle(port, worker);
	else if (worker->context)
		ucx.cleanup(worker->context);
	*worker = (struct ucx_worker){ .class = -1, .fd = -1 };
}

/* ---- the class that a peer names ------------------------------------------- */

/* Whether the peer of another conn knows the worker's address, or UCX still has something of one that has ended. */
static int is_used(const struct ucx_port *port)
{
	snti_list_each(link, &port->conns)
		if (snti_container(link, struct ucx_conn, link)->phase > UCX_CALLING)
			return 1;
	return !snti_list_empty(&port->lingers);
}

/* The new one first, so that a port has a worker at any time. */
static int replace(struct ucx_port *port, int class)
{
	struct ucx_worker old = port->worker;
	int status = ucx_worker_open(port, class);

	if (!status)
		ucx_worker_close(port, &old);
	return status;
}

int ucx_take_class(struct ucx_conn *conn)
{
	const struct tcp_conn *control = (const struct tcp_conn *)conn->control;
	struct ucx_port *port = ucx_port_of(conn);
	int class = control->is_marked ? control->traffic_class : -1;

	if (class < 0 || port->is_marked || class == port->worker.class)
		return 0;
	if (!is_used(port))
		return replace(port, class);
	snti_log(SNT_LOG_WARN, "ucx: what leaves for rank %d does not get its traffic class %d, as others use this port already",
		 conn->base.peer, class);
	return 0;
}
