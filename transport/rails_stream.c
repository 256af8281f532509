/* SPDX-License-Identifier: BSD-3-Clause */
/* rails_stream.c - frames in order, kept until acknowledged, over one rail at a time and over another when that is lost.
 *
 * A rail carries frames in their order, and whoever changes rails begins again with the oldest frame that is not
 * acknowledged. So a frame may come twice, but none comes before the one it follows.
 */
#include <endian.h>
#include <string.h>

#include "base/clock.h"
#include "transport/rails.h"

_Static_assert(sizeof(struct rails_frame) == 80, "the frame goes over the wire as it is");

#define ACK_FRAMES 64
#define ACK_BYTES (RAILS_BYTES / 8)
#define MUCH_FASTER 2             /* by so much another rail has to be for the stream to move there */

/* The same swaps in both directions; nothing on little-endian machines. */
static void swap(struct rails_frame *frame)
{
	uint64_t *words = &frame->sequence;

	frame->bytes = htole32(frame->bytes);
	for (size_t i = 0; i < (sizeof(*frame) - offsetof(struct rails_frame, sequence)) / sizeof(*words); i++)
		words[i] = htole64(words[i]);
}

/* ---- out ------------------------------------------------------------------ */

static struct rails_sent *sent_at(struct rails_conn *conn, uint64_t sequence)
{
	return &conn->ring[sequence % RAILS_RING];
}

/* A frame's place is free again once the peer has it and the rail is done with it. */
static void release(struct rails_conn *conn)
{
	while (conn->head < conn->their_ack && sent_at(conn, conn->head)->sub.status != SNT_BUSY) {
		const struct rails_sent *sent = sent_at(conn, conn->head++);

		if (sent->is_users) {
			conn->users--;
			conn->user_bytes -= sent->size;
		}
	}
	if (conn->out < conn->head)
		conn->out = conn->head;
}

/* @size bytes in one piece behind the last frame, or NULL. The oldest one's place is never reached. */
static char *find_room(struct rails_conn *conn, size_t size)
{
	size_t at = conn->bytes_tail, head;

	if (conn->head == conn->tail) {
		at = 0;
	} else {
		head = (size_t)(sent_at(conn, conn->head)->bytes - conn->bytes);
		if (at > head && at + size > RAILS_BYTES)
			at = 0;
		if (at <= head && at + size >= head)
			return NULL;
	}
	conn->bytes_tail = at + size;
	return conn->bytes + at;
}

int rails_put(struct rails_conn *conn, const struct rails_frame *frame, const void *payload, int is_users)
{
	struct rails_sent *sent = sent_at(conn, conn->tail);
	size_t size = sizeof(*frame) + frame->bytes;
	struct rails_frame copy = *frame;

	release(conn);
	if (is_users && (conn->users == RAILS_USERS || conn->user_bytes + size > RAILS_BYTES / 4))
		return SNTI_AGAIN;
	if (conn->tail - conn->head == RAILS_RING || !(sent->bytes = find_room(conn, (size + 15) & ~(size_t)15)))
		return is_users ? SNTI_AGAIN : rails_nonsense(conn, "no acknowledgement for too long");
	sent->size = size;
	sent->is_users = is_users;
	sent->sub.status = 0;
	copy.sequence = conn->tail++;
	swap(&copy);
	memcpy(sent->bytes, &copy, sizeof(copy));
	if (frame->bytes)
		memcpy(sent->bytes + sizeof(copy), payload, frame->bytes);
	if (is_users) {
		conn->users++;
		conn->user_bytes += size;
	}
	return 0;
}

static int hand_over(struct rails_rail *rail, struct snti_xfer *sub, void *bytes, size_t size)
{
	struct rails_conn *conn = rail->conn;
	struct rails_frame *frame = bytes;
	int status;

	frame->ack = htole64(conn->expected);
	frame->credit = htole64(conn->eager_freed);
	*sub = (struct snti_xfer){ .data = bytes, .size = size };
	snti_fail_quietly(1);
	status = rail->line->ops->send(rail->line, sub);
	snti_fail_quietly(0);
	if (status)
		return status;
	conn->acked = conn->expected;
	conn->eager_told = conn->eager_freed;
	conn->unacked_bytes = 0;
	return 0;
}

/* Frames that left already leave again over the other rail. */
static void move_stream(struct rails_conn *conn, unsigned to)
{
	conn->stream = conn->wanted = to;
	conn->out = conn->head;
}

static int is_leaving(const struct rails_conn *conn)
{
	for (uint64_t i = conn->head; i < conn->out; i++)
		if (conn->ring[i % RAILS_RING].sub.status == SNT_BUSY)
			return 1;
	return 0;
}

/* From a rail that is lost at once; from one that is only slower when it has let go of all frames, until which no others follow. */
void rails_choose_stream(struct rails_conn *conn)
{
	struct rails_rail *now = &conn->rails[conn->stream], *best = now;

	for (unsigned i = 0; i < conn->count; i++) {
		struct rails_rail *rail = &conn->rails[i];

		if (rail->phase == RAILS_LIVE && (best->phase != RAILS_LIVE || rails_rate(rail) > rails_rate(best)))
			best = rail;
	}
	if (best->phase != RAILS_LIVE)
		return;
	if (now->phase != RAILS_LIVE)
		move_stream(conn, best->index);
	else
		conn->wanted = rails_rate(best) / MUCH_FASTER > rails_rate(now) ? best->index : now->index;
}

