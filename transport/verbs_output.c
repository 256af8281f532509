/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_output.c - sends and control frames: what is posted next, and whether the peer has room for it. */
#include "transport/verbs.h"

#include <endian.h>
#include <string.h>

#include "base/log.h"

void verbs_request_swap(struct verbs_request *request)
{
	request->message = htole64(request->message);
	request->address = htole64(request->address);
	request->offset = htole64(request->offset);
	request->length = htole64(request->length);
	request->key = htole32(request->key);
	request->immediate = htole32(request->immediate);
	request->qp = htole32(request->qp);
	request->parts = htole32(request->parts);
}

int verbs_control(struct verbs_conn *conn, const struct verbs_message *message)
{
	if (conn->control_tail - conn->control_head == VERBS_CONTROL)
		return verbs_nonsense(conn, "more announcements than allowed");
	conn->control[conn->control_tail++ % VERBS_CONTROL] = *message;
	verbs_wants_output(conn);
	return 0;
}

VERBS_ALWAYS void give_credit(struct verbs_conn *conn, struct verbs_frame *frame)
{
	frame->window = (uint16_t)conn->owed_window;
	frame->smalls = (uint16_t)conn->owed_smalls;
	frame->bigs = (uint16_t)conn->owed_bigs;
	conn->owed_window = conn->owed_smalls = conn->owed_bigs = 0;
	if (frame->flags & VERBS_SHORT)
		return;
	frame->taken = conn->taken;
	frame->requests = conn->requests_told = conn->requests_seen;
}

/* Where the bytes are taken from: at once by the device, or from a buffer until it is done. */
VERBS_ALWAYS void gather(struct verbs_port *port, struct verbs_work *work, struct ibv_sge *sge, struct ibv_send_wr *wr, size_t head)
{
	char *buffer;

	work->buffer = port->frame_stack[--port->idle_frames];
	buffer = port->frame_memory + (size_t)work->buffer * port->stride;
	memcpy(buffer, (const void *)(uintptr_t)sge[0].addr, head);
	if (wr->num_sge > 1)
		memcpy(buffer + head, (const void *)(uintptr_t)sge[1].addr, sge[1].length);
	sge[0] = (struct ibv_sge){ .addr = (uintptr_t)buffer, .length = (uint32_t)head + (wr->num_sge > 1 ? sge[1].length : 0),
		.lkey = port->frame_mr->lkey };
	wr->num_sge = 1;
	wr->send_flags = 0;
}

/* At its slot in the peer's memory. One packet, so that it is there when its immediate is, on whatever route. */
static void aim(const struct verbs_conn *conn, struct ibv_send_wr *wr, const struct verbs_request *request)
{
	const struct verbs_card *card = &conn->theirs;
	uint32_t immediate = le32toh(request->immediate);

	wr->opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	wr->imm_data = htobe32(immediate);
	wr->wr.rdma.rkey = card->slots_key;
	wr->wr.rdma.remote_addr = ((uint64_t)card->slots_high << 32 | card->slots_low) + (immediate & 0xff) * VERBS_SLOT_BYTES;
}

/* 1: it is on its way; 0: not now; negative: the conn failed. */
VERBS_ALWAYS int post(struct verbs_conn *conn, struct verbs_frame *frame, const void *body, size_t size)
{
	struct verbs_port *port = verbs_port_of(conn);
	struct verbs_link *rails = conn->rails;
	size_t head = frame->flags & VERBS_SHORT ? VERBS_SHORT_BYTES : sizeof(*frame);
	int in_line = head + size <= rails->inline_size, status;
	struct ibv_sge sge[2];
	struct ibv_send_wr wr;          /* large, and little of it is looked at */
	struct verbs_work *work;

	if (conn->window <= (frame->type == VERBS_CREDIT ? 0 : VERBS_RESERVE) || (!in_line && !port->idle_frames))
		return 0;
	work = verbs_work_take(rails, 0);
	if (!work)
		return 0;
	give_credit(conn, frame);
	verbs_frame_swap(frame);
	sge[0].addr = (uintptr_t)frame;
	sge[0].length = (uint32_t)head;
	sge[1].addr = (uintptr_t)body;
	sge[1].length = (uint32_t)size;
	wr.next = NULL;
	wr.sg_list = sge;
	wr.num_sge = size ? 2 : 1;
	wr.opcode = IBV_WR_SEND;
	wr.send_flags = IBV_SEND_INLINE;
	if (frame->type == VERBS_REQUEST)
		aim(conn, &wr, body);
	if (!in_line)
		gather(port, work, sge, &wr, head);
	status = verbs_post(rails->frames, work, &wr);
	if (status) {
		verbs_fail(conn, status);
		return status;
	}
	conn->window--;
	conn->frames_sent++;
	return 1;
}

static int post_long(struct verbs_conn *conn, struct verbs_frame *frame, const void *body, size_t size)
{
	frame->flags &= (uint8_t)~VERBS_SHORT;
	return post(conn, frame, body, size);
}

static int post_control(struct verbs_conn *conn)
{
	struct verbs_message message = conn->control[conn->control_head % VERBS_CONTROL];
	size_t size = message.frame.type == VERBS_REQUEST ? sizeof(message.request) : 0;
	int posted;

	verbs_request_swap(&message.request);
	posted = post_long(conn, &message.frame, &message.request, size);
	conn->control_head += posted > 0;
	return posted;
}

