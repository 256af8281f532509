/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_connect.c - how the sockets of a conn come up, on both sides, each proved before it counts. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE                /* accept4 */
#endif
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"
#include "transport/socket.h"
#include "transport/tcp.h"

#define GUEST_MS 2000             /* how long a stranger may take to prove itself */
#define PROVING_MS 10000          /* ... once it has named this port's ticket: its own host may be busy */
#define YOUNG_NS 50000000ULL      /* ... even when others wait: else a crowd would push out whoever is about to */
#define ATTEMPT_MS 5000           /* for one address, before the next is tried */
#define RETRY_MS 20               /* a listener may drop strangers when too many come at once */
#define RETRY_MOST_MS 500
#define PATIENCE_MS 2000          /* a route may come back; a listener was there before its address was told */

int tcp_interest(struct tcp_socket *socket, uint32_t events)
{
	struct tcp_port *port = tcp_port_of(socket->conn);
	struct epoll_event event = { .events = events, .data.ptr = &socket->source };
	int how = !events ? EPOLL_CTL_DEL : socket->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (events == socket->interest)
		return 0;
	if (epoll_ctl(port->epoll, how, socket->fd, &event))
		return -1;
	socket->interest = events;
	return 0;
}

/* Both, as a socket of version 6 carries version 4 as well. */
static void mark(int fd, int class)
{
	setsockopt(fd, IPPROTO_IP, IP_TOS, &class, sizeof class);
	setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &class, sizeof class);
}

