/* SPDX-License-Identifier: BSD-3-Clause */
/* mock_cq.c - the mock's completion queues and channels. */
#include "tests/mock_verbs/mock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int armed;

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *context)
{
	struct mock_channel *channel = calloc(1, sizeof(*channel));

	if (!channel)
		return NULL;
	channel->ibv.context = context;
	channel->ibv.fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	mock_count(&mock_script()->channels, 1);
	return &channel->ibv;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *ibv)
{
	close(ibv->fd);
	free((struct mock_channel *)(void *)ibv);
	mock_count(&mock_script()->channels, -1);
	return 0;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *context, int cqe, void *user, struct ibv_comp_channel *channel, int vector)
{
	struct mock_cq *cq;

	(void)vector;
	errno = EINVAL;
	cq = cqe > 0 && cqe <= mock_script()->max_cqe ? calloc(1, sizeof(*cq)) : NULL;
	if (!cq)
		return NULL;
	cq->ibv.context = context;
	cq->ibv.channel = channel;
	cq->ibv.cq_context = user;
	cq->ibv.cqe = cqe;
	cq->wcs = calloc((size_t)cqe, sizeof(*cq->wcs));
	mock_count(&mock_script()->cqs, 1);
	return &cq->ibv;
}

int ibv_resize_cq(struct ibv_cq *ibv, int cqe)
{
	struct mock_cq *cq = (struct mock_cq *)(void *)ibv;
	struct ibv_wc *wcs;

	if (mock_script()->no_resize || cqe > mock_script()->max_cqe || (unsigned)cqe < cq->count)
		return EINVAL;
	mock_lock();
	wcs = calloc((size_t)cqe, sizeof(*wcs));
	for (unsigned i = 0; i < cq->count; i++)
		wcs[i] = cq->wcs[(cq->head + i) % (unsigned)ibv->cqe];
	free(cq->wcs);
	cq->wcs = wcs;
	cq->head = 0;
	ibv->cqe = cqe;
	mock_unlock();
	return 0;
}

int ibv_destroy_cq(struct ibv_cq *ibv)
{
	struct mock_cq *cq = (struct mock_cq *)(void *)ibv;

	if (cq->users)
		return EBUSY;
	free(cq->wcs);
	free(cq);
	mock_count(&mock_script()->cqs, -1);
	return 0;
}

static void wake(struct mock_cq *cq)
{
	struct mock_channel *channel = (struct mock_channel *)(void *)cq->ibv.channel;
	uint64_t one = 1;

	if (!cq->armed || !channel)
		return;
	cq->armed = 0;
	armed--;
	channel->events[channel->tail++ % 64] = &cq->ibv;
	(void)!write(channel->ibv.fd, &one, sizeof(one));
}

void mock_complete(struct ibv_cq *ibv, const struct ibv_wc *wc)
{
	struct mock_cq *cq = (struct mock_cq *)(void *)ibv;

	if (cq->count == (unsigned)ibv->cqe) {
		mock_script()->overruns++;
		if (!cq->broken)
			mock_tell(ibv->context, IBV_EVENT_CQ_ERR, ibv);
		cq->broken = 1;
		return;
	}
	cq->wcs[(cq->head + cq->count++) % (unsigned)ibv->cqe] = *wc;
	wake(cq);
}

/* As some devices do when a queue pair is destroyed: its completions go with it. */
void mock_forget(struct ibv_cq *ibv, uint32_t qp)
{
	struct mock_cq *cq = (struct mock_cq *)(void *)ibv;
	unsigned kept = 0;

	for (unsigned i = 0; i < cq->count; i++) {
		struct ibv_wc wc = cq->wcs[(cq->head + i) % (unsigned)ibv->cqe];

		if (wc.qp_num != qp)
			cq->wcs[(cq->head + kept++) % (unsigned)ibv->cqe] = wc;
	}
	cq->count = kept;
}

int mock_poll_cq(struct ibv_cq *ibv, int count, struct ibv_wc *wc)
{
	struct mock_cq *cq = (struct mock_cq *)(void *)ibv;
	int got = 0;

	mock_lock();
	mock_move();
	for (; got < count && cq->count; got++) {
		wc[got] = cq->wcs[cq->head];
		cq->head = (cq->head + 1) % (unsigned)ibv->cqe;
		cq->count--;
		if (wc[got].wc_flags & 0x8000)
			mock_unuse(wc[got].qp_num);
		/* With an error only these mean anything. */
		if (wc[got].status != IBV_WC_SUCCESS) {
			wc[got].opcode = (enum ibv_wc_opcode)0x55;
			wc[got].byte_len = 0xdeadbeef;
			wc[got].imm_data = 0xdeadbeef;
		}
		wc[got].wc_flags &= 0x7fffu;
	}
	mock_unlock();
	return cq->broken ? -1 : got;
}

int mock_req_notify(struct ibv_cq *ibv, int solicited)
{
	struct mock_cq *cq = (struct mock_cq *)(void *)ibv;

	(void)solicited;
	mock_lock();
	armed += !cq->armed;
	cq->armed = 1;
	mock_move();
	mock_unlock();
	return 0;
}

int mock_any_armed(void)
{
	return armed > 0;
}

int ibv_get_cq_event(struct ibv_comp_channel *ibv, struct ibv_cq **cq, void **user)
{
	struct mock_channel *channel = (struct mock_channel *)(void *)ibv;
	uint64_t one;

	if (read(ibv->fd, &one, sizeof(one)) != sizeof(one))
		return -1;
	mock_lock();
	*cq = channel->events[channel->head++ % 64];
	mock_unlock();
	*user = (*cq)->cq_context;
	return 0;
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int count)
{
	cq->comp_events_completed += count;
}
