/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_input.c - what has arrived or was sent: frames are checked, matched with receives, kept while there is none. */
#include "transport/verbs.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/log.h"

#define BATCHES 8                 /* completions must not keep output waiting */

static struct snti_xfer *find_posted(struct verbs_conn *conn, uint64_t lane)
{
	snti_list_each(link, verbs_bucket(conn->posted, lane)) {
		struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

		if (xfer->lane == lane)
			return xfer;
	}
	return NULL;
}

static struct verbs_entry *find_entry(struct verbs_conn *conn, uint64_t lane)
{
	snti_list_each(link, verbs_bucket(conn->unmatched, lane)) {
		struct verbs_entry *entry = snti_container(link, struct verbs_entry, link);

		if (entry->frame.lane == lane)
			return entry;
	}
	return NULL;
}

/* ---- messages before their receive -------------------------------------- */

static inline void cell_is_free(struct verbs_conn *conn, size_t size)
{
	if (size <= VERBS_SMALL ? ++conn->owed_smalls >= VERBS_SMALLS / 4 : ++conn->owed_bigs >= VERBS_BIGS / 4)
		verbs_wants_output(conn);
}

static char *take_cell(struct verbs_conn *conn, size_t size)
{
	if (size <= VERBS_SMALL)
		return conn->idle_smalls ? conn->idle_small[--conn->idle_smalls] : NULL;
	return conn->idle_bigs ? conn->idle_big[--conn->idle_bigs] : NULL;
}

static void free_entry(struct verbs_conn *conn, struct verbs_entry *entry)
{
	size_t size = entry->frame.size;

	if (entry->bytes) {
		if (size <= VERBS_SMALL)
			conn->idle_small[conn->idle_smalls++] = entry->bytes;
		else
			conn->idle_big[conn->idle_bigs++] = entry->bytes;
		if (!conn->base.status && !conn->over)
			cell_is_free(conn, size);
	}
	snti_list_remove(&entry->link);
	snti_list_append(&conn->spare, &entry->link);
}

static int keep(struct verbs_conn *conn, const struct verbs_frame *frame, const char *bytes)
{
	struct verbs_entry *entry = snti_container(conn->spare.next, struct verbs_entry, link);
	char *cell = bytes ? take_cell(conn, frame->size) : NULL;

	if (snti_list_empty(&conn->spare) || (bytes && !cell))
		return verbs_nonsense(conn, "more messages than its credit");
	if (bytes)
		memcpy(cell, bytes, frame->size);
	entry->frame = *frame;
	entry->bytes = cell;
	snti_list_remove(&entry->link);
	snti_list_append(verbs_bucket(conn->unmatched, frame->lane), &entry->link);
	return 0;
}

/* ---- matching ----------------------------------------------------------- */

/* The receiver has matched @frame with @xfer, and the peer is told that they disagree. An eager message was finished over
 * there already, so that the whole conn has to fail; and what the receive had asked for must not be written any more. */
VERBS_SELDOM void disagree(struct verbs_conn *conn, const struct verbs_frame *frame, struct snti_xfer *xfer)
{
	int eager = frame->type == VERBS_EAGER;
	struct verbs_message reject = { .frame = { .type = eager ? VERBS_BROKEN : VERBS_REJECT, .number = frame->number,
		.size = xfer->size } };

	snti_fail(SNT_EMISMATCH, "verbs: rank %d sends %llu bytes%s where this rank receives %zu", conn->base.peer,
		  (unsigned long long)frame->size, frame->size == xfer->size ? " of another operation" : "", xfer->size);
	if (eager && conn->base.status >= 0) {
		conn->dying = SNT_EMISMATCH;
		verbs_link_stop_data(conn->rails);
		verbs_slots_drop_all(conn);
	} else {
		verbs_slots_drop(conn, xfer);
	}
	verbs_finish(conn, xfer, SNT_EMISMATCH);
	if (conn->base.status >= 0 && !conn->over)
		(void)!verbs_control(conn, &reject);
}

static inline int disagrees(struct verbs_conn *conn, const struct verbs_frame *frame, struct snti_xfer *xfer)
{
	if (snti_fits(xfer, frame->size) && frame->fingerprint == xfer->fingerprint)
		return 0;
	disagree(conn, frame, xfer);
	return 1;
}

VERBS_ALWAYS void land(struct verbs_conn *conn, struct snti_xfer *xfer, const char *bytes)
{
	int status = 0;

	if (xfer->memory && xfer->memory->is_gpu)
		status = verbs_loop_copy(verbs_port_of(conn), xfer->data, bytes, xfer->size);
	else
		snti_land(xfer, 0, bytes, xfer->size);
	verbs_finish(conn, xfer, status);
}

