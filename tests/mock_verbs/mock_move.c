/* SPDX-License-Identifier: BSD-3-Clause */
/* mock_move.c - the mock's fabric: what was posted reaches the other queue pair, its memory, its completions. */
#include "tests/mock_verbs/mock.h"

#include <stdlib.h>
#include <string.h>

#define GONE_MS 100               /* until a queue pair that does not answer is given up */
#define RNR_MS 1000
#define PIECE 1536

/* Written into the memory of GPUs, and not seen there yet; the newest first, as if it were overtaken. */
static struct mock_piece *lagging;

static void take_piece(struct mock_piece **at)
{
	struct mock_piece *piece = *at;

	*at = piece->next;
	memcpy(piece->to, piece->bytes, piece->size);
	free(piece);
}

/* Bytes that are on their way appear: all before a completion, or some at any time, in any order. */
void mock_place(struct mock_qp *qp, int all)
{
	while (qp->pieces && (all || mock_random() % 4)) {
		struct mock_piece **at = &qp->pieces;

		for (uint64_t skip = mock_script()->seed ? mock_random() % 4 : 0; skip && (*at)->next; skip--)
			at = &(*at)->next;
		take_piece(at);
	}
}

void mock_settle(void)
{
	while (lagging)
		take_piece(&lagging);
}

static void place_later(struct mock_piece **pieces, char *at, const unsigned char *bytes, size_t size)
{
	while (size) {
		size_t part = size < PIECE ? size : PIECE;
		struct mock_piece *piece = malloc(sizeof(*piece) + part);

		piece->to = at;
		piece->size = part;
		memcpy(piece->bytes, bytes, part);
		piece->next = *pieces;
		*pieces = piece;
		at += part;
		bytes += part;
		size -= part;
	}
}

/* In one partition, and not both as limited members. */
static int hear_each_other(const struct mock_qp *a, const struct mock_qp *b)
{
	uint16_t one = mock_port_of(a->ibv.context)->keys[a->attr.pkey_index], other = mock_port_of(b->ibv.context)->keys[b->attr.pkey_index];

	return ((one ^ other) & 0x7fff) == 0 && ((one | other) & 0x8000);
}

static struct mock_qp *other_side(const struct mock_qp *qp)
{
	struct mock_qp *to = mock_qps();
	const struct mock_port *port;

	while (to && to->ibv.qp_num != qp->attr.dest_qp_num)
		to = to->next;
	if (mock_script()->cut || !to || (to->ibv.state != IBV_QPS_RTR && to->ibv.state != IBV_QPS_RTS) ||
	    to->attr.dest_qp_num != qp->ibv.qp_num || to->attr.rq_psn != qp->attr.sq_psn || to->attr.path_mtu != qp->attr.path_mtu ||
	    !hear_each_other(qp, to))
		return NULL;
	port = mock_port_of(to->ibv.context);
	if (port->state != IBV_PORT_ACTIVE || mock_port_of(qp->ibv.context)->state != IBV_PORT_ACTIVE)
		return NULL;
	if (port->link_layer != IBV_LINK_LAYER_ETHERNET)
		return to;
	/* The address has to be one of the other port, of the kind that this side's is. */
	for (int i = 0; i < port->gid_count; i++)
		if (!memcmp(port->gids[i].gid.raw, qp->attr.ah_attr.grh.dgid.raw, 16) && port->gids[i].gid_type ==
		    mock_port_of(qp->ibv.context)->gids[qp->attr.ah_attr.grh.sgid_index].gid_type)
			return to;
	return NULL;
}

static int pop(struct mock_qp *to, struct mock_recv *recv)
{
	struct mock_queue *queue = to->ibv.srq ? &((struct mock_srq *)(void *)to->ibv.srq)->queue : &to->queue;

	if (!queue->count)
		return 0;
	*recv = queue->recvs[queue->head];
	queue->head = (queue->head + 1) % queue->most;
	queue->count--;
	return 1;
}

static int has_place(const struct mock_qp *to)
{
	return to->ibv.srq ? ((const struct mock_srq *)(const void *)to->ibv.srq)->queue.count > 0 : to->queue.count > 0;
}

