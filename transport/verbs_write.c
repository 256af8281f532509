/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_write.c - the sender's side of large messages: what the receiver asked for is written to where it said. */
#include "transport/verbs.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/log.h"

#define APART 8192                /* below, data and immediate travel in a packet or two and stay together */
#define PART_LINE 128

/* ---- requests meet sends ------------------------------------------------ */

static void forget_job(struct verbs_conn *conn, struct verbs_job *job)
{
	uint32_t slot = job->request.immediate & 0xff;

	if (conn->latest[slot] == job) {
		conn->latest[slot] = NULL;
		conn->taken &= ~(UINT64_C(1) << slot);
	}
	job->xfer = NULL;
	snti_list_remove(&job->link);
	snti_list_append(&conn->idle_jobs, &job->link);
}

/* One part over each of the queue pairs that the receiver has a place on. */
static void start(struct verbs_conn *conn, struct verbs_job *job)
{
	const struct verbs_request *request = &job->request;
	uint64_t at = request->offset, end = at + request->length;
	uint64_t share = (request->length / request->parts + PART_LINE - 1) / PART_LINE * PART_LINE;

	conn->taken |= UINT64_C(1) << (request->immediate & 0xff);
	job->parts = job->posting = request->parts;
	for (uint32_t i = 0; i < request->parts; i++) {
		struct verbs_part *part = &job->part[i];

		part->job = job;
		part->at = at;
		part->end = i + 1 == request->parts || end - at < share ? end : at + share;
		at = part->end;
		snti_list_append(&conn->parts[(request->qp + i) % conn->qps], &part->link);
	}
	verbs_wants_output(conn);
}

static void meet(struct verbs_conn *conn, struct verbs_job *job, struct snti_xfer *xfer)
{
	snti_list_remove(&job->link);
	job->xfer = xfer;
	/* Its announcement may still be on its way; behind the data it would be taken for the next message's. */
	job->after = xfer->moved;
	if (job->first) {
		snti_list_remove(&xfer->link);
		snti_list_append(&conn->cleared, &xfer->link);
		conn->announcing--;
		xfer->number = job->request.message;
		xfer->private = verbs_region_get(verbs_port_of(conn), xfer->data, xfer->size, 0);
	}
	start(conn, job);
}

static int fits(const struct verbs_job *job, const struct snti_xfer *xfer)
{
	return job->size == xfer->size && job->fingerprint == xfer->fingerprint;
}

/* The receiver asked for another message than this, and does not know yet. */
static void refuse(struct verbs_conn *conn, const struct verbs_job *job, struct snti_xfer *xfer)
{
	struct verbs_message refusal = { .frame = { .type = VERBS_REFUSE, .number = job->request.message, .size = xfer->size } };
	int status = snti_fail(SNT_EMISMATCH, "verbs: rank %d receives %llu bytes or another operation where this rank sends %zu bytes",
			       conn->base.peer, (unsigned long long)job->size, xfer->size);

	conn->refused = job->request.message;
	conn->announcing--;
	verbs_finish(conn, xfer, status);
	(void)!verbs_control(conn, &refusal);
}

/* The send that the first request of a message is for: by the number it was announced with, or the first on its lane. */
static struct snti_xfer *find_send(struct verbs_conn *conn, const struct verbs_job *job)
{
	struct snti_link *lists[] = { &conn->announced, &conn->queue };

	if (job->answers != VERBS_NONE)
		return verbs_find(&conn->announced, job->answers);
	for (int i = 0; i < 2; i++)
		snti_list_each(link, lists[i]) {
			struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

			if (xfer->lane == job->lane && xfer->number != VERBS_NONE)
				return xfer;
		}
	return NULL;
}

static int on_first(struct verbs_conn *conn, struct verbs_job *job)
{
	struct snti_xfer *xfer = find_send(conn, job);
	int queued = 0;

	if (!xfer) {
		snti_list_append(&conn->jobs_waiting, &job->link);
		return job->answers == VERBS_NONE ? 0 : verbs_nonsense(conn, "a request for what was not announced");
	}
	if (fits(job, xfer)) {
		meet(conn, job, xfer);
		return 0;
	}
	snti_list_each(link, &conn->queue)
		queued |= link == &xfer->link;
	/* What is announced the receiver will refuse by itself. */
	if (queued)
		refuse(conn, job, xfer);
	conn->refused = job->request.message;
	forget_job(conn, job);
	return 0;
}

static int on_next(struct verbs_conn *conn, struct verbs_job *job)
{
	struct snti_xfer *xfer = verbs_find(&conn->cleared, job->request.message);

	if (xfer && fits(job, xfer)) {
		meet(conn, job, xfer);
		return 0;
	}
	snti_list_each(link, &conn->jobs_waiting)
		if (snti_container(link, struct verbs_job, link)->request.message == job->request.message) {
			snti_list_append(&conn->jobs_waiting, &job->link);
			return 0;
		}
	forget_job(conn, job);
	return conn->refused == VERBS_NONE ? verbs_nonsense(conn, "a request for a piece of no message") : 0;
}

/* Whoever asks for a slot again has all that was written for it, whether the device knows that yet or not. */
static struct verbs_job *new_job(struct verbs_conn *conn, uint32_t slot)
{
	struct verbs_job *job = snti_container(conn->idle_jobs.next, struct verbs_job, link), *before = conn->latest[slot];

	if (snti_list_empty(&conn->idle_jobs) || (before && (!before->xfer || before->posting)))
		return NULL;
	snti_list_remove(&job->link);
	conn->latest[slot] = job;
	conn->taken &= ~(UINT64_C(1) << slot);
	conn->requests_seen++;
	return job;
}

