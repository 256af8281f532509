/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_input.c - what arrives: frames checked, matched with receives, and landed. */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/log.h"
#include "transport/tcp.h"

#define READS_PER_POLL 16         /* one busy socket must not keep the others waiting */

/* The receiver has matched @frame with @xfer: 0, or what they disagree about, told to the peer. An eager
 * message was finished over there already, so that the whole conn has to fail. */
static int disagrees(struct tcp_conn *conn, const struct tcp_frame *frame, struct snti_xfer *xfer)
{
	int fits = snti_fits(xfer, frame->size);
	struct tcp_frame reject = { .type = TCP_REJECT, .lane = frame->lane, .number = frame->number,
		.size = xfer->size, .offset = frame->type == TCP_EAGER };

	if (fits && frame->fingerprint == xfer->fingerprint)
		return 0;
	if (!fits)
		snti_fail(SNT_EMISMATCH, "tcp: rank %d sends %llu bytes where this rank receives %zu",
			  conn->base.peer, (unsigned long long)frame->size, xfer->size);
	else
		snti_fail(SNT_EMISMATCH, "tcp: rank %d sends %llu bytes of another operation than this rank receives (%zu bytes)",
			  conn->base.peer, (unsigned long long)frame->size, xfer->size);
	tcp_finish(conn, xfer, SNT_EMISMATCH);
	if (frame->type == TCP_EAGER)
		conn->dying = SNT_EMISMATCH;
	if (conn->base.status >= 0)
		(void)!tcp_control(conn, &reject);
	return 1;
}

/* Asks for the rest of an announced message, even if that is nothing. */
static int clear(struct tcp_conn *conn, const struct tcp_frame *frame, struct snti_xfer *xfer)
{
	struct tcp_frame answer = { .type = TCP_CTS, .number = frame->number, .size = frame->size };

	xfer->number = frame->number;
	xfer->moved = frame->offset;
	snti_list_remove(&xfer->link);
	snti_list_append(&conn->matched, &xfer->link);
	conn->streaming++;
	return tcp_control(conn, &answer);
}

static struct snti_xfer *find_posted(struct tcp_conn *conn, uint64_t lane)
{
	struct snti_link *bucket = tcp_bucket(conn->posted, lane);

	snti_list_each(link, bucket) {
		struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

		if (xfer->lane == lane)
			return xfer;
	}
	return NULL;
}

static struct snti_xfer *find_number(struct snti_link *list, uint64_t number)
{
	snti_list_each(link, list) {
		struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

		if (xfer->number == number)
			return xfer;
	}
	return NULL;
}

/* ---- frames ------------------------------------------------------------- */

static int on_greet(struct tcp_conn *conn, const struct tcp_frame *frame)
{
	if (conn->base.status != SNT_BUSY)
		return tcp_nonsense(conn, "a second greeting");
	conn->credit_bytes = conn->most_bytes = frame->size;
	conn->credit_messages = conn->most_messages = frame->number;
	conn->base.status = 0;
	tcp_port_of(conn)->setting_up--;
	return 0;
}

static int on_credit(struct tcp_conn *conn, const struct tcp_frame *frame)
{
	conn->credit_bytes += frame->bytes;
	conn->credit_messages += frame->messages;
	if (conn->credit_bytes > conn->most_bytes || conn->credit_messages > conn->most_messages)
		return tcp_nonsense(conn, "more credit than it has");
	return 0;
}

/* @size bytes of a message from its beginning; the caller says where to, or they go nowhere. */
static void expect(struct tcp_socket *socket, size_t size)
{
	socket->left = size;
	socket->at = 0;
	socket->sink = NULL;
	socket->store = NULL;
}

/* Nobody waits for it yet. */
static int keep(struct tcp_socket *socket, const struct tcp_frame *frame)
{
	socket->store = tcp_entry_new(socket->conn, frame);
	return socket->store ? 0 : tcp_nonsense(socket->conn, "more messages than its credit");
}

