/* SPDX-License-Identifier: BSD-3-Clause */
/* mock_qp.c - the mock's queue pairs and receive queues: states, and what is posted. */
#include "tests/mock_verbs/mock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct mock_qp *all_qps;
static uint32_t last_number = 16;

struct mock_qp *mock_qps(void)
{
	return all_qps;
}

/* ---- receive queues ----------------------------------------------------- */

static int push(struct mock_queue *queue, const struct ibv_recv_wr *wr)
{
	if (queue->count == queue->most || wr->num_sge > 1)
		return ENOMEM;
	queue->recvs[(queue->head + queue->count++) % queue->most] = (struct mock_recv){ wr->wr_id,
		wr->num_sge ? wr->sg_list[0] : (struct ibv_sge){ .length = 0 } };
	return 0;
}

static int post_recvs(struct mock_queue *queue, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	int error = 0;

	mock_lock();
	for (; wr && !error; wr = wr->next) {
		error = push(queue, wr);
		if (error)
			*bad = wr;
	}
	mock_unlock();
	return error;
}

int mock_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	return post_recvs(&((struct mock_srq *)(void *)srq)->queue, wr, bad);
}

int mock_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	*bad = wr;
	if (qp->srq || qp->state == IBV_QPS_RESET)
		return EINVAL;
	return post_recvs(&((struct mock_qp *)(void *)qp)->queue, wr, bad);
}

struct ibv_srq *ibv_create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *attr)
{
	struct mock_srq *srq = calloc(1, sizeof(*srq));

	if (!srq || (int)attr->attr.max_wr > mock_script()->max_srq_wr) {
		free(srq);
		errno = EINVAL;
		return NULL;
	}
	srq->ibv.context = pd->context;
	srq->ibv.pd = pd;
	srq->queue.most = attr->attr.max_wr;
	srq->queue.recvs = calloc(srq->queue.most, sizeof(*srq->queue.recvs));
	mock_script()->srqs++;
	return &srq->ibv;
}

int ibv_destroy_srq(struct ibv_srq *ibv)
{
	struct mock_srq *srq = (struct mock_srq *)(void *)ibv;

	if (srq->users)
		return EBUSY;
	free(srq->queue.recvs);
	free(srq);
	mock_script()->srqs--;
	return 0;
}

/* ---- life --------------------------------------------------------------- */

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	struct mock_qp *qp = NULL;

	errno = EINVAL;
	if (mock_strikes(&mock_script()->fail_qp))
		errno = ENOMEM;
	else if (attr->qp_type == IBV_QPT_RC && (int)attr->cap.max_inline_data <= mock_script()->max_inline)
		qp = calloc(1, sizeof(*qp));
	if (!qp)
		return NULL;
	qp->ibv.context = pd->context;
	qp->ibv.pd = pd;
	qp->ibv.send_cq = attr->send_cq;
	qp->ibv.recv_cq = attr->recv_cq;
	qp->ibv.srq = attr->srq;
	qp->ibv.qp_context = attr->qp_context;
	qp->ibv.qp_type = attr->qp_type;
	qp->ibv.state = IBV_QPS_RESET;
	qp->cap = attr->cap;
	qp->last = &qp->first;
	qp->last_ack = &qp->acks;
	qp->queue.most = attr->cap.max_recv_wr;
	qp->queue.recvs = calloc(qp->queue.most + 1, sizeof(*qp->queue.recvs));
	mock_lock();
	((struct mock_cq *)(void *)attr->send_cq)->users++;
	if (attr->srq)
		((struct mock_srq *)(void *)attr->srq)->users++;
	qp->ibv.qp_num = last_number++;
	qp->next = all_qps;
	all_qps = qp;
	mock_script()->qps++;
	mock_unlock();
	return &qp->ibv;
}

static void drop_works(struct mock_qp *qp)
{
	while (qp->first) {
		struct mock_work *work = qp->first;

		qp->first = work->next;
		free(work->in_line);
		free(work);
	}
	qp->last = &qp->first;
	while (qp->acks) {
		struct mock_ack *ack = qp->acks;

		qp->acks = ack->next;
		free(ack);
	}
	qp->last_ack = &qp->acks;
	while (qp->pieces) {
		struct mock_piece *piece = qp->pieces;

		qp->pieces = piece->next;
		free(piece);
	}
}