/* The bytes as they are now; NULL: the keys do not allow it. */
static unsigned char *fetch(const struct mock_qp *qp, const struct mock_work *work)
{
	unsigned char *bytes = malloc(work->size + 1);
	size_t at = 0;

	if (work->in_line) {
		memcpy(bytes, work->in_line, work->size);
		return bytes;
	}
	for (int i = 0; i < work->wr.num_sge; i++) {
		const struct mock_mr *mr = mock_find_mr(qp->ibv.pd, work->sge[i].lkey, work->sge[i].addr, work->sge[i].length);

		if (!mr) {
			free(bytes);
			return NULL;
		}
		memcpy(bytes + at, mock_at(mr, work->sge[i].addr), work->sge[i].length);
		at += work->sge[i].length;
	}
	return bytes;
}

/* Pushes what the device has written before it. */
static enum ibv_wc_status read_from(struct mock_qp *qp, struct mock_qp *to, const struct mock_work *work)
{
	uint64_t at = work->wr.wr.rdma.remote_addr;
	const struct mock_mr *mr = mock_find_mr(to->ibv.pd, work->wr.wr.rdma.rkey, at, work->size);
	const struct mock_mr *into = mock_find_mr(qp->ibv.pd, work->sge[0].lkey, work->sge[0].addr, work->size);

	if (!mr || !(mr->access & to->attr.qp_access_flags & IBV_ACCESS_REMOTE_READ))
		return IBV_WC_REM_ACCESS_ERR;
	if (!into || !(into->access & IBV_ACCESS_LOCAL_WRITE))
		return IBV_WC_LOC_PROT_ERR;
	mock_settle();
	memcpy(mock_at(into, work->sge[0].addr), mock_at(mr, at), work->size);
	return IBV_WC_SUCCESS;
}

static enum ibv_wc_status write_to(struct mock_qp *to, const struct mock_work *work, const unsigned char *bytes)
{
	uint64_t at = work->wr.wr.rdma.remote_addr;
	const struct mock_mr *mr = work->size ? mock_find_mr(to->ibv.pd, work->wr.wr.rdma.rkey, at, work->size) : NULL;

	if (!work->size)
		return IBV_WC_SUCCESS;
	if (!mr || mr->ibv.rkey != work->wr.wr.rdma.rkey || !(mr->access & to->attr.qp_access_flags & IBV_ACCESS_REMOTE_WRITE)) {
		mock_tell(to->ibv.context, IBV_EVENT_QP_ACCESS_ERR, &to->ibv);
		return IBV_WC_REM_ACCESS_ERR;
	}
	if (to->ibv.srq && mr->ibv.length > mock_script()->frame_reach)
		mock_script()->frame_reach = mr->ibv.length;
	if (mock_script()->lags && mr->view)
		place_later(&lagging, mock_at(mr, at), bytes, work->size);
	else if (mock_script()->seed)
		place_later(&to->pieces, mock_at(mr, at), bytes, work->size);
	else
		memcpy(mock_at(mr, at), bytes, work->size);
	return IBV_WC_SUCCESS;
}

static enum ibv_wc_status receive(struct mock_qp *to, const struct mock_work *work, const unsigned char *bytes)
{
	int sent = work->wr.opcode == IBV_WR_SEND;
	struct ibv_wc wc = { .status = IBV_WC_SUCCESS, .opcode = sent ? IBV_WC_RECV : IBV_WC_RECV_RDMA_WITH_IMM,
		.qp_num = to->ibv.qp_num, .byte_len = (uint32_t)work->size };
	struct mock_recv recv = { .id = 0 };
	const struct mock_mr *mr;

	pop(to, &recv);
	wc.wr_id = recv.id;
	mock_place(to, 1);
	if (sent) {
		mr = mock_find_mr(to->ibv.pd, recv.sge.lkey, recv.sge.addr, recv.sge.length);
		if (!mr || !(mr->access & IBV_ACCESS_LOCAL_WRITE) || work->size > recv.sge.length)
			return IBV_WC_REM_INV_REQ_ERR;
		memcpy((void *)(uintptr_t)recv.sge.addr, bytes, work->size);
	} else {
		wc.wc_flags = IBV_WC_WITH_IMM;
		wc.imm_data = work->wr.imm_data;
	}
	mock_complete(to->ibv.recv_cq, &wc);
	return IBV_WC_SUCCESS;
}