static void tune(const struct tcp_port *port, int fd)
{
	int on = 1, timeout = port->timeout_ms < INT_MAX ? (int)port->timeout_ms : INT_MAX;
	int probe_s = timeout / 3000 ? timeout / 3000 : 1;

	/* All of them only make it faster or noticed sooner, but not sooner than the team itself gives up; probes, as
	 * who only receives sends nothing that could stay unanswered. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &probe_s, sizeof probe_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe_s, sizeof probe_s);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	if (port->traffic_class)
		mark(fd, port->traffic_class);
}

static int listen_on(struct tcp_port *port, const void *address, socklen_t size)
{
	struct sockaddr_storage bound;
	socklen_t bound_size = sizeof bound;
	int off = 0, family = ((const struct sockaddr *)address)->sa_family;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (bind(fd, address, size) || listen(fd, 1024) || getsockname(fd, (struct sockaddr *)&bound, &bound_size)) {
		close(fd);
		return -1;
	}
	port->number = ntohs(((struct sockaddr_in *)(void *)&bound)->sin_port);
	port->listen_fd = fd;
	return 0;
}

int tcp_listen(struct tcp_port *port)
{
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in any4 = { .sin_family = AF_INET };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &port->listener };

	if (port->local_only)
		any4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if ((port->local_only || listen_on(port, &any6, sizeof any6)) && listen_on(port, &any4, sizeof any4))
		return snti_fail(errno == EMFILE || errno == ENFILE ? SNT_ELIMIT : SNT_EDEVICE, "tcp: cannot listen: %m");
	if (epoll_ctl(port->epoll, EPOLL_CTL_ADD, port->listen_fd, &event))
		return snti_fail(SNT_EDEVICE, "tcp: cannot watch the listener: %m");
	return 0;
}

/* ---- the side that connects --------------------------------------------- */

static void close_socket(struct tcp_socket *socket)
{
	if (socket->fd < 0)
		return;
	tcp_interest(socket, 0);
	close(socket->fd);
	socket->fd = -1;
}

static void try_later(struct tcp_socket *socket, int cause)
{
	close_socket(socket);
	socket->phase = TCP_WAITING;
	socket->cause = cause;
	socket->deadline = snti_deadline_ms(RETRY_MS);
}

/* Whether @error may pass, and the time for that has not. */
static int try_round(struct tcp_socket *socket, int error)
{
	if (error == EMFILE || error == ENFILE || error == ENOMEM)
		return 0;
	if (!socket->pause_ms) {
		socket->pause_ms = RETRY_MS;
		socket->give_up = snti_deadline_ms(PATIENCE_MS);
	}
	if (snti_is_past(socket->give_up))
		return 0;
	try_later(socket, error);
	socket->deadline = snti_deadline_ms(socket->pause_ms);
	socket->pause_ms = socket->pause_ms * 2 < RETRY_MOST_MS ? socket->pause_ms * 2 : RETRY_MOST_MS;
	socket->refused = 0;
	return 1;
}

static int dial(struct tcp_socket *socket);

/* This address did not work: the next one, and after a pause all again, until that seems vain. */
static void next_address(struct tcp_socket *socket, int error)
{
	struct tcp_conn *conn = socket->conn;
	int count = tcp_address_count(&conn->theirs);

	close_socket(socket);
	while (++socket->refused < count) {
		socket->address = (socket->address + 1) % count;
		if (!dial(socket))
			return;
		error = errno;
	}
	if (try_round(socket, error))
		return;
	tcp_fail(conn, snti_fail(error == EMFILE || error == ENFILE ? SNT_ELIMIT : SNT_EPEER,
				 "tcp: cannot connect to rank %d: %s", conn->base.peer, strerror(error)));
}

/* -1: not even begun, errno says why. */
static int dial(struct tcp_socket *s)
{
	struct sockaddr_storage at;
	socklen_t size = tcp_address_at(&s->conn->theirs, s->address, &at);
	int saved;

	s->fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return -1;
	tune(tcp_port_of(s->conn), s->fd);
	if ((!connect(s->fd, (struct sockaddr *)&at, size) || errno == EINPROGRESS || errno == EINTR) &&
	    !tcp_interest(s, EPOLLOUT)) {
		s->phase = TCP_DIALING;
		s->deadline = snti_deadline_ms(ATTEMPT_MS);
		return 0;
	}
	saved = errno;
	close_socket(s);
	errno = saved;
	return -1;
}

static int say(int fd, const void *bytes, size_t size)
{
	/* A few bytes into an empty socket are always taken whole. */
	return send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size ? 0 : -1;
}

/* Which socket of how many; and the class, where it is this connection's and not all the process's. */
static uint32_t hello_number(const struct tcp_socket *socket)
{
	const struct tcp_port *port = tcp_port_of(socket->conn);
	uint32_t number = socket->index | socket->conn->socket_count << 16;

	return port->is_marked ? number | (uint32_t)port->traffic_class << 8 | TCP_MARKED : number;
}

static void say_hello(struct tcp_socket *socket)
{
	struct tcp_conn *conn = socket->conn;
	struct snti_want want = { .kind = 2, .number = hello_number(socket),
		.ident = conn->base.ident, .ticket = tcp_address_ticket(&conn->theirs) };
	unsigned char hello[SNTI_HELLO_BYTES];
	int error = 0, status;
	socklen_t size = sizeof error;

	getsockopt(socket->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error) {
		next_address(socket, error);
		return;
	}
	status = snti_hello_write(&socket->handshake, tcp_port_of(conn)->secret, &want, hello);
	if (status) {
		tcp_fail(conn, status);
		return;
	}
	socket->phase = TCP_PROVING;
	if (say(socket->fd, hello, sizeof hello))
		try_later(socket, errno);
	else
		tcp_interest(socket, EPOLLIN);
}

static int stays_on_host(int fd)
{
	struct sockaddr_storage ours, theirs;
	struct snti_socket_address mine, peer;
	socklen_t size = sizeof ours, peer_size = sizeof theirs;

	if (getsockname(fd, (struct sockaddr *)&ours, &size) || getpeername(fd, (struct sockaddr *)&theirs, &peer_size) ||
	    snti_address_from_system(&mine, (struct sockaddr *)&ours) ||
	    snti_address_from_system(&peer, (struct sockaddr *)&theirs))
		return 0;
	peer.port = mine.port;
	return snti_address_equal(&mine, &peer);
}

/* Within the host there is no link to be fair to, and BBR, where it is the system's choice, would pace what is sent:
 * long messages then take twice as long. */
static void send_unpaced(int fd)
{
	if (stays_on_host(fd))
		setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno"));
}

static void socket_ready(struct tcp_socket *socket)
{
	struct tcp_conn *conn = socket->conn;

	send_unpaced(socket->fd);
	socket->phase = TCP_READY;
	if (++conn->ready == conn->socket_count)
		(void)!tcp_conn_prepare(conn);
}

static void read_proof(struct tcp_socket *socket)
{
	struct tcp_conn *conn = socket->conn;
	unsigned char proof[SNTI_PROOF_BYTES], answer[SNTI_ANSWER_BYTES];
	ssize_t got = recv(socket->fd, proof, sizeof proof, MSG_DONTWAIT | MSG_PEEK);
	int status;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		try_later(socket, got ? errno : ECONNRESET);
		return;
	}
	if ((size_t)got < sizeof proof)
		return;         /* level-triggered: comes again when there is more */
	(void)!recv(socket->fd, proof, sizeof proof, MSG_DONTWAIT);
	status = snti_proof_read(&socket->handshake, proof);
	if (!status)
		status = snti_answer_write(&socket->handshake, answer);
	if (status)
		tcp_fail(conn, snti_fail(status, "tcp: rank %d did not prove that it knows the job's secret",
					 conn->base.peer));
	else if (say(socket->fd, answer, sizeof answer))
		try_later(socket, errno);
	else
		socket_ready(socket);
}