static int on_eager(struct tcp_socket *socket, const struct tcp_frame *frame)
{
	struct tcp_conn *conn = socket->conn;
	struct snti_xfer *xfer = find_posted(conn, frame->lane);

	if (frame->size > conn->eager)
		return tcp_nonsense(conn, "a message larger than its credit");
	expect(socket, frame->size);
	if (!xfer)
		return keep(socket, frame);
	conn->owed_bytes += frame->size;
	conn->owed_messages++;
	if (disagrees(conn, frame, xfer))
		return 0;
	snti_list_remove(&xfer->link);
	snti_list_append(&conn->matched, &xfer->link);
	xfer->number = UINT64_MAX;      /* no announced one: never found for DATA */
	socket->sink = xfer;
	return 0;
}

static int on_announcement(struct tcp_socket *socket, const struct tcp_frame *frame)
{
	struct tcp_conn *conn = socket->conn;
	struct snti_xfer *xfer = find_posted(conn, frame->lane);

	if (frame->offset > conn->eager || (frame->offset && frame->offset >= frame->size) || frame->offset % TCP_FIRST_LEAST)
		return tcp_nonsense(conn, "an announcement with too much behind it");
	expect(socket, frame->offset);
	if (!xfer)
		return keep(socket, frame);
	conn->owed_bytes += frame->offset;
	if (disagrees(conn, frame, xfer))
		return 0;
	socket->sink = xfer;
	return clear(conn, frame, xfer);
}

static int is_refused(const struct tcp_conn *conn, const struct snti_xfer *xfer)
{
	return conn->refused && conn->sockets[0].xfer == xfer;
}

static int on_clear(struct tcp_conn *conn, const struct tcp_frame *frame)
{
	struct snti_xfer *xfer = find_number(&conn->announced, frame->number);

	if (!xfer || xfer->size != frame->size || is_refused(conn, xfer))
		return tcp_nonsense(conn, "a request for what was not announced");
	conn->announcing--;
	if (!xfer->size) {
		tcp_finish(conn, xfer, 0);
		return 0;
	}
	snti_list_remove(&xfer->link);
	snti_list_append(&conn->cleared, &xfer->link);
	return 0;
}

static int on_data(struct tcp_socket *socket, const struct tcp_frame *frame)
{
	struct tcp_conn *conn = socket->conn;
	struct snti_xfer *xfer = find_number(&conn->matched, frame->number);
	size_t width = xfer && xfer->fold ? xfer->width : 1;

	if (!xfer || !frame->size || frame->size > xfer->size - xfer->moved ||
	    frame->offset > xfer->size - frame->size || (frame->offset | frame->size) % width)
		return tcp_nonsense(conn, "data that nobody asked for");
	xfer->moved += frame->size;
	socket->left = frame->size;
	socket->at = frame->offset;
	socket->sink = xfer;
	socket->store = NULL;
	return 0;
}

static int on_reject(struct tcp_conn *conn, const struct tcp_frame *frame)
{
	struct snti_xfer *xfer = frame->offset ? NULL : find_number(&conn->announced, frame->number);
	int status;

	if ((!xfer && (!frame->offset || frame->number >= conn->next_number)) || (xfer && is_refused(conn, xfer)))
		return tcp_nonsense(conn, "a refusal of what was not sent");
	status = snti_fail(SNT_EMISMATCH, "tcp: rank %d receives %llu bytes or another operation where this rank sends%s",
			   conn->base.peer, (unsigned long long)frame->size, xfer ? "" : " a small message");
	if (!xfer) {
		tcp_fail(conn, status);
		return status;
	}
	conn->announcing--;
	tcp_refused(conn, xfer, status);
	return 0;
}

static int on_bye(struct tcp_socket *socket)
{
	struct tcp_conn *conn = socket->conn;

	socket->bye = 1;
	socket->phase = TCP_ENDED;
	tcp_interest(socket, 0);
	if (++conn->byes == conn->socket_count)
		tcp_peer_over(conn);
	return 1;
}

