/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_pack.c - small messages that follow each other closely leave in one system call.
 *
 * A system call takes ten times as long as copying such a message. A thread that sends again and again, each time sooner
 * than an answer can be here, is in a streak. What is not a conn's first message in it is held back while its owner, who
 * polls until it is done, sends more: until a poll finds nothing new since the last one.
 */
#include <string.h>

#include "base/clock.h"
#include "transport/tcp.h"

static __thread struct { uint64_t number, sent_at; } streak;

static void send_all(struct tcp_conn *conn)
{
	conn->held = conn->fresh = 0;
	tcp_output(&conn->sockets[0]);
	streak.sent_at = snti_now_ns();
}

static int is_streaming(struct tcp_conn *conn)
{
	uint64_t before = conn->streak, now = snti_now_ns();

	streak.number += now - streak.sent_at > TCP_PACK_NS;
	streak.sent_at = now;
	conn->streak = streak.number;
	return before == streak.number;
}

void tcp_send_soon(struct tcp_conn *conn, const struct snti_xfer *xfer)
{
	if (!xfer->polled || !xfer->private || xfer->size > TCP_PACKED)
		tcp_output(&conn->sockets[0]);
	else if (!is_streaming(conn) || conn->held + 1 == TCP_PACK_MOST)
		send_all(conn);
	else
		conn->held += conn->fresh = 1;
}

int tcp_still_holds(struct tcp_conn *conn)
{
	int fresh = conn->fresh;

	conn->fresh = 0;
	if (!fresh && conn->held)
		send_all(conn);
	return fresh;
}

static int is_packable(const struct tcp_conn *conn, const struct snti_link *link)
{
	const struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

	return link != &conn->queue && xfer->private && xfer->size <= TCP_PACKED;
}

static size_t pack_one(struct tcp_conn *conn, struct snti_xfer *xfer, char *at)
{
	struct tcp_frame frame = tcp_frame_of(xfer);

	tcp_give_credit(conn, &frame);
	tcp_swap_out(&frame);
	memcpy(at, &frame, sizeof(frame));
	memcpy(at + sizeof(frame), xfer->data, xfer->size);
	snti_list_remove(&xfer->link);
	snti_list_append(&conn->packed, &xfer->link);
	return sizeof(frame) + xfer->size;
}

int tcp_next_pack(struct tcp_socket *socket)
{
	struct tcp_conn *conn = socket->conn;
	const size_t most = sizeof(struct tcp_frame) + TCP_PACKED;
	size_t used = 0;

	if (conn->dying || conn->control_head != conn->control_tail)
		return 0;
	if (!is_packable(conn, conn->queue.next) || !is_packable(conn, conn->queue.next->next))
		return 0;
	while (is_packable(conn, conn->queue.next) && most <= sizeof(conn->pack) - used)
		used += pack_one(conn, snti_container(conn->queue.next, struct snti_xfer, link), conn->pack + used);
	socket->body = conn->pack;
	socket->body_left = used;
	return 1;
}