int tcp_setup(struct tcp_socket *socket)
{
	if (socket->phase == TCP_DIALING)
		say_hello(socket);
	else if (socket->phase == TCP_PROVING)
		read_proof(socket);
	return 1;
}

int tcp_connect(struct snti_conn *base, const struct snti_address *theirs)
{
	struct tcp_conn *conn = (struct tcp_conn *)base;

	tcp_conn_init(conn);
	if (tcp_reaches(base->port, theirs)) {
		tcp_fail(conn, snti_fail(SNT_EUNREACHABLE, "tcp: the address of rank %d makes no sense", base->peer));
		return base->status;
	}
	conn->theirs = *theirs;
	conn->socket_count = tcp_port_of(conn)->narrow ? 1 : tcp_port_of(conn)->sockets;
	for (unsigned i = 0; i < conn->socket_count && base->status == SNT_BUSY; i++)
		if (dial(&conn->sockets[i]))
			next_address(&conn->sockets[i], errno);
	return base->status == SNT_BUSY ? 0 : base->status;
}

/* ---- the side that accepts ---------------------------------------------- */

static struct tcp_conn *find_accepting(struct tcp_port *port, uint64_t ident)
{
	snti_list_each(link, &port->conns) {
		struct tcp_conn *conn = snti_container(link, struct tcp_conn, link);

		if (conn->accepting && conn->base.status == SNT_BUSY && conn->base.ident == ident)
			return conn;
	}
	return NULL;
}

/* An authenticated socket for @conn. Who accepts may know of no class of its own: then acknowledgements and credit are
 * marked as the data is. */
static void adopt(struct tcp_conn *conn, int fd, uint32_t number)
{
	unsigned index = number & 0xff, count = number >> 16 & 0xff;
	struct tcp_socket *socket = &conn->sockets[index < TCP_SOCKETS ? index : 0];

	if (count < 1 || count > TCP_SOCKETS || index >= count || socket->fd >= 0 ||
	    (conn->socket_count && conn->socket_count != count)) {
		snti_log(SNT_LOG_WARN, "tcp: dropped a socket of rank %d that does not fit", conn->base.peer);
		close(fd);
		return;
	}
	conn->socket_count = count;
	socket->fd = fd;
	conn->is_marked = (number & TCP_MARKED) != 0;
	conn->traffic_class = (uint8_t)(number >> 8);
	if (conn->is_marked && !tcp_port_of(conn)->is_marked)
		mark(fd, conn->traffic_class);
	if (tcp_interest(socket, EPOLLIN))
		tcp_fail(conn, snti_fail(SNT_EDEVICE, "tcp: cannot watch a socket of rank %d: %m", conn->base.peer));
	else
		socket_ready(socket);
}

