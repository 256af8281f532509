/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp.c - the tcp transport: its port, and the poll that drives all of it. */
#include "transport/tcp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/settings.h"

#define FEW 8                     /* that many sockets are cheaper to read than to ask epoll about */
#define EVENTS 64
#define EPOLL_EVERY 16            /* polls of a few conns that wait */
#define EPOLL_BUSY 64             /* ... where something has come: its owner is waiting for it */
#define AWAKE 256                 /* after so many looks at epoll without sleep it is spinning */
#define FEW_CONNS 4
#define POLLS_PER_CLOCK 128
#define LOOK_NS 100000u           /* between looks at what comes to a port without conns */
#define TICK_NS 10000000
#define CLOSE_MS 1000

static int tcp_open(struct snti_port *base, const struct snti_port_options *options)
{
	struct tcp_port *port = (struct tcp_port *)base;

	snti_list_init(&port->conns);
	snti_list_init(&port->hot);
	port->listen_fd = port->epoll = -1;
	for (int i = 0; i < TCP_GUESTS; i++)
		port->guests[i].fd = -1;
	port->listener.kind = TCP_LISTENER;
	port->local_only = options->local_only;
	port->timeout_ms = options->timeout_ms;
	port->sockets = (unsigned)snti_settings()->tcp_sockets;
	if (options->streams && options->streams < port->sockets)
		port->sockets = options->streams;
	port->eager = options->eager ? options->eager : snti_settings()->tcp_eager;
	port->is_marked = options->traffic_class != NULL;
	port->traffic_class = options->traffic_class ? *options->traffic_class : (uint8_t)snti_settings()->tcp_class;
	snprintf(port->device, sizeof port->device, "%s", options->device ? options->device : "");
	memcpy(port->secret, options->secret, sizeof port->secret);
	port->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (port->epoll < 0)
		return snti_fail(errno == EMFILE || errno == ENFILE ? SNT_ELIMIT : SNT_EDEVICE, "tcp: no epoll: %m");
	base->wake_fd = port->epoll;

	int status = snti_random(&port->ticket, sizeof port->ticket);

	return status ? status : tcp_listen(port);
}

static void tcp_close(struct snti_port *base)
{
	struct tcp_port *port = (struct tcp_port *)base;

	if (!port->conns.next)
		return;
	while (!snti_list_empty(&port->conns))
		tcp_hang_up(&snti_container(port->conns.next, struct tcp_conn, link)->base);
	tcp_drop_guests(port);
	tcp_linger(port, base->hasty ? 0 : CLOSE_MS);
	tcp_linger_no_more(port);
	if (port->listen_fd >= 0)
		close(port->listen_fd);
	if (port->epoll >= 0)
		close(port->epoll);
	port->listen_fd = port->epoll = base->wake_fd = -1;
	explicit_bzero(port->secret, sizeof port->secret);
}

static int on_socket(struct tcp_socket *socket, uint32_t events)
{
	int did;

	if (socket->phase == TCP_DIALING || socket->phase == TCP_PROVING)
		return tcp_setup(socket);
	if (!socket->in || socket->fd < 0)
		return 0;
	did = events & ~(uint32_t)EPOLLOUT ? tcp_input(socket) : 0;
	if (socket->conn->base.status >= 0)
		did += tcp_kick(socket->conn);
	return did;
}

static int poll_events(struct tcp_port *port)
{
	struct epoll_event events[EVENTS];
	int count, did = 0;

	do
		count = epoll_wait(port->epoll, events, EVENTS, 0);
	while (count < 0 && errno == EINTR);
	if (count < 0)
		return snti_fail(SNT_EDEVICE, "tcp: epoll_wait failed: %m");
	for (int i = 0; i < count; i++) {
		struct tcp_source *source = events[i].data.ptr;

		if (source->kind == TCP_LISTENER)
			did += tcp_welcome(port);
		else if (source->kind == TCP_GUEST)
			did += tcp_guest_read(port, snti_container(source, struct tcp_guest, source));
		else
			did += on_socket(snti_container(source, struct tcp_socket, source), events[i].events);
	}
	return did;
}

/* What epoll does not tell: deadlines, and output that waits on conns without busy xfers. */
static int housekeeping(struct tcp_port *port)
{
	uint64_t now = snti_now_ns();
	int did = 0;

	snti_list_each(link, &port->conns) {
		struct tcp_conn *conn = snti_container(link, struct tcp_conn, link);

		if (conn->base.status >= 0 && conn->control)
			did += tcp_kick(conn);
	}
	if (now < port->next_tick)
		return did;
	port->next_tick = now + TICK_NS;
	tcp_tick(port);
	tcp_linger(port, 0);
	return did;
}

