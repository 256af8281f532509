/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx.c - the ucx transport: its port, and the poll that drives all of it. */
#include "transport/ucx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/tcp.h"

#define CONTROL_EVERY 2048        /* polls: the control connections only tell who is gone, and looking is a system call */
#define IDLE_EVERY 16
#define CLOSE_MS 1000
#define CONTROL_EAGER 4096
#define NAP_NS 20000000           /* over ud, UCX's own thread may take what comes, and its descriptor then tells of nothing */

static int watch(struct ucx_port *port, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(port->epoll, EPOLL_CTL_ADD, fd, &event);
}

static int open_control(struct ucx_port *port, const struct snti_port_options *options)
{
	struct snti_port_options aside = *options;
	struct tcp_port *control;
	int status;

	aside.device = options->interface;
	status = snti_port_open(&snti_tcp_transport, &aside, &port->control);
	if (status)
		return status;
	control = (struct tcp_port *)port->control;
	control->sockets = 1;
	control->eager = CONTROL_EAGER;
	port->epoll = epoll_create1(EPOLL_CLOEXEC);
	port->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (port->epoll < 0 || port->timer < 0 || watch(port, port->timer) || watch(port, port->control->wake_fd))
		return snti_fail(errno == EMFILE || errno == ENFILE ? SNT_ELIMIT : SNT_EDEVICE, "ucx: no epoll: %m");
	port->base.wake_fd = port->epoll;
	return 0;
}

/* Whether it reaches whom it is asked to reach. */
static int find_fabric(struct ucx_port *port)
{
	struct ucx_fabric fabric;

	ucx_fabric_of(port->worker.context, &fabric);
	port->kinds = fabric.kinds;
	return fabric.kinds ? 0 : snti_fail(SNT_EUNSUPPORTED, "ucx: UCX finds only tcp between hosts");
}

static int ucx_open(struct snti_port *base, const struct snti_port_options *options)
{
	struct ucx_port *port = (struct ucx_port *)base;
	int status = ucx_load();

	snti_list_init(&port->conns);
	snti_list_init(&port->lingers);
	snti_list_init(&port->holders);
	port->epoll = port->timer = -1;
	port->is_marked = options->traffic_class != NULL;
	port->local_only = options->local_only;
	snprintf(port->device, sizeof port->device, "%s", options->device ? options->device : "");
	if (!status)
		status = open_control(port, options);
	if (!status)
		status = ucx_worker_open(port, port->is_marked ? *options->traffic_class : -1);
	return status || !options->beyond_tcp ? status : find_fabric(port);
}

static void ucx_close(struct snti_port *base)
{
	struct ucx_port *port = (struct ucx_port *)base;

	if (!port->conns.next)
		return;
	while (!snti_list_empty(&port->conns))
		ucx_hang_up(&snti_container(port->conns.next, struct ucx_conn, link)->base);
	ucx_linger(port, base->hasty ? 0 : CLOSE_MS);
	ucx_give_up_lingers(port);
	ucx_worker_close(port, &port->worker);
	ucx_free_lingers(port);
	if (port->control)
		port->control->hasty = base->hasty;
	snti_port_close(port->control);
	if (port->timer >= 0)
		close(port->timer);
	if (port->epoll >= 0)
		close(port->epoll);
	free(port->tokens);
	port->epoll = port->timer = base->wake_fd = -1;
	port->tokens = NULL;
	port->control = NULL;
}

/* What UCX's progress does not do: the control connections, conns that come up, fail or end. */
static int housekeeping(struct ucx_port *port, int idle)
{
	int did = port->control->ops->poll(port->control);
	struct snti_link *link = port->conns.next, *next;

	if (did < 0)
		return did;
	port->armed = 0;
	port->ailing = 0;      /* counted anew */
	for (; link != &port->conns; link = next) {
		struct ucx_conn *conn = snti_container(link, struct ucx_conn, link);

		next = link->next;
		if (conn->base.status == SNT_BUSY)
			did += ucx_set_up(conn);
		port->ailing += ucx_look_after(conn, idle) != 0;
	}
	ucx_linger(port, 0);
	return did;
}