static int dispatch(struct tcp_socket *socket, struct tcp_frame *frame)
{
	struct tcp_conn *conn = socket->conn;

	frame->messages = le16toh(frame->messages);
	frame->bytes = le32toh(frame->bytes);
	frame->lane = le64toh(frame->lane);
	frame->fingerprint = le64toh(frame->fingerprint);
	frame->size = le64toh(frame->size);
	frame->number = le64toh(frame->number);
	frame->offset = le64toh(frame->offset);
	if (conn->base.status == SNT_BUSY && frame->type != TCP_GREET && frame->type != TCP_BYE)
		return tcp_nonsense(conn, "no greeting first");
	if (socket->index && frame->type != TCP_DATA && frame->type != TCP_BYE)
		return tcp_nonsense(conn, "an ordered frame on a data socket");
	if (frame->number == UINT64_MAX)
		return tcp_nonsense(conn, "a number that means none");
	if ((frame->messages || frame->bytes) && on_credit(conn, frame))
		return SNT_EPROTOCOL;
	switch (frame->type) {
	case TCP_GREET: return on_greet(conn, frame);
	case TCP_EAGER: return on_eager(socket, frame);
	case TCP_RTS: return on_announcement(socket, frame);
	case TCP_CTS: return on_clear(conn, frame);
	case TCP_DATA: return on_data(socket, frame);
	case TCP_MATCHED: return 0;
	case TCP_REJECT: return on_reject(conn, frame);
	case TCP_BYE: return on_bye(socket);
	default: return tcp_nonsense(conn, "a frame of no known type");
	}
}

/* ---- bytes -------------------------------------------------------------- */

/* Some of @xfer is in its place. */
static void finish_if_whole(struct tcp_conn *conn, struct snti_xfer *xfer)
{
	if (xfer->acked != xfer->size)
		return;
	conn->streaming -= xfer->number != UINT64_MAX;
	tcp_finish(conn, xfer, 0);
}

/* What was kept has found its receive. */
static void land_kept(struct tcp_conn *conn, struct tcp_entry *entry, struct snti_xfer *xfer)
{
	tcp_entry_land(conn, entry, xfer);
	xfer->acked += entry->arrived;
	tcp_entry_free(conn, entry);
	finish_if_whole(conn, xfer);
}

/* The payload of the current frame is here. */
static void payload_done(struct tcp_socket *socket)
{
	struct tcp_entry *entry = socket->store;
	struct snti_xfer *xfer = socket->sink;

	socket->store = NULL;
	socket->sink = NULL;
	if (entry && entry->xfer)
		land_kept(socket->conn, entry, entry->xfer);
	else if (xfer)
		finish_if_whole(socket->conn, xfer);
}

static void landed(struct tcp_socket *socket, size_t size)
{
	if (socket->sink)
		socket->sink->acked += size;
	socket->at += size;
	socket->left -= size;
}

/* Moves payload out of the input buffer; 0 when a part of an element has to wait for the rest. */
static int consume(struct tcp_socket *socket)
{
	size_t size = socket->in_end - socket->in_at;
	const char *bytes = socket->in + socket->in_at;

	if (size > socket->left)
		size = socket->left;
	if (socket->sink && socket->sink->fold)
		size &= ~(size_t)(socket->sink->width - 1);
	if (socket->left && !size)
		return 0;
	if (socket->sink && size)
		snti_land(socket->sink, socket->at, bytes, size);
	else if (socket->store)
		tcp_entry_add(socket->conn, socket->store, bytes, size);
	socket->in_at += size;
	landed(socket, size);
	return 1;
}

static void parse(struct tcp_socket *socket)
{
	struct tcp_frame frame;

	while (socket->phase == TCP_READY && socket->conn->base.status >= 0) {
		if (socket->left) {
			if (!consume(socket))
				return;
			if (!socket->left)
				payload_done(socket);
			continue;
		}
		if (socket->in_end - socket->in_at < sizeof frame)
			return;
		memcpy(&frame, socket->in + socket->in_at, sizeof frame);
		socket->in_at += sizeof frame;
		if (dispatch(socket, &frame))
			return;
		if (!socket->left)
			payload_done(socket);
	}
}

