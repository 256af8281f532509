/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_frames.c - fuzzes a tcp conn with a peer that proved the secret and then sends whatever it likes.
 *
 * The input is a script: frames whose fields come from small sets, so that they meet receives, raw bytes,
 * receives, sends and polls. At the end the peer is gone, and nothing may still be waiting for it.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/tcp.h"

#define XFERS 12
#define SOCKETS 2

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const size_t sizes[] = { 0, 8, 24, 256, 264, 4096, 5000, 70000 };
static struct snti_port *port;
static const char payload[70000];
static size_t owed[SOCKETS];            /* the rest of a payload, which goes before what comes next */

struct script { const uint8_t *at; size_t left; };

static unsigned next(struct script *script)
{
	if (!script->left)
		return 0;
	script->left--;
	return *script->at++;
}

static void add(void *dst, const void *left, const void *right, size_t count)
{
	for (size_t i = 0; i < 8 * count; i++)
		((char *)dst)[i] = (char)(((const char *)left)[i] ^ ((const char *)right)[i]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const unsigned char secret[SNTI_SECRET_BYTES] = { 1 };
	const struct snti_port_options options = { .secret = secret, .local_only = 1 };

	(void)argc, (void)argv;
	setenv("SNT_TCP_EAGER", "8K", 1);
	setenv("SNT_TCP_PIECE", "4K", 1);
	if (snti_port_open(&snti_tcp_transport, &options, &port) != 0)
		abort();
	return 0;
}

static struct tcp_conn *open_conn(int *peers)
{
	struct tcp_conn *conn = aligned_alloc(128, (sizeof(*conn) + 127) & ~(size_t)127);
	int fds[2];

	if (!conn)
		abort();
	memset(conn, 0, sizeof(*conn));
	conn->base = (struct snti_conn){ .ops = port->ops, .port = port, .peer = 1, .status = SNT_BUSY };
	tcp_conn_init(conn);
	conn->socket_count = conn->ready = SOCKETS;
	for (int i = 0; i < SOCKETS; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0)
			abort();
		peers[i] = fds[1];
		conn->sockets[i].fd = fds[0];
		conn->sockets[i].phase = TCP_READY;
		if (tcp_interest(&conn->sockets[i], EPOLLIN) != 0)
			abort();
	}
	if (tcp_conn_prepare(conn) != 0)
		abort();
	return conn;
}

static void say(int fd, const void *bytes, size_t size)
{
	(void)!send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say_frame(struct script *script, int fd, size_t *rest)
{
	unsigned kind = next(script), where = next(script), more = next(script), odd = next(script);
	size_t size = sizes[where % 8];
	struct tcp_frame frame = { .type = (uint8_t)(kind % 16 < 9 ? kind % 16 : TCP_DATA), .lane = htole64(where >> 3 & 3),
		.fingerprint = htole64(where >> 7), .size = htole64(size), .number = htole64(more & 7),
		.offset = htole64(sizes[more >> 3 & 7]), .messages = htole16(more >> 6) };

	if (odd & 1)
		((unsigned char *)&frame)[next(script) % sizeof(frame)] = (unsigned char)next(script);
	say(fd, &frame, sizeof(frame));
	if (frame.type == TCP_EAGER || frame.type == TCP_DATA) {
		size_t now = odd & 2 ? size * (odd >> 3) / 32 : size;

		say(fd, payload, now);
		*rest = odd & 4 ? 0 : size - now;
	}
}

static void say_raw(struct script *script, int fd)
{
	size_t size = next(script) % 64;

	if (size > script->left)
		size = script->left;
	say(fd, script->at, size);
	script->at += size;
	script->left -= size;
}

static void start(struct script *script, struct tcp_conn *conn, struct snti_xfer *xfer, int send)
{
	unsigned where = next(script), how = next(script);

	if (xfer->status == SNT_BUSY)
		return;
	free(xfer->data);
	*xfer = (struct snti_xfer){ .size = sizes[where % 8], .lane = where >> 3 & 3, .fingerprint = where >> 7, .width = 8,
		.fold = how & 1 && !send ? add : NULL, .arriving_left = how >> 1 & 1 };
	xfer->operand = xfer->data = calloc(1, xfer->size ? xfer->size : 1);
	if (!xfer->data)
		abort();
	if (send)
		(void)!snti_send(&conn->base, xfer);
	else
		(void)!snti_recv(&conn->base, xfer);
}

static void listen_a_while(int *peers)
{
	char waste[8192];

	for (int i = 0; i < SOCKETS; i++)
		for (int n = 0; n < 64 && recv(peers[i], waste, sizeof(waste), MSG_DONTWAIT) > 0; n++)
			;
}

static void check(const struct tcp_conn *conn, const struct snti_xfer *xfers)
{
	size_t busy = 0;

	for (int i = 0; i < XFERS; i++)
		busy += xfers[i].status == SNT_BUSY;
	if (busy != conn->waiting || (conn->base.status < 0 && busy))
		abort();
}

static void step(struct script *script, struct tcp_conn *conn, struct snti_xfer *xfers, int *peers)
{
	unsigned op = next(script);
	int peer = peers[op >> 7];

	if ((op & 7) < 4) {
		say(peer, payload, owed[op >> 7]);
		owed[op >> 7] = 0;
	}
	switch (op & 7) {
	case 0: case 1: case 2: say_frame(script, peer, &owed[op >> 7]); break;
	case 3: say_raw(script, peer); break;
	case 4: case 5: start(script, conn, &xfers[(op >> 3) % XFERS], 0); break;
	case 6: start(script, conn, &xfers[(op >> 3) % XFERS], 1); break;
	default:
		if (op & 8)
			listen_a_while(peers);
		if (port->ops->poll(port) < 0)
			abort();
	}
	check(conn, xfers);
}

/* Without the port's close: sockets that linger would pile up. */
static void end(struct tcp_conn *conn, struct snti_xfer *xfers)
{
	struct tcp_port *p = tcp_port_of(conn);

	for (int i = 0; i < 64; i++)
		if (port->ops->poll(port) < 0)
			abort();
	check(conn, xfers);
	if (conn->base.status >= 0 && !conn->over)
		abort();
	tcp_hang_up(&conn->base);
	tcp_linger(p, 0);
	check(conn, xfers);
	if (p->hot_count || p->setting_up || p->linger_count || !snti_list_empty(&p->conns))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script script = { data, size };
	struct snti_xfer xfers[XFERS] = { { .data = NULL } };
	struct tcp_frame greeting = { .type = TCP_GREET, .size = htole64(4096), .number = htole64(4) };
	int peers[SOCKETS];
	struct tcp_conn *conn = open_conn(peers);
	unsigned flags = next(&script);

	memset(owed, 0, sizeof(owed));
	if (!(flags & 1)) {
		say(peers[0], &greeting, sizeof(greeting));
		if (port->ops->poll(port) < 0 || conn->base.status != 0)
			abort();
	}
	for (int i = 0; i < 200 && script.left; i++)
		step(&script, conn, xfers, peers);
	if (flags & 2)
		listen_a_while(peers);
	for (int i = 0; i < SOCKETS; i++)
		close(peers[i]);
	end(conn, xfers);
	for (int i = 0; i < XFERS; i++)
		free(xfers[i].data);
	free(conn);
	return 0;
}