int verbs_on_request(struct verbs_conn *conn, const struct verbs_message *message)
{
	const struct verbs_frame *frame = &message->frame;
	const struct verbs_request *request = &message->request;
	uint32_t slot = request->immediate & 0xff;
	struct verbs_job *job;

	if (slot >= VERBS_SLOTS || request->parts < 1 || request->parts > conn->qps || request->qp >= conn->qps ||
	    request->length > frame->size || request->offset > frame->size - request->length)
		return verbs_nonsense(conn, "a request that makes no sense");
	job = new_job(conn, slot);
	if (!job)
		return verbs_nonsense(conn, "a request for a slot that is being written for");
	*job = (struct verbs_job){ .request = *request, .lane = frame->lane, .size = frame->size, .fingerprint = frame->fingerprint,
		.answers = frame->number, .first = frame->flags & VERBS_FIRST };
	snti_list_init(&job->link);
	return job->first ? on_first(conn, job) : on_next(conn, job);
}

static struct verbs_job *waiting_first(struct verbs_conn *conn, uint64_t lane)
{
	snti_list_each(link, &conn->jobs_waiting) {
		struct verbs_job *job = snti_container(link, struct verbs_job, link);

		if (job->first && job->lane == lane)
			return job;
	}
	return NULL;
}

int verbs_claim_job(struct verbs_conn *conn, struct snti_xfer *xfer)
{
	struct verbs_job *first = waiting_first(conn, xfer->lane);
	struct snti_link *next;
	uint64_t message;
	int good;

	if (!first)
		return 0;
	message = first->request.message;
	good = fits(first, xfer);
	if (!good)
		refuse(conn, first, xfer);
	for (struct snti_link *link = conn->jobs_waiting.next; link != &conn->jobs_waiting; link = next) {
		struct verbs_job *job = snti_container(link, struct verbs_job, link);

		next = link->next;
		if (job->request.message != message)
			continue;
		if (good)
			meet(conn, job, xfer);
		else
			forget_job(conn, job);
	}
	return 1;
}

/* ---- writing ------------------------------------------------------------ */

/* 0: no block to take it from just now. */
static int set_source(struct verbs_conn *conn, struct verbs_work *work, const struct verbs_part *part, struct ibv_sge *sge)
{
	struct verbs_port *port = verbs_port_of(conn);
	const struct snti_xfer *xfer = part->job->xfer;
	const struct verbs_region *region = xfer->private;
	char *from = (char *)xfer->data + part->at;

	if (!region) {
		int block = verbs_block_take(&port->sending);

		if (block < 0)
			return 0;
		work->buffer = (int16_t)block;
		memcpy(port->sending.base + (size_t)block * port->block, from, sge->length);
		from = port->sending.base + (size_t)block * port->block;
	}
	sge->addr = (uintptr_t)from;
	sge->lkey = region ? region->mr->lkey : port->sending.mr->lkey;
	return 1;
}

static uint64_t most_at_once(const struct verbs_port *port, const struct snti_xfer *xfer)
{
	uint64_t most = port->device.attr.max_msg_sz ? port->device.attr.max_msg_sz : 1 << 30;

	return xfer->private ? most : port->block;
}

/* 1: something was posted; 0: not now; negative: the conn failed. A part of which nothing is left but the
 * immediate is written as a message without bytes. */
static int post_part(struct verbs_conn *conn, unsigned qp, struct verbs_part *part)
{
	struct verbs_port *port = verbs_port_of(conn);
	struct verbs_job *job = part->job;
	uint64_t left = part->end - part->at, most = most_at_once(port, job->xfer), size = left < most ? left : most;
	int last = size == left && !(port->device.unordered && size > APART), status;
	struct ibv_sge sge = { .length = (uint32_t)size };
	struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = size ? 1 : 0, .opcode = last ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_RDMA_WRITE,
		.imm_data = htonl(job->request.immediate),
		.wr.rdma = { .remote_addr = job->request.address + (part->at - job->request.offset), .rkey = job->request.key } };
	struct verbs_work *work = job->after > conn->frames_acked ? NULL : verbs_work_take(conn->rails, 1 + qp);

	if (!work)
		return 0;
	if (size && !set_source(conn, work, part, &sge)) {
		verbs_work_give(port, work);
		return 0;
	}
	work->job = (int16_t)(job - conn->jobs);
	work->bytes = size;
	work->last = (uint16_t)last;
	status = verbs_post(conn->rails->data[qp], work, &wr);
	if (status) {
		verbs_fail(conn, status);
		return status;
	}
	part->at += size;
	if (last) {
		snti_list_remove(&part->link);
		job->posting--;
	}
	return 1;
}

int verbs_write(struct verbs_conn *conn)
{
	int did = 0;

	for (unsigned qp = 0; qp < conn->qps; qp++)
		while (conn->base.status >= 0 && !snti_list_empty(&conn->parts[qp])) {
			if (post_part(conn, qp, snti_container(conn->parts[qp].next, struct verbs_part, link)) <= 0)
				break;
			did++;
		}
	return did;
}

void verbs_written(struct verbs_conn *conn, struct verbs_work *work)
{
	struct verbs_job *job = &conn->jobs[work->job];
	struct snti_xfer *xfer = job->xfer;

	xfer->acked += work->bytes;
	if (!work->last)
		return;
	conn->pieces_sent++;
	if (--job->parts)
		return;
	forget_job(conn, job);
	if (xfer->acked == xfer->size)
		verbs_finish(conn, xfer, 0);
}