/* ---- frames ------------------------------------------------------------- */

/* Of a message that fits into a frame: its receive is not here yet, or not one for it. */
VERBS_SELDOM int on_odd(struct verbs_conn *conn, uint64_t lane, uint64_t fingerprint, const char *bytes, size_t size)
{
	struct snti_xfer *xfer = find_posted(conn, lane);
	struct verbs_frame frame = { .type = VERBS_EAGER, .lane = lane, .fingerprint = fingerprint, .size = size, .number = VERBS_NONE };

	if (size > conn->eager)
		return verbs_nonsense(conn, "a message that is too large for a frame");
	if (!xfer)
		return keep(conn, &frame, bytes);
	cell_is_free(conn, size);
	disagree(conn, &frame, xfer);
	return 0;
}

VERBS_ALWAYS int on_eager(struct verbs_conn *conn, uint64_t lane, uint64_t fingerprint, const char *bytes, size_t size)
{
	struct snti_xfer *xfer = find_posted(conn, lane);

	if (size > conn->eager || !xfer || !snti_fits(xfer, size) || xfer->fingerprint != fingerprint)
		return on_odd(conn, lane, fingerprint, bytes, size);
	cell_is_free(conn, size);
	land(conn, xfer, bytes);
	return 0;
}

static int on_announce(struct verbs_conn *conn, const struct verbs_frame *frame)
{
	struct snti_xfer *xfer = find_posted(conn, frame->lane);

	if (frame->number == VERBS_NONE)
		return verbs_nonsense(conn, "a number that means none");
	if (!xfer)
		return keep(conn, frame, NULL);
	if (!disagrees(conn, frame, xfer))
		verbs_ask(conn, xfer, frame->number);
	return 0;
}

static int on_reject(struct verbs_conn *conn, const struct verbs_frame *frame)
{
	struct snti_xfer *xfer = verbs_find(&conn->announced, frame->number);

	if (!xfer)
		return verbs_nonsense(conn, "a refusal of what was not sent");
	conn->announcing--;
	verbs_finish(conn, xfer, snti_fail(SNT_EMISMATCH, "verbs: rank %d receives %llu bytes or another operation where this rank sends "
					   "%zu bytes", conn->base.peer, (unsigned long long)frame->size, xfer->size));
	return 0;
}

static int on_refuse(struct verbs_conn *conn, const struct verbs_frame *frame)
{
	for (int i = 0; i < VERBS_SLOTS; i++) {
		struct snti_xfer *xfer = conn->slots[i].xfer;

		if (!xfer || xfer->number != frame->number)
			continue;
		verbs_slots_drop(conn, xfer);
		verbs_finish(conn, xfer, snti_fail(SNT_EMISMATCH, "verbs: rank %d sends %llu bytes or another operation where this rank "
						   "receives %zu", conn->base.peer, (unsigned long long)frame->size, xfer->size));
		return 0;
	}
	return verbs_nonsense(conn, "a refusal of what was not asked for");
}

static int on_broken(struct verbs_conn *conn, const struct verbs_frame *frame)
{
	verbs_fail(conn, snti_fail(SNT_EMISMATCH, "verbs: rank %d receives %llu bytes or another operation where this rank sends a small "
				   "message", conn->base.peer, (unsigned long long)frame->size));
	return SNT_EMISMATCH;
}

static int dispatch(struct verbs_conn *conn, const struct verbs_frame *frame, const char *body, size_t size)
{
	switch (frame->type) {
	case VERBS_EAGER:
		if (frame->size != size)
			return verbs_nonsense(conn, "a message of another size than it says");
		return on_eager(conn, frame->lane, frame->fingerprint, body, size);
	case VERBS_ANNOUNCE: return on_announce(conn, frame);
	case VERBS_REJECT: return on_reject(conn, frame);
	case VERBS_REFUSE: return on_refuse(conn, frame);
	case VERBS_BROKEN: return on_broken(conn, frame);
	case VERBS_CREDIT: return 0;
	default: return verbs_nonsense(conn, "a frame of no known type");
	}
}

