/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_output.c - sends: which frame each socket writes next, and writing it. */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/log.h"
#include "transport/tcp.h"

#define TOGETHER 4096             /* bytes of a body that are copied behind their frame */

_Static_assert(sizeof(struct tcp_frame) == 64, "the frame goes over the wire as it is");

/* The same swaps in both directions; nothing on little-endian machines. */
void tcp_swap_out(struct tcp_frame *frame)
{
	frame->messages = htole16(frame->messages);
	frame->bytes = htole32(frame->bytes);
	frame->lane = htole64(frame->lane);
	frame->fingerprint = htole64(frame->fingerprint);
	frame->size = htole64(frame->size);
	frame->number = htole64(frame->number);
	frame->offset = htole64(frame->offset);
}

int tcp_control(struct tcp_conn *conn, const struct tcp_frame *frame)
{
	if (conn->control_tail - conn->control_head == TCP_CONTROL)
		return tcp_nonsense(conn, "more announcements than allowed");
	conn->control[conn->control_tail++ % TCP_CONTROL] = *frame;
	return 0;
}

void tcp_give_credit(struct tcp_conn *conn, struct tcp_frame *frame)
{
	frame->messages = (uint16_t)conn->owed_messages;
	frame->bytes = (uint32_t)conn->owed_bytes;
	conn->owed_messages = conn->owed_bytes = 0;
}

/* Returning credit one by one would double the frames; the peer can go on without. */
static int owes_much(const struct tcp_conn *conn)
{
	return conn->owed_messages >= TCP_MESSAGES / 4 || (conn->owed_bytes && conn->owed_bytes > conn->eager / 2);
}

struct tcp_frame tcp_frame_of(const struct snti_xfer *xfer)
{
	return (struct tcp_frame){ .type = xfer->private ? TCP_EAGER : TCP_RTS, .lane = xfer->lane,
		.fingerprint = xfer->fingerprint, .size = xfer->size, .number = xfer->number, .offset = xfer->moved };
}

/* Before it is out: the answer may come as soon as the first byte is. */
static void announce(struct tcp_conn *conn, struct snti_xfer *xfer)
{
	snti_list_remove(&xfer->link);
	snti_list_append(&conn->announced, &xfer->link);
}

static int next_ordered(struct tcp_socket *socket)
{
	struct tcp_conn *conn = socket->conn;

	if (conn->control_head != conn->control_tail) {
		socket->out = conn->control[conn->control_head++ % TCP_CONTROL];
	} else if (conn->dying) {
		return 0;
	} else if (!snti_list_empty(&conn->queue)) {
		struct snti_xfer *xfer = snti_container(conn->queue.next, struct snti_xfer, link);

		socket->out = tcp_frame_of(xfer);
		socket->xfer = xfer;
		socket->body = xfer->data;
		socket->body_left = tcp_unasked(&socket->out);
		if (!xfer->private)
			announce(conn, xfer);
	} else if (owes_much(conn)) {
		socket->out = (struct tcp_frame){ .type = TCP_MATCHED };
	} else {
		return 0;
	}
	if (socket->out.type != TCP_GREET)
		tcp_give_credit(conn, &socket->out);
	return 1;
}

static int next_piece(struct tcp_socket *socket)
{
	struct tcp_conn *conn = socket->conn;

	if (snti_list_empty(&conn->cleared) || conn->dying)
		return 0;

	struct snti_xfer *xfer = snti_container(conn->cleared.next, struct snti_xfer, link);
	size_t piece = xfer->size - xfer->moved < conn->piece ? xfer->size - xfer->moved : conn->piece;

	socket->out = (struct tcp_frame){ .type = TCP_DATA, .size = piece, .number = xfer->number,
		.offset = xfer->moved };
	socket->xfer = xfer;
	socket->body = (const char *)xfer->data + xfer->moved;
	socket->body_left = piece;
	xfer->moved += piece;
	if (xfer->moved == xfer->size) {
		snti_list_remove(&xfer->link);
		snti_list_append(&conn->leaving, &xfer->link);
	}
	return 1;
}

static int next_frame(struct tcp_socket *socket)
{
	socket->xfer = NULL;
	socket->body_left = 0;
	if (socket->index == 0 && tcp_next_pack(socket))
		return 1;
	if (!(socket->index == 0 && next_ordered(socket)) && !next_piece(socket))
		return 0;
	tcp_swap_out(&socket->out);
	socket->head_left = sizeof socket->out;
	return 1;
}

void tcp_refused(struct tcp_conn *conn, struct snti_xfer *xfer, int status)
{
	if (conn->sockets[0].xfer == xfer)
		conn->refused = status;
	else
		tcp_finish(conn, xfer, status);
}

static void frame_is_out(struct tcp_socket *socket)
{
	struct tcp_conn *conn = socket->conn;
	struct snti_xfer *xfer = socket->xfer;
	int announcement = socket->out.type == TCP_RTS;

	socket->xfer = NULL;
	if (!xfer) {
		tcp_finish_all(conn, &conn->packed, 0);
		return;
	}
	if (socket->out.type == TCP_EAGER) {
		tcp_finish(conn, xfer, 0);
		return;
	}
	xfer->acked += le64toh(announcement ? socket->out.offset : socket->out.size);
	if (announcement && conn->refused) {
		tcp_finish(conn, xfer, conn->refused);
		conn->refused = 0;
	} else if (xfer->acked == xfer->size && xfer->size) {
		tcp_finish(conn, xfer, 0);
	}
}

