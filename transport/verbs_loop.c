/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_loop.c - a queue pair of the port with itself, for the memory of GPUs: a read pushes what has arrived before it to where
 * the GPU sees it, and a write takes there what the processor has but must not copy.
 *
 * CUDA could copy, too, but may wait until the GPU's kernels are done; those of collectives wait for just this message.
 */
#include "transport/verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/settings.h"

#define READS 16                  /* under way at once */
#define WORD 64                   /* where what is read ends up; nobody looks at it */
#define COPY_MS 2000              /* a copy within the host takes microseconds */
#define HOPS 1
#define RNR_TIMER 12

enum { READ_DONE, COPY_DONE };    /* wr_id */

struct verbs_loop {
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	char *bytes;                    /* WORD, then what is copied */
	struct ibv_mr *mr;
	size_t room;
	struct snti_link settling;      /* of the xfers, the oldest first; @reads of them are posted */
	unsigned reads;
	int is_copying, broken;
	uint32_t psn;
};

/* ---- life ----------------------------------------------------------------- */

static int to_receive(struct verbs_port *port, struct verbs_loop *loop)
{
	const struct verbs_device *device = &port->device;
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RTR, .path_mtu = device->attr.active_mtu, .dest_qp_num = loop->qp->qp_num,
		.rq_psn = loop->psn, .max_dest_rd_atomic = 1, .min_rnr_timer = RNR_TIMER };

	attr.ah_attr.port_num = device->port;
	attr.ah_attr.dlid = device->attr.lid;
	attr.ah_attr.is_global = device->attr.link_layer == IBV_LINK_LAYER_ETHERNET;
	attr.ah_attr.grh.dgid = device->gid.gid;
	attr.ah_attr.grh.sgid_index = device->gid_index;
	attr.ah_attr.grh.hop_limit = HOPS;
	return verbs_calls.ibv_modify_qp(loop->qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
					 IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
}

