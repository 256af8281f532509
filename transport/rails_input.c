/* SPDX-License-Identifier: BSD-3-Clause */
/* rails_input.c - frames in their order: matched with receives, answered, landed. */
#include <string.h>

#include "transport/rails.h"

static struct snti_xfer *find_posted(struct rails_conn *conn, uint64_t lane)
{
	struct snti_link *bucket = rails_bucket(conn->posted, lane);

	snti_list_each(link, bucket) {
		struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

		if (xfer->lane == lane)
			return xfer;
	}
	return NULL;
}

struct snti_xfer *rails_find_announced(struct rails_conn *conn, uint64_t number)
{
	snti_list_each(link, &conn->announced) {
		struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

		if (xfer->number == number)
			return xfer;
	}
	return NULL;
}

/* Whether @frame and the receive it met do not belong together; both sides are told. A small message was finished
 * over there already, so that the whole conn has to fail. */
static int disagrees(struct rails_conn *conn, const struct rails_frame *frame, struct snti_xfer *xfer)
{
	int fits = snti_fits(xfer, frame->size);
	struct rails_frame reject = { .type = RAILS_REJECT, .number = frame->number, .size = xfer->size,
		.offset = frame->type == RAILS_EAGER };

	if (fits && frame->fingerprint == xfer->fingerprint)
		return 0;
	snti_fail(SNT_EMISMATCH, "rails: rank %d sends %llu bytes%s (%zu bytes)", conn->base.peer,
		  (unsigned long long)frame->size, fits ? " of another operation than this rank receives" :
		  " where this rank receives another number", xfer->size);
	rails_finish(conn, xfer, SNT_EMISMATCH);
	if (frame->type == RAILS_EAGER)
		conn->dying = SNT_EMISMATCH;
	if (!conn->base.status && !conn->over)
		(void)!rails_put(conn, &reject, NULL, 0);
	return 1;
}

static void land_eager(struct rails_conn *conn, struct snti_xfer *xfer, uint32_t buffer)
{
	snti_land(xfer, 0, rails_buffer(conn, buffer) + sizeof(struct rails_frame), xfer->size);
	rails_finish(conn, xfer, 0);
}

static int keep(struct rails_conn *conn, const struct rails_frame *frame, uint32_t buffer)
{
	struct rails_entry *entry;

	if (snti_list_empty(&conn->spare))
		return rails_nonsense(conn, "more messages than its credit");
	entry = snti_container(conn->spare.next, struct rails_entry, link);
	entry->frame = *frame;
	entry->buffer = frame->type == RAILS_EAGER ? buffer : RAILS_NONE;
	snti_list_remove(&entry->link);
	snti_list_append(rails_bucket(conn->unmatched, frame->lane), &entry->link);
	return frame->type == RAILS_EAGER;
}

static int on_eager(struct rails_conn *conn, const struct rails_frame *frame, uint32_t buffer)
{
	struct snti_xfer *xfer = find_posted(conn, frame->lane);

	if (frame->size != frame->bytes)
		return rails_nonsense(conn, "a message of another length than it says");
	/* Each frees a buffer when it is matched; without one for the next frame the peer has had more than its share. */
	if (!xfer)
		return conn->free_count ? keep(conn, frame, buffer) : rails_nonsense(conn, "more messages than its credit");
	conn->eager_freed++;
	if (!disagrees(conn, frame, xfer))
		land_eager(conn, xfer, buffer);
	return 0;
}

static int on_announcement(struct rails_conn *conn, const struct rails_frame *frame)
{
	struct snti_xfer *xfer = find_posted(conn, frame->lane);

	if (!xfer)
		return keep(conn, frame, RAILS_NONE);
	if (!disagrees(conn, frame, xfer))
		rails_begin_pull(conn, frame, xfer);
	return 0;
}

/* All of it is there; what the rails still hold of it is about to end, see rails_serve_wants(). */
static int on_done(struct rails_conn *conn, const struct rails_frame *frame)
{
	struct snti_xfer *xfer = rails_find_announced(conn, frame->number);

	if (!xfer || xfer->moved)
		return rails_nonsense(conn, "thanks for what was not announced");
	conn->announcing--;
	xfer->moved = 1;
	if (!xfer->acked)
		rails_finish(conn, xfer, 0);
	return 0;
}

static int on_reject(struct rails_conn *conn, const struct rails_frame *frame)
{
	struct snti_xfer *xfer = frame->offset ? NULL : rails_find_announced(conn, frame->number);
	int status;

	if ((!xfer && (!frame->offset || frame->number >= conn->next_number)) || (xfer && (xfer->moved || xfer->acked)))
		return rails_nonsense(conn, "a refusal of what was not sent");
	status = snti_fail(SNT_EMISMATCH, "rails: rank %d receives %llu bytes or another operation where this rank sends%s",
			   conn->base.peer, (unsigned long long)frame->size, xfer ? "" : " a small message");
	if (!xfer) {
		rails_fail(conn, status);
		return status;
	}
	conn->announcing--;
	rails_finish(conn, xfer, status);
	return 0;
}

int rails_dispatch(struct rails_rail *rail, const struct rails_frame *frame, uint32_t buffer)
{
	struct rails_conn *conn = rail->conn;

	if (frame->type != RAILS_DOWN && frame->type != RAILS_OFFER)
		rails_port_of(conn)->moved++;
	if (frame->bytes && frame->type != RAILS_EAGER && frame->type != RAILS_OFFER)
		return rails_nonsense(conn, "a frame with more than belongs to it");
	switch (frame->type) {
	case RAILS_EAGER: return on_eager(conn, frame, buffer);
	case RAILS_RTS: return on_announcement(conn, frame);
	case RAILS_PULL: return rails_on_pull(conn, frame);
	case RAILS_DONE: return on_done(conn, frame);
	case RAILS_REJECT: return on_reject(conn, frame);
	case RAILS_DOWN: return rails_on_down(conn, frame);
	case RAILS_OFFER: return rails_on_offer(conn, frame, rails_buffer(conn, buffer) + sizeof(*frame));
	case RAILS_BYE: rails_peer_over(conn); return 0;
	default: return rails_nonsense(conn, "a frame of no known type");
	}
}

/* A receive for a message that is here already, or announced. */
void rails_claim(struct rails_conn *conn, struct rails_entry *entry, struct snti_xfer *xfer)
{
	struct rails_frame frame = entry->frame;

	rails_take(conn, xfer, &conn->matched);
	if (!disagrees(conn, &frame, xfer)) {
		if (frame.type == RAILS_RTS)
			rails_begin_pull(conn, &frame, xfer);
		else
			land_eager(conn, xfer, entry->buffer);
	}
	rails_entry_free(conn, entry);
	if (conn->base.status || conn->over)
		return;
	rails_pull(conn);
	rails_push(conn);
}