/* A short one says nothing about slots, which mostly have nothing new, and its size is that of what comes. */
VERBS_ALWAYS int post_eager(struct verbs_conn *conn, const struct snti_xfer *xfer)
{
	struct verbs_frame frame;

	frame.type = VERBS_EAGER;
	frame.flags = VERBS_SHORT;
	frame.lane = xfer->lane;
	frame.fingerprint = xfer->fingerprint;
	if (!conn->taken && conn->requests_told == conn->requests_seen)
		return post(conn, &frame, xfer->data, xfer->size);
	frame.size = xfer->size;
	frame.number = VERBS_NONE;
	return post_long(conn, &frame, xfer->data, xfer->size);
}

/* An eager send is done when the device or a buffer has its bytes. */
VERBS_SELDOM int post_send(struct verbs_conn *conn, struct snti_xfer *xfer)
{
	struct verbs_frame frame = { .type = VERBS_ANNOUNCE, .lane = xfer->lane, .fingerprint = xfer->fingerprint,
		.size = xfer->size, .number = xfer->number };
	int eager = xfer->number == VERBS_NONE, posted = eager ? post_eager(conn, xfer) : post_long(conn, &frame, NULL, 0);

	if (posted <= 0)
		return posted;
	if (eager) {
		verbs_finish(conn, xfer, 0);
	} else {
		xfer->moved = conn->frames_sent;
		snti_list_remove(&xfer->link);
		snti_list_append(&conn->announced, &xfer->link);
	}
	return 1;
}

static int post_next(struct verbs_conn *conn)
{
	struct verbs_frame credit = { .type = VERBS_CREDIT };

	if (conn->control_head != conn->control_tail) {
		int posted = post_control(conn);

		if (posted)
			return posted;
	} else if (!conn->dying && !snti_list_empty(&conn->queue)) {
		int posted = post_send(conn, snti_container(conn->queue.next, struct snti_xfer, link));

		if (posted)
			return posted;
	}
	return verbs_owes_much(conn) ? post_long(conn, &credit, NULL, 0) : 0;
}

static int post_frames(struct verbs_conn *conn)
{
	int did = 0;

	while (conn->base.status >= 0 && post_next(conn) > 0)
		did++;
	return did;
}

static int has_output(const struct verbs_conn *conn)
{
	int parts = 0;

	for (unsigned i = 0; i < conn->qps; i++)
		parts |= !snti_list_empty(&conn->parts[i]);
	return conn->dying || conn->control_head != conn->control_tail || verbs_owes_much(conn) || parts || !snti_list_empty(&conn->queue) ||
		!snti_list_empty(&conn->asking);
}

int verbs_kick(struct verbs_conn *conn)
{
	int did = 0;

	if (conn->base.status < 0 || conn->over || !conn->rails) {
		snti_list_remove(&conn->pending);
		return 0;
	}
	if (!conn->dying)
		did += verbs_ask_more(conn);
	did += post_frames(conn);
	if (conn->base.status >= 0 && !conn->dying)
		did += verbs_write(conn);
	if (conn->base.status >= 0 && conn->dying && conn->control_head == conn->control_tail && !conn->rails->out[0])
		verbs_fail(conn, conn->dying);
	if (conn->base.status < 0 || !has_output(conn))
		snti_list_remove(&conn->pending);
	else
		verbs_wants_output(conn);
	return did;
}

static int goes_eagerly(struct verbs_conn *conn, size_t size)
{
	unsigned *credit = size <= VERBS_SMALL ? &conn->smalls : &conn->bigs;

	if (size > conn->eager || !*credit)
		return 0;
	--*credit;
	return 1;
}

static int enqueue(struct verbs_conn *conn, struct snti_xfer *xfer, int eager)
{
	verbs_take(conn, xfer, &conn->queue);
	if (!eager) {
		xfer->number = conn->next_number++;
		conn->announcing++;
		if (xfer->size > conn->eager)
			verbs_claim_job(conn, xfer);
	}
	verbs_kick(conn);
	return 0;
}

VERBS_SELDOM int send_later(struct verbs_conn *conn, struct snti_xfer *xfer)
{
	int is_gpu = xfer->memory && xfer->memory->is_gpu, unfit, eager;

	if (conn->base.status == SNT_BUSY)
		return SNTI_AGAIN;
	if (conn->over && !conn->base.status)
		verbs_fail(conn, snti_fail(SNT_EPEER, "verbs: rank %d has hung up", conn->base.peer));
	if (conn->base.status)
		return conn->base.status;
	if (conn->dying)
		return SNTI_AGAIN;
	unfit = is_gpu ? verbs_gpu_check(conn, xfer) : 0;
	if (unfit)
		return unfit;
	eager = !is_gpu && goes_eagerly(conn, xfer->size);
	if (!eager && conn->announcing == VERBS_ANNOUNCED)
		return SNTI_AGAIN;
	return enqueue(conn, xfer, eager);
}

int verbs_send(struct snti_conn *base, struct snti_xfer *xfer)
{
	struct verbs_conn *conn = (struct verbs_conn *)base;
	int posted;

	if (base->status | conn->over | conn->dying || !snti_list_empty(&conn->pending) || (xfer->memory && xfer->memory->is_gpu) ||
	    !goes_eagerly(conn, xfer->size))
		return send_later(conn, xfer);
	/* Most small messages: nothing is wrong, nothing waits before it, and it is gone before it is anybody's. */
	posted = post_eager(conn, xfer);
	if (posted > 0)
		xfer->status = 0;
	else if (!posted)
		enqueue(conn, xfer, 1);
	return posted < 0 ? posted : 0;
}

int verbs_flush(struct snti_conn *base)
{
	struct verbs_conn *conn = (struct verbs_conn *)base;

	if (base->status)
		return base->status == SNT_BUSY ? 0 : base->status;
	if (conn->over)
		return 0;
	verbs_kick(conn);
	if (base->status)
		return base->status;
	return verbs_link_outstanding(conn->rails) || conn->control_head != conn->control_tail ? SNT_BUSY : 0;
}