/* What every frame tells: 1, if that is all that it is good for. One that is to fail only waits until the peer has been told why. */
VERBS_ALWAYS int on_any(struct verbs_conn *conn, unsigned window, unsigned smalls, unsigned bigs)
{
	conn->frames_seen++;
	if (++conn->owed_window >= VERBS_WINDOW / 2 || !snti_list_empty(&conn->queue))
		verbs_wants_output(conn);
	if ((conn->window += window) > conn->theirs.window || (conn->smalls += smalls) > conn->theirs.smalls ||
	    (conn->bigs += bigs) > conn->theirs.bigs)
		return verbs_nonsense(conn, "more credit than it has");
	return conn->dying;
}

/* ... but a short one. */
static int on_slots(struct verbs_conn *conn, const struct verbs_frame *frame)
{
	if (frame->requests != conn->requests_known)
		verbs_mark_known(conn, frame->requests);
	if (frame->taken)
		verbs_mark_taken(conn, frame->taken, frame->requests);
	return conn->base.status < 0;
}

VERBS_SELDOM int on_long(struct verbs_conn *conn, const char *bytes, size_t size)
{
	struct verbs_frame frame;

	if (size < sizeof(frame) || conn->phase < VERBS_READYING)
		return verbs_nonsense(conn, "a frame that is too short or too early");
	memcpy(&frame, bytes, sizeof(frame));
	verbs_frame_swap(&frame);
	if (on_any(conn, frame.window, frame.smalls, frame.bigs) || on_slots(conn, &frame))
		return conn->base.status;
	return dispatch(conn, &frame, bytes + sizeof(frame), size - sizeof(frame));
}

static inline uint64_t word_at(const char *bytes, size_t at)
{
	uint64_t word;

	memcpy(&word, bytes + at, sizeof(word));
	return le64toh(word);
}

/* Nearly all are small messages with nothing to say about slots, and read as the words that their headers are. */
VERBS_INLINE int verbs_input(struct verbs_conn *conn, const char *bytes, size_t size)
{
	uint64_t first = size < VERBS_SHORT_BYTES || conn->phase < VERBS_READYING ? 0 : word_at(bytes, 0);

	if ((first & (0xff | VERBS_SHORT << 8)) != (VERBS_EAGER | VERBS_SHORT << 8))
		return on_long(conn, bytes, size);
	if (on_any(conn, first >> 16 & 0xffff, first >> 32 & 0xffff, (unsigned)(first >> 48)))
		return conn->base.status;
	return on_eager(conn, word_at(bytes, offsetof(struct verbs_frame, lane)), word_at(bytes, offsetof(struct verbs_frame, fingerprint)),
			bytes + VERBS_SHORT_BYTES, size - VERBS_SHORT_BYTES);
}

/* The immediate says which slot was written; only now is it read, once, and has to say the same. Nobody writes there again
 * before it is known over there that it has been read. */
int verbs_on_slot(struct verbs_conn *conn, uint32_t immediate)
{
	uint32_t slot = immediate & 0xff;
	struct verbs_message message;

	if (conn->phase < VERBS_READYING || slot >= VERBS_SLOTS)
		return verbs_nonsense(conn, "a request in a slot that there is not");
	if (immediate >> 8 != ((conn->generation[slot] + 1) & VERBS_GENERATIONS))
		return verbs_nonsense(conn, "a request that is not the slot's next");
	conn->generation[slot] = immediate >> 8;
	memcpy(&message, conn->rails->slots + slot * VERBS_SLOT_BYTES, sizeof(message));
	verbs_frame_swap(&message.frame);
	verbs_request_swap(&message.request);
	if (message.frame.type != VERBS_REQUEST || message.request.immediate != immediate)
		return verbs_nonsense(conn, "a request that is not in its slot");
	if (on_any(conn, message.frame.window, message.frame.smalls, message.frame.bigs) || on_slots(conn, &message.frame))
		return conn->base.status;
	return verbs_on_request(conn, &message);
}

/* ---- receives ----------------------------------------------------------- */

/* A receive for a message that is here already. */
static void claim(struct verbs_conn *conn, struct verbs_entry *entry, struct snti_xfer *xfer)
{
	struct verbs_frame frame = entry->frame;
	char *bytes = entry->bytes;

	verbs_take(conn, xfer, &conn->matched);
	if (!disagrees(conn, &frame, xfer)) {
		if (bytes)
			land(conn, xfer, bytes);
		else
			verbs_ask(conn, xfer, frame.number);
	}
	free_entry(conn, entry);
	if (!conn->base.status && !snti_list_empty(&conn->pending))
		verbs_kick(conn);
}