int ibv_destroy_qp(struct ibv_qp *ibv)
{
	struct mock_qp *qp = (struct mock_qp *)(void *)ibv, **at;

	if (qp->events)
		abort();        /* libibverbs waits here until they are acknowledged */
	mock_lock();
	mock_untell(ibv);
	for (at = &all_qps; *at != qp; at = &(*at)->next)
		;
	*at = qp->next;
	/* Some devices clean up, some leave completions behind. */
	if (!mock_script()->seed)
		mock_forget(ibv->send_cq, ibv->qp_num);
	((struct mock_cq *)(void *)ibv->send_cq)->users--;
	if (ibv->srq)
		((struct mock_srq *)(void *)ibv->srq)->users--;
	drop_works(qp);
	mock_script()->qps--;
	mock_unlock();
	free(qp->queue.recvs);
	free(qp);
	return 0;
}

/* The error state: everything that was posted comes back flushed, except from a shared queue. */
void mock_qp_break(struct mock_qp *qp)
{
	struct ibv_wc wc = { .status = IBV_WC_WR_FLUSH_ERR, .vendor_err = 0xf5, .qp_num = qp->ibv.qp_num };

	if (qp->ibv.state == IBV_QPS_ERR || qp->ibv.state == IBV_QPS_RESET)
		return;
	qp->ibv.state = IBV_QPS_ERR;
	mock_ack(qp, 1);
	for (struct mock_work *work = qp->first; work; work = work->next) {
		wc.wr_id = work->wr.wr_id;
		wc.wc_flags = 0x8000;
		mock_complete(qp->ibv.send_cq, &wc);
	}
	wc.wc_flags = 0;
	for (; qp->queue.count; qp->queue.count--) {
		wc.wr_id = qp->queue.recvs[qp->queue.head].id;
		qp->queue.head = (qp->queue.head + 1) % qp->queue.most;
		mock_complete(qp->ibv.recv_cq, &wc);
	}
	drop_works(qp);
}

void mock_break_qps(void)
{
	mock_lock();
	for (struct mock_qp *qp = all_qps; qp; qp = qp->next)
		mock_qp_break(qp);
	mock_unlock();
}

/* ---- enhancements ------------------------------------------------------- */

#define VENDOR 0x1f2e3d

int ibv_query_ece(struct ibv_qp *ibv, struct ibv_ece *ece)
{
	const struct mock_qp *qp = (const struct mock_qp *)(const void *)ibv;
	const struct mock_port *port = mock_port_of(ibv->context);

	if (!port->ece)
		return EOPNOTSUPP;
	*ece = (struct ibv_ece){ .vendor_id = VENDOR, .options = qp->ece ? qp->ece : port->ece };
	return 0;
}

/* Only before the queue pair receives does it change anything. */
int ibv_set_ece(struct ibv_qp *ibv, struct ibv_ece *ece)
{
	struct mock_qp *qp = (struct mock_qp *)(void *)ibv;
	const struct mock_port *port = mock_port_of(ibv->context);

	if (!port->ece || ece->vendor_id != VENDOR || (ibv->state != IBV_QPS_RESET && ibv->state != IBV_QPS_INIT))
		return EINVAL;
	qp->ece = ece->options & port->ece & ~port->ece_never;
	return 0;
}

/* ---- states ------------------------------------------------------------- */

static int to_init(struct mock_qp *qp, const struct ibv_qp_attr *attr, int mask)
{
	if (qp->ibv.state != IBV_QPS_RESET || mask != (IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS) ||
	    attr->port_num != 1 || attr->pkey_index >= mock_port_of(qp->ibv.context)->key_count)
		return EINVAL;
	qp->attr = *attr;
	return 0;
}

static int to_receive(struct mock_qp *qp, const struct ibv_qp_attr *attr, int mask)
{
	int wanted = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
		IBV_QP_MIN_RNR_TIMER;
	const struct mock_port *port = mock_port_of(qp->ibv.context);

	if (qp->ibv.state != IBV_QPS_INIT || mask != wanted || attr->path_mtu > port->mtu || attr->rq_psn > 0xffffff)
		return EINVAL;
	if (port->no_rates && attr->ah_attr.static_rate)
		return EINVAL;
	if (port->link_layer == IBV_LINK_LAYER_ETHERNET && (!attr->ah_attr.is_global ||
	    attr->ah_attr.grh.sgid_index >= port->gid_count))
		return EINVAL;
	qp->attr.path_mtu = attr->path_mtu;
	qp->attr.dest_qp_num = attr->dest_qp_num;
	qp->attr.rq_psn = attr->rq_psn;
	qp->attr.ah_attr = attr->ah_attr;
	return 0;
}