void rails_push(struct rails_conn *conn)
{
	struct rails_rail *rail;

	release(conn);
	if (conn->wanted != conn->stream) {
		if (is_leaving(conn))
			return;
		move_stream(conn, conn->wanted);
	}
	rail = &conn->rails[conn->stream];
	while (conn->out < conn->tail && rail->phase == RAILS_LIVE) {
		struct rails_sent *sent = sent_at(conn, conn->out);

		if (sent->sub.status == SNT_BUSY)
			return;
		if (hand_over(rail, &sent->sub, sent->bytes, sent->size)) {
			sent->sub.status = 0;
			return;
		}
		conn->out++;
	}
}

static void want_ack(struct rails_conn *conn)
{
	if (conn->expected - conn->acked >= ACK_FRAMES || conn->unacked_bytes >= ACK_BYTES ||
	    conn->eager_freed - conn->eager_told >= RAILS_HELD / 4)
		conn->rails[conn->stream].notes[0].wanted = 1;
}

void rails_notes(struct rails_rail *rail)
{
	if (rail->index == rail->conn->stream)
		want_ack(rail->conn);
	for (int i = 0; i < 3; i++) {
		struct rails_note *note = &rail->notes[i];
		uint64_t number = note->frame.number;

		if (!note->wanted || note->sub.status == SNT_BUSY)
			continue;
		note->frame = (struct rails_frame){ .type = (uint8_t)(RAILS_ACK + i), .number = number };
		swap(&note->frame);
		note->wanted = hand_over(rail, &note->sub, &note->frame, sizeof(note->frame)) != 0;
		swap(&note->frame);
	}
}

/* ---- in ------------------------------------------------------------------- */

char *rails_buffer(struct rails_conn *conn, uint32_t buffer)
{
	return conn->buffers + (size_t)buffer * RAILS_FRAME;
}

void rails_buffer_free(struct rails_conn *conn, uint32_t buffer)
{
	if (buffer != RAILS_NONE)
		conn->free_buffers[conn->free_count++] = buffer;
}

/* There are buffers for all that may be held and all that may be posted. */
static void post(struct rails_rail *rail, struct rails_post *one)
{
	struct rails_conn *conn = rail->conn;

	if (one->buffer == RAILS_NONE)
		one->buffer = conn->free_buffers[--conn->free_count];
	one->sub = (struct snti_xfer){ .data = rails_buffer(conn, one->buffer), .size = RAILS_FRAME, .at_most = 1 };
	snti_fail_quietly(1);
	if (rail->line->ops->recv(rail->line, &one->sub))
		one->sub.status = SNT_EPEER;
	snti_fail_quietly(0);
}

void rails_post(struct rails_rail *rail)
{
	rail->post_head = 0;
	for (int i = 0; i < RAILS_POSTED; i++) {
		rail->posts[i].buffer = RAILS_NONE;
		post(rail, &rail->posts[i]);
	}
}

void rails_cancel_posts(struct rails_rail *rail)
{
	for (int i = 0; i < RAILS_POSTED; i++) {
		rails_buffer_free(rail->conn, rail->posts[i].buffer);
		rail->posts[i].buffer = RAILS_NONE;
	}
	for (int i = 0; i < 3; i++)
		rail->notes[i].wanted = 0;
}

static int on_ack(struct rails_conn *conn, const struct rails_frame *frame)
{
	if (frame->ack > conn->tail || frame->credit > conn->eager_sent)
		return rails_nonsense(conn, "an acknowledgement of what was not sent");
	if (frame->ack > conn->their_ack)
		conn->their_ack = frame->ack;
	if (frame->credit > conn->their_freed)
		conn->their_freed = frame->credit;
	release(conn);
	return 0;
}

static int on_note(struct rails_rail *rail, const struct rails_frame *frame)
{
	rails_port_of(rail->conn)->chatted = 1;
	if (frame->type == RAILS_BEAT) {
		rail->notes[2].frame.number = frame->number;
		rail->notes[2].wanted = 1;
		rail->conn->prompted_ns = snti_now_ns();
	} else if (frame->type == RAILS_ECHO && frame->number == rail->beat_ns && rail->beat_ns) {
		rail->echoed_ns = rail->beat_ns;
		rail->beat_ns = 0;
	}
	return 0;
}

/* One frame: 1 when its buffer is kept. */
static int take_in(struct rails_rail *rail, const struct rails_post *one)
{
	struct rails_conn *conn = rail->conn;
	struct rails_frame frame;

	if (one->sub.size < sizeof(frame))
		return rails_nonsense(conn, "a frame that is cut off");
	memcpy(&frame, one->sub.data, sizeof(frame));
	swap(&frame);
	if (one->sub.size != sizeof(frame) + frame.bytes)
		return rails_nonsense(conn, "a frame of another length than it says");
	if (on_ack(conn, &frame))
		return SNT_EPROTOCOL;
	if (frame.type >= RAILS_ACK)
		return on_note(rail, &frame);
	if (frame.sequence < conn->expected)
		return 0;
	if (frame.sequence > conn->expected)
		return rails_nonsense(conn, "a frame before its turn");
	conn->expected++;
	conn->unacked_bytes += one->sub.size;
	return rails_dispatch(rail, &frame, one->buffer);
}

void rails_read(struct rails_rail *rail)
{
	struct rails_conn *conn = rail->conn;

	while (rail->phase == RAILS_LIVE) {
		struct rails_post *one = &rail->posts[rail->post_head % RAILS_POSTED];
		int kept;

		if (one->sub.status)
			break;
		rail->post_head++;
		rail->heard_ns = 0;
		kept = take_in(rail, one);
		if (kept == 1)
			one->buffer = RAILS_NONE;
		/* What came may have ended the conn, or this rail. */
		if (conn->base.status < 0 || conn->over || rail->phase != RAILS_LIVE)
			break;
		post(rail, one);        /* refused when the conn has ended: what came before that is read all the same */
	}
	if (rail->phase == RAILS_LIVE && !rail->heard_ns)
		rail->heard_ns = snti_now_ns();
}