/* What is not so at most polls. */
static __attribute__((noinline)) int see_to(struct ucx_port *port, int did)
{
	int more = 0;

	if (port->holding)
		did += ucx_ship_all(port, 0);
	if (port->setting_up || port->ailing || port->armed || port->turn % CONTROL_EVERY == 0 || snti_list_empty(&port->conns))
		more = housekeeping(port, !did);
	return more < 0 ? more : did + more;
}

/* Beside a transport that reaches all peers a port stays unused, and is to cost nothing at each poll. */
static __attribute__((noinline)) int poll_unused(struct ucx_port *port)
{
	if (snti_list_empty(&port->lingers) && !port->armed && ++port->turn % IDLE_EVERY)
		return 0;
	return see_to(port, (int)ucx.worker_progress(port->worker.handle));
}

static inline void heard(struct ucx_port *port)
{
	port->has_heard = 0;
	ucx_answers++;
}

static int ucx_poll(struct snti_port *base)
{
	struct ucx_port *port = (struct ucx_port *)base;
	int did;

	if (snti_list_empty(&port->conns))
		return poll_unused(port);
	did = (int)ucx.worker_progress(port->worker.handle);
	if (did && port->has_heard)
		heard(port);
	if (++port->turn % CONTROL_EVERY == 0 || (port->setting_up | port->ailing | port->holding | (unsigned)port->armed))
		return see_to(port, did);
	return did;
}

static int ucx_arm(struct snti_port *base)
{
	struct ucx_port *port = (struct ucx_port *)base;
	struct itimerspec nap = { .it_value.tv_nsec = NAP_NS };
	ucs_status_t status;

	port->armed = 1;
	timerfd_settime(port->timer, 0, &nap, NULL);
	(void)!port->control->ops->arm(port->control);
	if (ucx_ship_all(port, 1) || port->ailing)
		return SNTI_AGAIN;
	status = ucx.worker_arm(port->worker.handle);
	return status == UCS_OK ? 0 : SNTI_AGAIN;
}

static int ucx_address(struct snti_port *base, struct snti_address *mine)
{
	struct ucx_port *port = (struct ucx_port *)base;
	int status = port->control->ops->address(port->control, mine);

	if (status)
		return status;
	memcpy(mine->bytes, UCX_NAME, sizeof UCX_NAME - 1);
	memcpy(mine->bytes + TCP_PLACE_BYTES, &port->kinds, sizeof port->kinds);
	return 0;
}

static int ucx_reaches(struct snti_port *base, const struct snti_address *theirs)
{
	struct ucx_port *port = (struct ucx_port *)base;
	struct snti_address control;
	uint64_t kinds;

	memcpy(&kinds, theirs->bytes + TCP_PLACE_BYTES, sizeof kinds);
	if (port->kinds && !(port->kinds & kinds))
		return SNT_EUNSUPPORTED;
	ucx_control_address(theirs, &control);
	return port->control->ops->reaches(port->control, &control);
}

_Static_assert(TCP_PLACE_BYTES + sizeof(uint64_t) <= SNTI_ADDRESS_BYTES, "an address has to fit");

const struct snti_transport snti_ucx_transport = {
	.name = "ucx",
	.slice = (size_t)1 << 20,       /* its rendezvous asks for leave, too */
	.port_size = sizeof(struct ucx_port),
	.conn_size = sizeof(struct ucx_conn),
	.library = ucx_library,
	.devices = ucx_devices,
	.offers = ucx_offers,
	.open = ucx_open,
	.close = ucx_close,
	.poll = ucx_poll,
	.arm = ucx_arm,
	.address = ucx_address,
	.reaches = ucx_reaches,
	.connect = ucx_connect,
	.accept = ucx_accept,
	.hang_up = ucx_hang_up,
	.send = ucx_send,
	.recv = ucx_recv,
	.flush = ucx_flush,
};