int verbs_recv(struct snti_conn *base, struct snti_xfer *xfer)
{
	struct verbs_conn *conn = (struct verbs_conn *)base;
	struct verbs_entry *entry;
	int unfit;

	if (base->status == SNT_BUSY)
		return SNTI_AGAIN;
	if (!conn->entries)
		return base->status;
	unfit = verbs_gpu_check(conn, xfer);
	if (unfit)
		return unfit;
	entry = find_entry(conn, xfer->lane);
	if (entry) {
		claim(conn, entry, xfer);
		return 0;
	}
	if (conn->over && !base->status)
		verbs_fail(conn, snti_fail(SNT_EPEER, "verbs: rank %d has hung up", base->peer));
	if (base->status)
		return base->status;
	verbs_take(conn, xfer, verbs_bucket(conn->posted, xfer->lane));
	if (!conn->dying && xfer->size > conn->eager) {
		verbs_ask_early(conn, xfer);
		if (!snti_list_empty(&conn->pending))
			verbs_kick(conn);
	}
	return 0;
}

/* ---- completions -------------------------------------------------------- */

static void broke(struct verbs_link *link, const struct ibv_wc *wc)
{
	if (link && link->conn && link->conn->base.status >= 0)
		verbs_fail(link->conn, verbs_link_error(link, wc));
}

/* Sent into the buffer; or a request that was written, whose immediate took the buffer. */
VERBS_ALWAYS void on_frame_of(struct verbs_port *port, struct verbs_conn *conn, const struct ibv_wc *wc)
{
	if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM)
		verbs_on_slot(conn, ntohl(wc->imm_data));
	else
		verbs_input(conn, verbs_slab_buffer(port, wc->wr_id & ~VERBS_RECEIVED), wc->byte_len);
}

VERBS_ALWAYS void on_frame(struct verbs_port *port, const struct ibv_wc *wc)
{
	struct verbs_link *link = verbs_link_find(port, wc->qp_num);
	uint64_t buffer = wc->wr_id & ~VERBS_RECEIVED;

	if (wc->status != IBV_WC_SUCCESS)
		broke(link, wc);
	else if (link && link->conn && link->conn->base.status >= 0)
		on_frame_of(port, link->conn, wc);
	port->used[port->used_count++] = buffer;
	if (port->used_count == VERBS_BATCH)
		verbs_slab_post(port);
}

VERBS_SELDOM void on_place(struct verbs_port *port, const struct ibv_wc *wc)
{
	struct verbs_link *link = verbs_link_find(port, wc->qp_num);

	if (wc->status != IBV_WC_SUCCESS)
		broke(link, wc);
	else if (link && link->conn && link->conn->base.status >= 0)
		verbs_on_immediate(link->conn, ntohl(wc->imm_data));
}

VERBS_SELDOM void on_work(struct verbs_port *port, const struct ibv_wc *wc)
{
	uint32_t index = (uint32_t)wc->wr_id;
	struct verbs_work *work = &port->works[index % VERBS_WORKS], done = *work;

	/* Of a queue pair that is gone. */
	if (index >= VERBS_WORKS || !done.link || done.generation != wc->wr_id >> 32)
		return;
	verbs_work_give(port, work);
	if (wc->status != IBV_WC_SUCCESS)
		broke(done.link, wc);
	else if (done.link->conn && done.link->conn->base.status >= 0 && !done.qp)
		done.link->conn->frames_acked++;
	else if (done.link->conn && done.link->conn->base.status >= 0)
		verbs_written(done.link->conn, &done);
}

static void take(struct verbs_port *port, const struct ibv_wc *wc, int count)
{
	for (int i = 0; i < count; i++) {
		if (wc[i].wr_id == VERBS_NONE)
			on_place(port, &wc[i]);
		else if (wc[i].wr_id & VERBS_RECEIVED)
			on_frame(port, &wc[i]);
		else
			on_work(port, &wc[i]);
	}
}

int verbs_completions(struct verbs_port *port, struct ibv_wc *wc, int count)
{
	int did = 0, batch = 0;

	for (; count > 0; count = ibv_poll_cq(port->cq, VERBS_BATCH, wc)) {
		take(port, wc, count);
		did += count;
		if (count < VERBS_BATCH || ++batch == BATCHES)
			break;
	}
	port->drained = count < VERBS_BATCH;
	if (count < 0 && !port->failed)
		port->failed = snti_fail(SNT_EDEVICE, "verbs: the completion queue of %s cannot be read", port->device.name);
	/* One or so can wait until there is nothing else to do; credit is only given back after this. */
	if (port->used_count > port->slab_count)
		verbs_slab_post(port);
	return did;
}