/* What is left of the frame in one piece, for which the kernel prepares less than it takes to copy this. */
static ssize_t send_together(const struct tcp_socket *socket)
{
	char whole[sizeof(socket->out) + TOGETHER];

	memcpy(whole, (const char *)(&socket->out + 1) - socket->head_left, socket->head_left);
	memcpy(whole + socket->head_left, socket->body, socket->body_left);
	return send(socket->fd, whole, socket->head_left + socket->body_left, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t send_apart(const struct tcp_socket *socket)
{
	struct iovec parts[2];
	struct msghdr message = { .msg_iov = parts };

	if (!socket->head_left)
		return send(socket->fd, socket->body, socket->body_left, MSG_NOSIGNAL | MSG_DONTWAIT);
	parts[message.msg_iovlen++] = (struct iovec){ (char *)(&socket->out + 1) - socket->head_left, socket->head_left };
	if (socket->body_left)
		parts[message.msg_iovlen++] = (struct iovec){ (void *)(uintptr_t)socket->body, socket->body_left };
	return sendmsg(socket->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* An error stays with the socket: what the peer sent before is read first, and the end of that
 * says what happened. */
static int push(struct tcp_socket *socket)
{
	int together = socket->head_left && socket->body_left && socket->body_left <= TOGETHER;
	ssize_t wrote;

	do
		wrote = together ? send_together(socket) : send_apart(socket);
	while (wrote < 0 && errno == EINTR);
	if (wrote < 0) {
		if (errno != EAGAIN && errno != EWOULDBLOCK) {
			socket->mute = 1;
			socket->error = errno;
		}
		return 0;
	}

	size_t head = (size_t)wrote < socket->head_left ? (size_t)wrote : socket->head_left;

	socket->head_left -= head;
	if (socket->body_left) {
		socket->body += (size_t)wrote - head;
		socket->body_left -= (size_t)wrote - head;
	}
	return !socket->head_left && !socket->body_left;
}

int tcp_output(struct tcp_socket *socket)
{
	int frames = 0;

	while (socket->phase == TCP_READY && !socket->mute) {
		if (!socket->head_left && !socket->body_left) {
			if (!next_frame(socket))
				break;
			socket->conn->begun++;
		}
		if (!push(socket))
			break;
		socket->conn->begun--;
		frame_is_out(socket);
		frames++;
	}
	return frames;
}

/* As after most polls. */
static int is_quiet(const struct tcp_conn *conn)
{
	return !conn->begun && !conn->dying && conn->control_head == conn->control_tail && snti_list_empty(&conn->queue) &&
		snti_list_empty(&conn->cleared) && !owes_much(conn);
}

int tcp_kick(struct tcp_conn *conn)
{
	int frames = 0;

	if (is_quiet(conn))
		return 0;
	for (unsigned i = 0; i < conn->socket_count && !conn->over; i++)
		frames += tcp_output(&conn->sockets[i]);
	if (conn->dying && conn->base.status >= 0 && !tcp_has_output(conn, &conn->sockets[0]))
		tcp_fail(conn, conn->dying);
	return frames;
}

int tcp_has_output(const struct tcp_conn *conn, const struct tcp_socket *socket)
{
	if (socket->phase != TCP_READY || socket->mute || conn->over)
		return 0;
	if (socket->head_left || socket->body_left)
		return 1;
	if (socket->index == 0 && conn->control_head != conn->control_tail)
		return 1;
	return !conn->dying && (!snti_list_empty(&conn->cleared) ||
		(socket->index == 0 && (!snti_list_empty(&conn->queue) || owes_much(conn))));
}

/* Of a message that asks for leave, what goes along with the question: whole elements, and half of the credit
 * stays for small messages. */
static size_t first_bytes(const struct tcp_conn *conn, const struct snti_xfer *xfer)
{
	size_t size = conn->credit_bytes / 2 & ~(size_t)(TCP_FIRST_LEAST - 1);

	return size < xfer->size ? size : 0;
}

static int has_credit(const struct tcp_conn *conn, size_t size)
{
	return size <= conn->credit_bytes && conn->credit_messages;
}

/* Credit may have come back unread: who only sends is done at once each time and polls nothing. */
static void look_for_credit(struct tcp_conn *conn, size_t size)
{
	if (!has_credit(conn, size) && size <= conn->most_bytes && conn->sockets[0].phase == TCP_READY)
		tcp_input(&conn->sockets[0]);
}

int tcp_send(struct snti_conn *base, struct snti_xfer *xfer)
{
	struct tcp_conn *conn = (struct tcp_conn *)base;

	if (base->status == SNT_BUSY)
		return SNTI_AGAIN;
	if (conn->over && !base->status)
		tcp_fail(conn, snti_fail(SNT_EPEER, "tcp: rank %d has hung up", base->peer));
	if (base->status)
		return base->status;

	look_for_credit(conn, xfer->size);
	if (base->status || conn->over)
		return base->status ? base->status : SNTI_AGAIN;

	int eager = has_credit(conn, xfer->size);
	size_t at_once = eager ? xfer->size : first_bytes(conn, xfer);

	if (!eager && conn->announcing == TCP_MESSAGES)
		return SNTI_AGAIN;
	xfer->private = eager ? conn : NULL;
	xfer->number = conn->next_number++;
	conn->credit_bytes -= at_once;
	conn->credit_messages -= (size_t)eager;
	conn->announcing += !eager;
	tcp_take(conn, xfer, &conn->queue);
	xfer->moved = eager ? 0 : at_once;
	tcp_send_soon(conn, xfer);
	return 0;
}

int tcp_flush(struct snti_conn *base)
{
	struct tcp_conn *conn = (struct tcp_conn *)base;

	if (base->status)
		return base->status == SNT_BUSY ? 0 : base->status;
	tcp_kick(conn);
	for (unsigned i = 0; i < conn->socket_count; i++)
		if (tcp_has_output(conn, &conn->sockets[i]))
			return SNT_BUSY;
	return 0;
}