static void park(struct tcp_port *port, int fd, const struct snti_want *want)
{
	if (port->parked_count == TCP_PARKED) {
		snti_log(SNT_LOG_WARN, "tcp: dropped a connection, too many wait to be accepted");
		close(fd);
		return;
	}
	port->parked[port->parked_count++] = (struct tcp_parked){ fd, want->number, want->ident };
}

int tcp_accept(struct snti_conn *base, const struct snti_address *mine)
{
	struct tcp_conn *conn = (struct tcp_conn *)base;
	struct tcp_port *port = tcp_port_of(conn);
	size_t kept = 0;

	tcp_conn_init(conn);
	if (tcp_reaches(base->port, mine) || tcp_address_ticket(mine) != port->ticket) {
		tcp_fail(conn, snti_fail(SNT_EINVAL, "tcp: not an address of this port"));
		return base->status;
	}
	conn->accepting = 1;
	for (size_t i = 0; i < port->parked_count; i++) {
		struct tcp_parked parked = port->parked[i];

		if (parked.ident == base->ident && base->status == SNT_BUSY)
			adopt(conn, parked.fd, parked.number);
		else
			port->parked[kept++] = parked;
	}
	port->parked_count = kept;
	return base->status < 0 ? base->status : 0;
}

/* While it is full, strangers wait in the kernel's queue. */
static void watch_listener(struct tcp_port *port, int on)
{
	struct epoll_event event = { .events = on ? EPOLLIN : 0, .data.ptr = &port->listener };

	if (port->is_full == !on)
		return;
	port->is_full = !on;
	epoll_ctl(port->epoll, EPOLL_CTL_MOD, port->listen_fd, &event);
}

static void drop_guest(struct tcp_port *port, struct tcp_guest *guest, const char *why)
{
	char more[SNTI_LOG_MORE];

	if (guest->fd < 0)
		return;
	if (why && snti_log_may(&port->log, more))
		snti_log(SNT_LOG_WARN, "tcp: closed an incoming connection: %s%s", why, more);
	close(guest->fd);
	guest->fd = -1;
	port->guest_count--;
	watch_listener(port, 1);
}

void tcp_drop_guests(struct tcp_port *port)
{
	for (int i = 0; i < TCP_GUESTS; i++)
		drop_guest(port, &port->guests[i], NULL);
	while (port->parked_count)
		close(port->parked[--port->parked_count].fd);
}

/* A free place, that of the oldest guest if it has had its chance, or NULL. */
static struct tcp_guest *guest_place(struct tcp_port *port)
{
	struct tcp_guest *oldest = &port->guests[0];

	for (int i = 0; i < TCP_GUESTS; i++) {
		if (port->guests[i].fd < 0)
			return &port->guests[i];
		if (port->guests[i].since < oldest->since)
			oldest = &port->guests[i];
	}
	if (snti_now_ns() - oldest->since < YOUNG_NS)
		return NULL;
	drop_guest(port, oldest, "too many strangers at once");
	return oldest;
}