static int to_send(struct mock_qp *qp, const struct ibv_qp_attr *attr, int mask)
{
	int wanted = IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC;

	if (qp->ibv.state != IBV_QPS_RTR || mask != wanted || attr->sq_psn > 0xffffff || attr->retry_cnt > 7 || !attr->timeout)
		return EINVAL;
	qp->attr.sq_psn = attr->sq_psn;
	return 0;
}

int ibv_modify_qp(struct ibv_qp *ibv, struct ibv_qp_attr *attr, int mask)
{
	struct mock_qp *qp = (struct mock_qp *)(void *)ibv;
	int error = 0;

	mock_lock();
	if (mock_strikes(&mock_script()->fail_modify))
		error = ETIMEDOUT;
	else if (attr->qp_state == IBV_QPS_INIT)
		error = to_init(qp, attr, mask);
	else if (attr->qp_state == IBV_QPS_RTR)
		error = to_receive(qp, attr, mask);
	else if (attr->qp_state == IBV_QPS_RTS)
		error = to_send(qp, attr, mask);
	else
		mock_qp_break(qp);
	if (!error)
		ibv->state = attr->qp_state;
	mock_unlock();
	return error;
}

/* ---- sends -------------------------------------------------------------- */

void mock_unuse(uint32_t number)
{
	for (struct mock_qp *qp = all_qps; qp; qp = qp->next)
		if (qp->ibv.qp_num == number)
			qp->used--;
}

static int capture(struct mock_work *work, const struct ibv_send_wr *wr, unsigned most)
{
	size_t at = 0;

	work->wr = *wr;
	for (int i = 0; i < wr->num_sge; i++) {
		work->sge[i] = wr->sg_list[i];
		work->size += wr->sg_list[i].length;
	}
	if (!(wr->send_flags & IBV_SEND_INLINE))
		return 0;
	if (work->size > most)
		return ENOMEM;
	work->in_line = malloc(work->size + 1);
	for (int i = 0; work->in_line && i < wr->num_sge; i++) {
		memcpy(work->in_line + at, (const void *)(uintptr_t)wr->sg_list[i].addr, wr->sg_list[i].length);
		at += wr->sg_list[i].length;
	}
	mock_script()->in_line++;
	return 0;
}

static void count(const struct mock_qp *qp, struct mock_work *work)
{
	struct mock_script *script = mock_script();
	int writes = work->wr.opcode != IBV_WR_SEND, requests = writes && qp->ibv.srq;

	script->sends += !writes;
	script->writes += work->wr.opcode == IBV_WR_RDMA_WRITE;
	script->requests += (unsigned)requests;
	script->immediates += work->wr.opcode == IBV_WR_RDMA_WRITE_WITH_IMM && !requests;
	if (mock_strikes(&script->fail_send) || (requests && mock_strikes(&script->fail_request)) ||
	    (writes && !requests && mock_strikes(&script->fail_write)))
		work->fails = script->status;
}

int mock_post_send(struct ibv_qp *ibv, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct mock_qp *qp = (struct mock_qp *)(void *)ibv;
	struct mock_work *work = calloc(1, sizeof(*work));
	int error = work ? 0 : ENOMEM;

	*bad = wr;
	mock_lock();
	if (wr->next || (unsigned)wr->num_sge > qp->cap.max_send_sge || ibv->state < IBV_QPS_RTS ||
	    !(wr->send_flags & IBV_SEND_SIGNALED))
		error = EINVAL;
	else if (qp->used == qp->cap.max_send_wr)
		error = ENOMEM;
	if (!error)
		error = capture(work, wr, qp->cap.max_inline_data);
	if (error) {
		free(work);
	} else {
		count(qp, work);
		qp->used++;
		*qp->last = work;
		qp->last = &work->next;
		if (ibv->state == IBV_QPS_ERR) {
			ibv->state = IBV_QPS_SQE;       /* so that what was just posted is flushed, too */
			mock_qp_break(qp);
		} else if (!mock_script()->seed || mock_any_armed()) {
			mock_move();
		}
	}
	mock_unlock();
	return error;
}