static int join_ends(struct verbs_port *port, struct verbs_loop *loop)
{
	struct ibv_qp_attr init = { .qp_state = IBV_QPS_INIT, .port_num = port->device.port,
		.pkey_index = port->device.keys ? port->device.key_index[0] : 0,
		.qp_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE };
	struct ibv_qp_attr send = { .qp_state = IBV_QPS_RTS, .sq_psn = loop->psn, .timeout = verbs_ack_timeout(), .retry_cnt = 7,
		.rnr_retry = VERBS_RNR_RETRIES, .max_rd_atomic = 1 };
	int error = verbs_calls.ibv_modify_qp(loop->qp, &init, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);

	if (!error)
		error = to_receive(port, loop);
	if (!error)
		error = verbs_calls.ibv_modify_qp(loop->qp, &send, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
						  IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
	errno = error;
	return error;
}

static int fill_in(struct verbs_port *port, struct verbs_loop *loop)
{
	struct ibv_qp_init_attr attr = { .cap = { .max_send_wr = READS + 1, .max_send_sge = 1 }, .qp_type = IBV_QPT_RC };

	if (snti_random(&loop->psn, sizeof(loop->psn)))
		return -1;
	loop->psn &= 0xffffff;
	loop->room = snti_settings()->verbs_eager + WORD;
	loop->bytes = aligned_alloc(4096, (WORD + loop->room + 4095) & ~(size_t)4095);
	loop->mr = loop->bytes ? verbs_register(port->pd, loop->bytes, WORD + loop->room, IBV_ACCESS_LOCAL_WRITE |
						IBV_ACCESS_REMOTE_READ) : NULL;
	loop->cq = loop->mr ? verbs_calls.ibv_create_cq(port->device.context, READS + 1, NULL, NULL, 0) : NULL;
	attr.send_cq = attr.recv_cq = loop->cq;
	loop->qp = loop->cq ? verbs_calls.ibv_create_qp(port->pd, &attr) : NULL;
	return loop->qp ? join_ends(port, loop) : -1;
}

static void drop(struct verbs_loop *loop)
{
	while (!snti_list_empty(&loop->settling)) {
		struct snti_xfer *xfer = snti_container(loop->settling.next, struct snti_xfer, link);

		snti_list_remove(&xfer->link);
		xfer->status = SNT_ECANCELED;
	}
	if (loop->qp)
		verbs_calls.ibv_destroy_qp(loop->qp);
	if (loop->cq)
		verbs_calls.ibv_destroy_cq(loop->cq);
	if (loop->mr)
		verbs_calls.ibv_dereg_mr(loop->mr);
	free(loop->bytes);
	free(loop);
}

void verbs_loop_close(struct verbs_port *port)
{
	if (port->loop)
		drop(port->loop);
	port->loop = NULL;
}

/* One that broke is made anew: what it waited for has been told, and the port may have another address by now. */
int verbs_loop_open(struct verbs_port *port)
{
	struct verbs_loop *loop;

	if (port->loop && !port->loop->broken)
		return 0;
	verbs_loop_close(port);
	loop = calloc(1, sizeof(*loop));
	if (!loop)
		return snti_fail(SNT_ENOMEM, "verbs: no memory for a queue pair");
	snti_list_init(&loop->settling);
	if (fill_in(port, loop)) {
		int error = errno;

		drop(loop);
		return snti_fail(error == ENOMEM ? SNT_ELIMIT : SNT_EDEVICE, "verbs: %s makes no queue pair with itself, which memory of GPUs "
				 "needs: %s", port->device.name, strerror(error));
	}
	port->loop = loop;
	return 0;
}

/* ---- reads and writes ----------------------------------------------------- */

static int post(struct verbs_loop *loop, int number, enum ibv_wr_opcode opcode, struct ibv_sge *sge, const struct ibv_mr *mr,
		const void *at)
{
	struct ibv_send_wr wr = { .wr_id = (uint64_t)number, .sg_list = sge, .num_sge = 1, .opcode = opcode,
		.send_flags = IBV_SEND_SIGNALED }, *bad;

	wr.wr.rdma.remote_addr = (uintptr_t)at;
	wr.wr.rdma.rkey = mr->rkey;
	sge->lkey = loop->mr->lkey;
	return ibv_post_send(loop->qp, &wr, &bad);
}

static void fail_reads(struct verbs_loop *loop, int status)
{
	loop->broken = 1;
	loop->reads = 0;
	loop->is_copying = 0;
	while (!snti_list_empty(&loop->settling)) {
		struct snti_xfer *xfer = snti_container(loop->settling.next, struct snti_xfer, link);

		snti_list_remove(&xfer->link);
		xfer->status = status;
	}
}

static int read_one(struct verbs_port *port, const struct snti_xfer *xfer)
{
	struct verbs_loop *loop = port->loop;
	struct ibv_sge sge = { .addr = (uintptr_t)loop->bytes, .length = 1 };
	const struct verbs_region *region = verbs_pinned(port, xfer->data, 1);

	if (!region)
		return snti_fail(SNT_EINVAL, "verbs: memory of a GPU that is not pinned any more");
	if (post(loop, READ_DONE, IBV_WR_RDMA_READ, &sge, region->mr, xfer->data))
		return snti_fail(SNT_EDEVICE, "verbs: %s takes no read of a GPU's memory", port->device.name);
	loop->reads++;
	return 0;
}

/* Those that had to wait for others. */
static void read_more(struct verbs_port *port)
{
	struct verbs_loop *loop = port->loop;
	unsigned at = 0, had = loop->reads;

	snti_list_each(link, &loop->settling) {
		int status;

		if (loop->reads == READS)
			return;
		if (at++ < had)
			continue;
		status = read_one(port, snti_container(link, struct snti_xfer, link));
		if (status) {
			fail_reads(loop, status);
			return;
		}
	}
}

static void on_completion(struct verbs_port *port, const struct ibv_wc *wc)
{
	struct verbs_loop *loop = port->loop;
	struct snti_xfer *xfer;

	if (loop->broken)
		return;
	if (wc->status != IBV_WC_SUCCESS) {
		fail_reads(loop, snti_fail(SNT_EDEVICE, "verbs: %s does not reach the memory of a GPU: %s (%d, vendor 0x%x)",
					   port->device.name, verbs_calls.ibv_wc_status_str(wc->status), (int)wc->status,
					   wc->vendor_err));
		return;
	}
	if (wc->wr_id == COPY_DONE) {
		loop->is_copying = 0;
		return;
	}
	xfer = snti_container(loop->settling.next, struct snti_xfer, link);
	snti_list_remove(&xfer->link);
	xfer->status = 0;
	loop->reads--;
}

int verbs_loop_poll(struct verbs_port *port)
{
	struct verbs_loop *loop = port->loop;
	struct ibv_wc wc[READS + 1];
	int got;

	if (!loop || (!loop->reads && !loop->is_copying))
		return 0;
	got = ibv_poll_cq(loop->cq, READS + 1, wc);
	for (int i = 0; i < got; i++)
		on_completion(port, &wc[i]);
	if (got < 0)
		fail_reads(loop, snti_fail(SNT_EDEVICE, "verbs: a completion queue of %s cannot be read", port->device.name));
	if (!loop->broken)
		read_more(port);
	return got != 0;
}

int verbs_loop_is_busy(const struct verbs_port *port)
{
	return port->loop && (port->loop->reads || port->loop->is_copying);
}

int verbs_settle(struct snti_port *base, struct snti_xfer *xfer)
{
	struct verbs_port *port = (struct verbs_port *)base;
	int status = verbs_loop_open(port);

	if (!status && !verbs_pinned(port, xfer->data, 1))
		status = snti_fail(SNT_EINVAL, "verbs: memory of a GPU that is not pinned");
	if (status)
		return status;
	xfer->status = SNT_BUSY;
	snti_list_append(&port->loop->settling, &xfer->link);
	read_more(port);
	return xfer->status == SNT_BUSY ? 0 : xfer->status;
}

/* One work, from or to the bytes behind the word, until it is done: what it moves is small. */
static int do_now(struct verbs_port *port, enum ibv_wr_opcode opcode, const struct ibv_mr *mr, const void *at, size_t size)
{
	struct verbs_loop *loop = port->loop;
	struct ibv_sge sge = { .addr = (uintptr_t)loop->bytes + WORD, .length = (uint32_t)size };
	uint64_t deadline = snti_deadline_ms(COPY_MS);

	loop->is_copying = 1;
	if (post(loop, COPY_DONE, opcode, &sge, mr, at))
		fail_reads(loop, SNT_EDEVICE);
	while (loop->is_copying && !snti_is_past(deadline))
		verbs_loop_poll(port);
	if (!loop->is_copying && !loop->broken)
		return 0;
	fail_reads(loop, SNT_EDEVICE);
	return SNT_EDEVICE;
}

int verbs_loop_copy(struct verbs_port *port, void *to, const void *from, size_t size)
{
	const struct verbs_region *region = size ? verbs_pinned(port, to, size) : NULL;
	int status = size ? verbs_loop_open(port) : 0;

	if (status || !size)
		return status;
	if (!region || size > port->loop->room)
		return snti_fail(SNT_EINVAL, "verbs: %zu bytes of a GPU that are not pinned", size);
	memcpy(port->loop->bytes + WORD, from, size);
	if (!do_now(port, IBV_WR_RDMA_WRITE, region->mr, to, size))
		return 0;
	return snti_fail(SNT_EDEVICE, "verbs: %s does not copy %zu bytes into the memory of a GPU", port->device.name, size);
}

/* The word itself stands in for a GPU's memory. */
int verbs_loop_try(struct verbs_port *port)
{
	int status = verbs_loop_open(port);

	if (status)
		return status;
	if (!do_now(port, IBV_WR_RDMA_READ, port->loop->mr, port->loop->bytes, 1))
		return 0;
	return snti_fail(SNT_EDEVICE, "verbs: %s does not reach itself, which memory of GPUs needs", port->device.name);
}

/* Reads under way name memory that is about to go. */
void verbs_loop_drain(struct verbs_port *port)
{
	uint64_t deadline = snti_deadline_ms(COPY_MS);

	while (verbs_loop_is_busy(port) && !snti_is_past(deadline))
		verbs_loop_poll(port);
	if (verbs_loop_is_busy(port)) {
		fail_reads(port->loop, SNT_EDEVICE);
		verbs_loop_close(port);
	}
}
