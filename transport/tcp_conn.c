/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_conn.c - a conn's life: its memory, its busy xfers, how it fails and how it ends. */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"
#include "transport/tcp.h"

static void init_lists(struct tcp_conn *conn)
{
	struct snti_link *lists[] = { &conn->link, &conn->hot, &conn->queue, &conn->packed, &conn->announced, &conn->cleared,
		&conn->leaving, &conn->matched, &conn->spare };

	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		snti_list_init(lists[i]);
	for (int i = 0; i < TCP_BUCKETS; i++) {
		snti_list_init(&conn->posted[i]);
		snti_list_init(&conn->unmatched[i]);
	}
}

void tcp_conn_init(struct tcp_conn *conn)
{
	struct tcp_port *port = tcp_port_of(conn);

	init_lists(conn);
	for (unsigned i = 0; i < TCP_SOCKETS; i++)
		conn->sockets[i] = (struct tcp_socket){ .source = { TCP_SOCKET }, .conn = conn, .fd = -1, .index = i };
	conn->eager = port->narrow ? TCP_NARROW_EAGER : port->eager;
	conn->piece = snti_settings()->tcp_piece & ~(size_t)63;
	conn->deadline = snti_deadline_ms(snti_settings()->startup_ms);
	conn->base.status = SNT_BUSY;
	snti_list_append(&port->conns, &conn->link);
	port->conn_count++;
	port->setting_up++;
}

static size_t part(size_t *total, size_t size)
{
	size_t at = *total;

	*total += (size + 63) & ~(size_t)63;
	return at;
}

/* All that the conn will ever need, in one block. Most of it is never touched, so that the kernel never provides it. */
static int get_memory(struct tcp_conn *conn)
{
	size_t chunks = conn->eager / TCP_CHUNK + TCP_MESSAGES, total = 0;
	size_t inputs = part(&total, (size_t)TCP_INPUT * conn->socket_count);
	size_t arena = part(&total, chunks * TCP_CHUNK);
	size_t nexts = part(&total, chunks * sizeof *conn->next_chunk);
	size_t entries = part(&total, 2 * TCP_MESSAGES * sizeof *conn->entries);
	size_t control = part(&total, TCP_CONTROL * sizeof *conn->control);

	conn->memory = aligned_alloc(64, total);
	if (!conn->memory)
		return snti_fail(SNT_ENOMEM, "tcp: no memory for the connection to rank %d", conn->base.peer);
	for (unsigned i = 0; i < conn->socket_count; i++)
		conn->sockets[i].in = conn->memory + inputs + (size_t)TCP_INPUT * i;
	conn->chunks = conn->memory + arena;
	conn->next_chunk = (uint32_t *)(void *)(conn->memory + nexts);
	conn->entries = (struct tcp_entry *)(void *)(conn->memory + entries);
	conn->control = (struct tcp_frame *)(void *)(conn->memory + control);
	conn->chunk_count = (uint32_t)chunks;
	conn->free_chunk = TCP_NONE;
	for (int i = 0; i < 2 * TCP_MESSAGES; i++)
		snti_list_append(&conn->spare, &conn->entries[i].link);
	return 0;
}

int tcp_conn_prepare(struct tcp_conn *conn)
{
	struct tcp_frame greeting = { .type = TCP_GREET, .size = conn->eager, .number = TCP_MESSAGES };
	int status = get_memory(conn);

	if (status) {
		tcp_fail(conn, status);
		return status;
	}
	tcp_log_path(conn);
	status = tcp_control(conn, &greeting);
	if (!status)
		tcp_output(&conn->sockets[0]);
	return status;
}

void tcp_take(struct tcp_conn *conn, struct snti_xfer *xfer, struct snti_link *list)
{
	struct tcp_port *port = tcp_port_of(conn);

	xfer->status = SNT_BUSY;
	xfer->moved = xfer->acked = 0;
	snti_list_append(list, &xfer->link);
	if (conn->waiting++ == 0) {
		snti_list_append(&port->hot, &conn->hot);
		port->hot_count++;
	}
}

void tcp_finish(struct tcp_conn *conn, struct snti_xfer *xfer, int status)
{
	snti_list_remove(&xfer->link);
	xfer->status = status;
	if (--conn->waiting == 0) {
		snti_list_remove(&conn->hot);
		tcp_port_of(conn)->hot_count--;
	}
}

void tcp_finish_all(struct tcp_conn *conn, struct snti_link *list, int status)
{
	while (!snti_list_empty(list))
		tcp_finish(conn, snti_container(list->next, struct snti_xfer, link), status);
}

static void finish_everything(struct tcp_conn *conn, int status)
{
	tcp_finish_all(conn, &conn->queue, status);
	tcp_finish_all(conn, &conn->packed, status);
	tcp_finish_all(conn, &conn->announced, status);
	tcp_finish_all(conn, &conn->cleared, status);
	tcp_finish_all(conn, &conn->leaving, status);
	tcp_finish_all(conn, &conn->matched, status);
	for (int i = 0; i < TCP_BUCKETS; i++)
		tcp_finish_all(conn, &conn->posted[i], status);
}