/* Other sockets than the first only carry what was asked for. */
static int poll_conn(struct tcp_conn *conn, int read)
{
	unsigned count = conn->streaming ? conn->socket_count : 1;
	int did = 0;

	if (tcp_still_holds(conn))
		return 0;
	for (unsigned i = 0; read && i < count; i++)
		if (conn->sockets[i].phase == TCP_READY)
			did += tcp_input(&conn->sockets[i]);
	if (conn->base.status >= 0)
		did += tcp_kick(conn);
	return did;
}

/* Who spins looks anyway, and a socket that epoll listens to costs whoever sends to it a twentieth of a small message's
 * time. So the first sockets of a few conns are taken from epoll until the next sleep, and read here if they are not hot. */
static int look_around(struct tcp_port *port)
{
	int spinning = port->conn_count <= FEW_CONNS && port->awake >= AWAKE, did = 0;

	port->awake += port->awake < AWAKE;
	snti_list_each(link, &port->conns) {
		struct tcp_conn *conn = snti_container(link, struct tcp_conn, link);
		struct tcp_socket *socket = &conn->sockets[0];

		if (socket->phase != TCP_READY || conn->base.status)
			continue;
		if (spinning || !socket->interest)
			tcp_interest(socket, spinning ? 0 : EPOLLIN);
		if (spinning && !conn->waiting)
			did += tcp_input(socket);
	}
	return did;
}

/* Not inlined, so that a poll of a port that rests saves no registers for it. */
static __attribute__((noinline)) int poll_used(struct tcp_port *port)
{
	/* As many as were hot before: what has just been done needs no epoll_wait behind it. */
	int hot = port->hot_count > 0, direct = port->hot_count <= FEW, did = 0, more;
	struct snti_link *link = port->hot.next, *next;

	/* A conn leaves the list when its last xfer is done. */
	for (; link != &port->hot; link = next) {
		next = link->next;
		did += poll_conn(snti_container(link, struct tcp_conn, hot), direct);
	}
	if (direct && hot && !port->setting_up && ++port->turn % (did ? EPOLL_BUSY : EPOLL_EVERY))
		return did;
	more = poll_events(port);
	if (more < 0)
		return more;
	return did + more + look_around(port) + housekeeping(port);
}

/* Beside a transport that reaches all peers a port stays unused, and must not hold up what is awaited there: a system
 * call takes as long as a message over shared memory between distant cores. */
static inline int is_resting(struct tcp_port *port)
{
	return snti_list_empty(&port->conns) && !port->guest_count && !port->armed;
}

static __attribute__((noinline)) int poll_now_and_then(struct tcp_port *port)
{
	uint64_t now = snti_now_ns();

	if (now - port->looked < LOOK_NS)
		return 0;
	port->looked = now;
	return poll_used(port);
}

static int tcp_poll(struct snti_port *base)
{
	struct tcp_port *port = (struct tcp_port *)base;

	if (is_resting(port))
		return ++port->turn % POLLS_PER_CLOCK ? 0 : poll_now_and_then(port);
	port->armed = 0;
	return poll_used(port);
}

static int tcp_arm(struct snti_port *base)
{
	struct tcp_port *port = (struct tcp_port *)base;

	port->awake = 0;
	port->armed = 1;
	snti_list_each(link, &port->conns) {
		struct tcp_conn *conn = snti_container(link, struct tcp_conn, link);

		for (unsigned i = 0; i < conn->socket_count; i++) {
			struct tcp_socket *socket = &conn->sockets[i];

			if (socket->phase == TCP_READY &&
			    tcp_interest(socket, EPOLLIN | (tcp_has_output(conn, socket) ? EPOLLOUT : 0)))
				return SNTI_AGAIN;
		}
	}
	return 0;
}

const struct snti_transport snti_tcp_transport = {
	.name = "tcp",
	.slice = (size_t)2 << 20,       /* system calls want to be long, and what both sides have on the way to stay in caches */
	.port_size = sizeof(struct tcp_port),
	.conn_size = sizeof(struct tcp_conn),
	.devices = tcp_devices,
	.open = tcp_open,
	.close = tcp_close,
	.poll = tcp_poll,
	.arm = tcp_arm,
	.address = tcp_address,
	.reaches = tcp_reaches,
	.connect = tcp_connect,
	.accept = tcp_accept,
	.hang_up = tcp_hang_up,
	.send = tcp_send,
	.recv = tcp_recv,
	.flush = tcp_flush,
};