int tcp_welcome(struct tcp_port *port)
{
	int came = 0;

	for (; came < TCP_GUESTS; came++) {
		struct tcp_guest *guest = guest_place(port);
		struct epoll_event event = { .events = EPOLLIN };
		int fd;

		if (!guest) {
			watch_listener(port, 0);
			break;
		}
		fd = accept4(port->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			break;
		tune(port, fd);
		event.data.ptr = &guest->source;
		if (epoll_ctl(port->epoll, EPOLL_CTL_ADD, fd, &event)) {
			close(fd);
			break;
		}
		*guest = (struct tcp_guest){ .source = { TCP_GUEST }, .fd = fd, .since = snti_now_ns(),
			.deadline = snti_deadline_ms(GUEST_MS) };
		port->guest_count++;
	}
	return came;
}

static void answer_hello(struct tcp_port *port, struct tcp_guest *guest)
{
	unsigned char proof[SNTI_PROOF_BYTES];
	const struct snti_want *want = &guest->handshake.want;

	if (snti_hello_read(&guest->handshake, port->secret, guest->bytes))
		drop_guest(port, guest, "it does not speak sennit");
	else if (want->kind != 2 || want->ticket != port->ticket)
		drop_guest(port, guest, "it wants another service");
	else if (snti_proof_write(&guest->handshake, proof) || say(guest->fd, proof, sizeof proof))
		drop_guest(port, guest, "it does not listen");
	guest->proving = 1;
	guest->have = 0;
	guest->deadline = snti_deadline_ms(PROVING_MS);
}

static void let_in(struct tcp_port *port, struct tcp_guest *guest)
{
	struct snti_want want = guest->handshake.want;
	struct tcp_conn *conn = find_accepting(port, want.ident);
	int fd = guest->fd;

	if (snti_answer_read(&guest->handshake, guest->bytes)) {
		drop_guest(port, guest, "it does not know the job's secret");
		return;
	}
	guest->fd = -1;
	port->guest_count--;
	watch_listener(port, 1);
	epoll_ctl(port->epoll, EPOLL_CTL_DEL, fd, NULL);
	if (conn)
		adopt(conn, fd, want.number);
	else
		park(port, fd, &want);
}

int tcp_guest_read(struct tcp_port *port, struct tcp_guest *guest)
{
	size_t need = guest->proving ? SNTI_ANSWER_BYTES : SNTI_HELLO_BYTES;
	ssize_t got;

	if (guest->fd < 0)
		return 0;
	got = recv(guest->fd, guest->bytes + guest->have, need - guest->have, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0) {
		drop_guest(port, guest, "it left before it proved the job's secret");
		return 1;
	}
	guest->have += (size_t)got;
	if (guest->have < need)
		return 1;
	if (guest->proving)
		let_in(port, guest);
	else
		answer_hello(port, guest);
	return 1;
}

/* ---- deadlines ---------------------------------------------------------- */

/* Why the sockets that are not up are not up. */
static const char *last_cause(const struct tcp_conn *conn)
{
	for (unsigned i = 0; i < conn->socket_count; i++)
		if (conn->sockets[i].phase != TCP_READY && conn->sockets[i].cause)
			return strerror(conn->sockets[i].cause);
	return conn->accepting ? "it did not call" : "it did not answer";
}

static void tick_conn(struct tcp_conn *conn)
{
	if (conn->base.status != SNT_BUSY)
		return;
	if (snti_is_past(conn->deadline)) {
		tcp_fail(conn, snti_fail(SNT_ETIMEOUT, "tcp: no connection %s rank %d in time: %s",
					 conn->accepting ? "from" : "to", conn->base.peer, last_cause(conn)));
		return;
	}
	for (unsigned i = 0; i < conn->socket_count && conn->base.status == SNT_BUSY; i++) {
		struct tcp_socket *socket = &conn->sockets[i];

		if (socket->phase == TCP_DIALING && snti_is_past(socket->deadline))
			next_address(socket, ETIMEDOUT);
		else if (socket->phase == TCP_WAITING && snti_is_past(socket->deadline) && dial(socket))
			next_address(socket, errno);
	}
}

void tcp_tick(struct tcp_port *port)
{
	for (int i = 0; port->guest_count && i < TCP_GUESTS; i++)
		if (port->guests[i].fd >= 0 && snti_is_past(port->guests[i].deadline))
			drop_guest(port, &port->guests[i], "it took too long to prove the job's secret");
	if (port->is_full)
		watch_listener(port, 1);
	if (!port->setting_up)
		return;
	snti_list_each(link, &port->conns)
		tick_conn(snti_container(link, struct tcp_conn, link));
}