/* The sockets stay open until hang_up, so that what is on its way still arrives. */
void tcp_fail(struct tcp_conn *conn, int status)
{
	if (conn->base.status < 0)
		return;
	if (conn->base.status == SNT_BUSY)
		tcp_port_of(conn)->setting_up--;
	conn->base.status = status;
	finish_everything(conn, status);
	for (unsigned i = 0; i < TCP_SOCKETS; i++) {
		struct tcp_socket *socket = &conn->sockets[i];

		if (socket->fd < 0)
			continue;
		tcp_interest(socket, 0);
		shutdown(socket->fd, SHUT_WR);
		socket->phase = TCP_ENDED;
		socket->sink = socket->xfer = NULL;
		socket->store = NULL;
	}
	tcp_entry_drop_unfinished(conn);
}

int tcp_nonsense(struct tcp_conn *conn, const char *what)
{
	int status = SNT_EPROTOCOL;

	if (conn->base.status >= 0)
		tcp_fail(conn, snti_fail(status, "tcp: rank %d sent %s", conn->base.peer, what));
	return status;
}

/* The peer hung up and all it sent is here. Without anything pending that is no failure: whole messages
 * may still be received. */
void tcp_peer_over(struct tcp_conn *conn)
{
	if (conn->waiting || conn->base.status == SNT_BUSY) {
		tcp_fail(conn, snti_fail(SNT_EPEER, "tcp: rank %d has hung up", conn->base.peer));
		return;
	}
	conn->over = 1;
	tcp_entry_drop_unfinished(conn);
}

/* ---- the end ------------------------------------------------------------ */

/* Reads what nobody wants: closing with unread input would reset the connection and take away
 * what the peer has not read. 1: nothing more can come. */
static int drain(int fd)
{
	char waste[4096];
	ssize_t got;

	do
		got = recv(fd, waste, sizeof waste, MSG_DONTWAIT);
	while (got > 0 || (got < 0 && errno == EINTR));
	return got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

static int has_left(int fd)
{
	int unsent = 0;

	return ioctl(fd, SIOCOUTQ, &unsent) || unsent == 0;
}

static void sweep(struct tcp_port *port, int all)
{
	size_t kept = 0;

	for (size_t i = 0; i < port->linger_count; i++) {
		int fd = port->lingers[i];

		if (drain(fd) || (all && has_left(fd)))
			close(fd);
		else
			port->lingers[kept++] = fd;
	}
	port->linger_count = kept;
}

/* Sees to the sockets of conns that have hung up; waits (only at the port's close) until the peers' kernels
 * have everything, or for so long. */
void tcp_linger(struct tcp_port *port, int wait_ms)
{
	uint64_t deadline = snti_deadline_ms((uint64_t)wait_ms);
	struct timespec pause = { .tv_nsec = 20000 };   /* within a host it takes no longer than that */

	sweep(port, wait_ms != 0);
	if (!wait_ms)
		return;
	while (port->linger_count && !snti_is_past(deadline)) {
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < 1000000)
			pause.tv_nsec *= 2;
		sweep(port, 1);
	}
}

void tcp_linger_no_more(struct tcp_port *port)
{
	while (port->linger_count)
		close(port->lingers[--port->linger_count]);
}

static void let_go(struct tcp_port *port, int fd)
{
	shutdown(fd, SHUT_WR);
	if (drain(fd)) {
		close(fd);
		return;
	}
	if (port->linger_count == TCP_LINGERS) {
		close(port->lingers[0]);
		memmove(port->lingers, port->lingers + 1, sizeof port->lingers - sizeof port->lingers[0]);
		port->linger_count--;
	}
	port->lingers[port->linger_count++] = fd;
}

/* Only between frames: a frame that was cut off cannot be followed by anything. */
static void say_bye(struct tcp_socket *socket)
{
	struct tcp_frame bye = { .type = TCP_BYE };

	if (socket->phase == TCP_READY && !socket->head_left && !socket->body_left && !socket->mute)
		(void)!send(socket->fd, &bye, sizeof bye, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void hang_up_socket(struct tcp_port *port, struct tcp_socket *socket, int up)
{
	if (socket->fd < 0)
		return;
	if (up)
		say_bye(socket);
	tcp_interest(socket, 0);
	if (up)
		let_go(port, socket->fd);
	else
		close(socket->fd);
	socket->fd = -1;
	socket->phase = TCP_ABSENT;
}

void tcp_hang_up(struct snti_conn *base)
{
	struct tcp_conn *conn = (struct tcp_conn *)base;
	int up = base->status != SNT_BUSY;

	if (!conn->link.next)
		return;
	if (base->status == 0)
		tcp_kick(conn);
	finish_everything(conn, SNT_ECANCELED);
	for (unsigned i = 0; i < TCP_SOCKETS; i++)
		hang_up_socket(tcp_port_of(conn), &conn->sockets[i], up);
	if (base->status == SNT_BUSY)
		tcp_port_of(conn)->setting_up--;
	base->status = SNT_ECANCELED;
	snti_list_remove(&conn->link);
	tcp_port_of(conn)->conn_count--;
	free(conn->memory);
	conn->memory = NULL;
	conn->entries = NULL;
}