static void count_carried(int device, size_t size)
{
	struct mock_script *script = mock_script();

	script->carried[device] += size;
	if (!script->down_after[device] || script->carried[device] < script->down_after[device])
		return;
	script->down_after[device] = 0;
	script->port[device].state = IBV_PORT_DOWN;
	mock_tell_device(device, IBV_EVENT_PORT_ERR);
}

static enum ibv_wc_status carry(struct mock_qp *qp, struct mock_qp *to, const struct mock_work *work)
{
	unsigned char *bytes;
	enum ibv_wc_status status;

	if (work->wr.opcode == IBV_WR_RDMA_READ)
		return read_from(qp, to, work);
	bytes = fetch(qp, work);
	status = bytes ? IBV_WC_SUCCESS : IBV_WC_LOC_PROT_ERR;

	if (bytes && work->wr.opcode != IBV_WR_SEND)
		status = write_to(to, work, bytes);
	if (status == IBV_WC_SUCCESS && work->wr.opcode != IBV_WR_RDMA_WRITE)
		status = receive(to, work, bytes);
	free(bytes);
	if (status == IBV_WC_SUCCESS)
		count_carried(((const struct mock_context *)(const void *)qp->ibv.context)->device, work->size);
	return status;
}

/* IBV_WC_GENERAL_ERR: not yet. */
static enum ibv_wc_status try_work(struct mock_qp *qp, struct mock_work *work)
{
	struct mock_qp *to = other_side(qp);
	int needs_place = work->wr.opcode != IBV_WR_RDMA_WRITE && work->wr.opcode != IBV_WR_RDMA_READ;
	int waits_for_place = to && needs_place && !has_place(to);

	if (work->fails)
		return work->fails;
	if (to && !waits_for_place)
		return carry(qp, to, work);
	if (!work->give_up) {
		mock_script()->rnr += (unsigned)waits_for_place;
		work->give_up = mock_now_ms() + (to ? RNR_MS : GONE_MS);
	}
	if (mock_now_ms() < work->give_up)
		return IBV_WC_GENERAL_ERR;
	return to ? IBV_WC_RNR_RETRY_EXC_ERR : IBV_WC_RETRY_EXC_ERR;
}

void mock_ack(struct mock_qp *qp, int all)
{
	while (qp->acks && (all || mock_random() % 4 == 0)) {
		struct mock_ack *ack = qp->acks;

		qp->acks = ack->next;
		mock_complete(qp->ibv.send_cq, &ack->wc);
		free(ack);
	}
	if (!qp->acks)
		qp->last_ack = &qp->acks;
}

static void ack_later(struct mock_qp *qp, const struct ibv_wc *wc)
{
	struct mock_ack *ack = calloc(1, sizeof(*ack));

	ack->wc = *wc;
	*qp->last_ack = ack;
	qp->last_ack = &ack->next;
}

/* Its oldest work. 1: done. */
static int step(struct mock_qp *qp)
{
	struct mock_work *work = qp->first;
	struct ibv_wc wc = { .opcode = IBV_WC_SEND, .qp_num = qp->ibv.qp_num, .wc_flags = 0x8000 };

	if (!work || qp->ibv.state != IBV_QPS_RTS)
		return 0;
	wc.status = try_work(qp, work);
	if (wc.status == IBV_WC_GENERAL_ERR)
		return 0;
	wc.wr_id = work->wr.wr_id;
	wc.vendor_err = wc.status == IBV_WC_SUCCESS ? 0 : work->fails ? mock_script()->vendor : 0x81;
	qp->first = work->next;
	if (!qp->first)
		qp->last = &qp->first;
	free(work->in_line);
	free(work);
	ack_later(qp, &wc);
	if (wc.status != IBV_WC_SUCCESS)
		mock_qp_break(qp);
	else if (!mock_script()->seed)
		mock_ack(qp, 1);
	return 1;
}

void mock_move(void)
{
	int all = !mock_script()->seed || mock_any_armed(), moved = 1;

	while (moved) {
		moved = 0;
		for (struct mock_qp *qp = mock_qps(); qp; qp = qp->next) {
			if (!all && mock_random() % 3)
				continue;
			moved += step(qp);
			mock_ack(qp, all);
			if (!all)
				mock_place(qp, 0);
		}
		if (!all)
			break;
	}
}