/* The end of the stream, without the BYE that makes it good. */
static void ended(struct tcp_socket *socket, int error)
{
	struct tcp_conn *conn = socket->conn;

	if (!error)
		error = socket->error;
	if (error && error != EPIPE)
		tcp_fail(conn, snti_fail(SNT_EPEER, "tcp: connection to rank %d is lost: %s", conn->base.peer, strerror(error)));
	else
		tcp_fail(conn, snti_fail(SNT_EPEER, "tcp: rank %d closed the connection", conn->base.peer));
}

/* One read: the payload straight to its place where it need not be folded, what is behind it to
 * the buffer. Positive: more may be there; 0: that was all. */
static int fill(struct tcp_socket *socket)
{
	struct iovec parts[2];
	struct msghdr message = { .msg_iov = parts };
	size_t count = 0, direct = 0, room;

	if (socket->in_at) {
		memmove(socket->in, socket->in + socket->in_at, socket->in_end - socket->in_at);
		socket->in_end -= socket->in_at;
		socket->in_at = 0;
	}
	if (socket->left && socket->sink && !socket->sink->fold && !socket->in_end) {
		direct = socket->left;
		parts[count++] = (struct iovec){ (char *)socket->sink->data + socket->at, direct };
	}
	room = direct ? TCP_SPILL : TCP_INPUT - socket->in_end;
	parts[count++] = (struct iovec){ socket->in + socket->in_end, room };
	message.msg_iovlen = count;

	ssize_t got;

	/* Most reads find nothing or one small message, and recv has less to prepare. */
	do
		got = count == 1 ? recv(socket->fd, parts->iov_base, room, MSG_DONTWAIT) : recvmsg(socket->fd, &message, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got <= 0) {
		if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
			ended(socket, got ? errno : 0);
		return -1;
	}

	size_t straight = (size_t)got < direct ? (size_t)got : direct;

	socket->in_end += (size_t)got - straight;
	if (straight) {
		landed(socket, straight);
		if (!socket->left)
			payload_done(socket);
	}
	return (size_t)got == direct + room;
}

int tcp_input(struct tcp_socket *socket)
{
	int did = 0;

	for (int i = 0; i < READS_PER_POLL && socket->phase == TCP_READY && socket->conn->base.status >= 0; i++) {
		int more = fill(socket);

		if (more < 0)
			break;
		did++;
		parse(socket);
		if (!more && !(socket->left && socket->sink && !socket->sink->fold))
			break;
	}
	return did;
}

/* A receive for a message that is here already. */
static void claim(struct tcp_conn *conn, struct tcp_entry *entry, struct snti_xfer *xfer)
{
	struct tcp_frame frame = entry->frame;

	tcp_take(conn, xfer, &conn->matched);
	xfer->number = UINT64_MAX;
	if (disagrees(conn, &frame, xfer)) {
		if (conn->sockets[0].store == entry)
			conn->sockets[0].store = NULL;  /* the rest of it goes nowhere */
		tcp_entry_free(conn, entry);
	} else if (frame.type == TCP_RTS && clear(conn, &frame, xfer)) {
		return;
	} else if (entry->arrived < tcp_unasked(&frame)) {
		snti_list_remove(&entry->link);
		entry->xfer = xfer;
	} else {
		land_kept(conn, entry, xfer);
	}
	if (conn->base.status >= 0)
		tcp_kick(conn);
}

int tcp_recv(struct snti_conn *base, struct snti_xfer *xfer)
{
	struct tcp_conn *conn = (struct tcp_conn *)base;
	struct tcp_entry *entry;

	if (base->status == SNT_BUSY)
		return SNTI_AGAIN;
	if (!conn->entries)
		return base->status;
	entry = tcp_entry_find(conn, xfer->lane);
	if (entry) {
		claim(conn, entry, xfer);
		return 0;
	}
	if (conn->over && !base->status)
		tcp_fail(conn, snti_fail(SNT_EPEER, "tcp: rank %d has hung up", base->peer));
	if (base->status)
		return base->status;
	tcp_take(conn, xfer, tcp_bucket(conn->posted, xfer->lane));
	return 0;
}
