/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_link.c - the queue pairs of a conn: made, connected, posted to, and what their errors mean. */
#include "transport/verbs.h"
#include "transport/verbs_cm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "base/settings.h"

#define RNR_TIMER 12              /* 0.64 ms */
#define TIMEOUT_MOST 17           /* 0.54 s a try: a link that flaps for 4 s does no harm */
#define TIMEOUT_LEAST 10
#define HOPS 64

/* ---- numbers to links --------------------------------------------------- */

static int grow_peers(struct verbs_port *port)
{
	unsigned space = port->peer_space ? 2 * port->peer_space : 64;
	struct verbs_peer *peers = calloc(space, sizeof(*peers));

	if (!peers)
		return snti_fail(SNT_ENOMEM, "verbs: no memory for %u queue pairs", space);
	for (unsigned i = 0; i < port->peer_space; i++)
		if (port->peers[i].link)
			*verbs_peer_place(peers, space, port->peers[i].number) = port->peers[i];
	free(port->peers);
	port->peers = peers;
	port->peer_space = space;
	return 0;
}

static int enter(struct verbs_link *link, uint32_t number)
{
	struct verbs_port *port = link->port;

	if (2 * (port->peer_count + 1) > port->peer_space && grow_peers(port))
		return SNT_ENOMEM;
	*verbs_peer_place(port->peers, port->peer_space, number) = (struct verbs_peer){ number, link };
	port->peer_count++;
	return 0;
}

/* Entries behind the gap move up, so that no search stops short. */
static void leave(struct verbs_port *port, uint32_t number)
{
	struct verbs_peer *gap = verbs_peer_place(port->peers, port->peer_space, number);
	unsigned at = (unsigned)(gap - port->peers);

	if (!gap->link)
		return;
	gap->link = NULL;
	port->peer_count--;
	for (at = (at + 1) & (port->peer_space - 1); port->peers[at].link; at = (at + 1) & (port->peer_space - 1)) {
		struct verbs_peer moved = port->peers[at];

		port->peers[at].link = NULL;
		*verbs_peer_place(port->peers, port->peer_space, moved.number) = moved;
	}
}

/* ---- making ------------------------------------------------------------- */

static const unsigned inline_sizes[] = { 220, 184, 128, 92, 64, 0 };

/* As much inline as the device has; it refuses what is too much instead of giving less. */
static struct ibv_qp *make_frame_qp(struct verbs_link *link)
{
	struct verbs_port *port = link->port;

	for (size_t i = 0; i < sizeof(inline_sizes) / sizeof(*inline_sizes); i++) {
		struct ibv_qp_init_attr attr = { .qp_context = link, .send_cq = port->cq, .recv_cq = port->cq, .srq = port->srq,
			.cap = { .max_send_wr = VERBS_FRAME_SENDS, .max_send_sge = 2, .max_inline_data = inline_sizes[i] },
			.qp_type = IBV_QPT_RC };
		struct ibv_qp *qp = verbs_calls.ibv_create_qp(port->frame_pd, &attr);

		if (qp) {
			link->inline_size = attr.cap.max_inline_data;
			return qp;
		}
	}
	return NULL;
}

/* It receives nothing but immediates, which need a place in the queue and no buffer. */
static struct ibv_qp *make_data_qp(struct verbs_link *link)
{
	struct verbs_port *port = link->port;
	struct ibv_qp_init_attr attr = { .qp_context = link, .send_cq = port->cq, .recv_cq = port->cq,
		.cap = { .max_send_wr = VERBS_DATA_SENDS, .max_send_sge = 1, .max_recv_wr = VERBS_SLOTS, .max_recv_sge = 1 },
		.qp_type = IBV_QPT_RC };

	return verbs_calls.ibv_create_qp(port->pd, &attr);
}

static int no_qp(const struct verbs_conn *conn)
{
	return snti_fail(errno == ENOMEM ? SNT_ELIMIT : SNT_EDEVICE, "verbs: %s makes no queue pair for rank %d: %s",
			 verbs_port_of(conn)->device.name, conn->base.peer, strerror(errno));
}

/* Filled in step by step, so that a half-made one can be destroyed. */
int verbs_link_make(struct verbs_conn *conn)
{
	struct verbs_link *link = calloc(1, sizeof(*link));

	if (!link)
		return snti_fail(SNT_ENOMEM, "verbs: no memory for queue pairs");
	snti_list_init(&link->link);
	link->port = verbs_port_of(conn);
	link->conn = conn;
	conn->rails = link;
	if (verbs_slab_add(link->port))
		return SNT_ELIMIT;
	link->slab = 1;
	if (verbs_slots_get(link))
		return SNT_ELIMIT;
	link->frames = make_frame_qp(link);
	if (!link->frames)
		return no_qp(conn);
	if (enter(link, link->frames->qp_num))
		return SNT_ENOMEM;
	while (link->qps < link->port->qps) {
		struct ibv_qp *qp = make_data_qp(link);

		if (!qp)
			return no_qp(conn);
		link->data[link->qps++] = qp;
		if (enter(link, qp->qp_num))
			return SNT_ENOMEM;
	}
	return 0;
}

/* ---- connecting --------------------------------------------------------- */

/* All tries together stay below half of the deadline, although devices may take twice as long for each. */
uint8_t verbs_ack_timeout(void)
{
	const struct snti_settings *settings = snti_settings();
	uint8_t exponent = TIMEOUT_MOST;

	if (settings->verbs_timeout)
		return (uint8_t)settings->verbs_timeout;
	while (exponent > TIMEOUT_LEAST && (UINT64_C(4096) << exponent) * 2 * (settings->verbs_retries + 1) > settings->timeout_ms * 1000000 / 2)
		exponent--;
	return exponent;
}

/* The flow label becomes the UDP source port of RoCE: each queue pair takes a path of its own. */
static void adjust_path(const struct verbs_path *path, const struct ibv_qp *qp, struct ibv_qp_attr *attr)
{
	if (path->mtu < attr->path_mtu)
		attr->path_mtu = path->mtu;
	if (path->level)
		attr->ah_attr.sl = path->level;
	if (path->traffic)
		attr->ah_attr.grh.traffic_class = path->traffic;
	if (path->rate)
		attr->ah_attr.static_rate = path->rate;
	attr->ah_attr.grh.flow_label = ((qp->qp_num ^ attr->dest_qp_num) * 0x9E3779B1u) >> 12;
	attr->min_rnr_timer = RNR_TIMER;
	attr->max_dest_rd_atomic = 1;
}

void verbs_link_adjust(const struct verbs_conn *conn, const struct ibv_qp *qp, struct ibv_qp_attr *attr)
{
	switch (attr->qp_state) {
	case IBV_QPS_INIT:
		attr->qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
		break;
	case IBV_QPS_RTR:
		adjust_path(&conn->path, qp, attr);
		break;
	default:
		attr->timeout = verbs_ack_timeout();
		attr->retry_cnt = (uint8_t)snti_settings()->verbs_retries;
		attr->rnr_retry = VERBS_RNR_RETRIES;
		attr->max_rd_atomic = 1;
	}
}

static int to_init(const struct verbs_conn *conn, struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = verbs_port_of(conn)->device.port,
		.pkey_index = conn->path.key_index };

	verbs_link_adjust(conn, qp, &attr);
	return verbs_calls.ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

static int to_receive(struct verbs_conn *conn, struct ibv_qp *qp, uint32_t theirs, uint32_t psn)
{
	const struct verbs_device *device = &verbs_port_of(conn)->device;
	int error, mask = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
		IBV_QP_MIN_RNR_TIMER;
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RTR, .path_mtu = conn->path.mtu, .dest_qp_num = theirs, .rq_psn = psn };

	attr.ah_attr.port_num = device->port;
	attr.ah_attr.dlid = (uint16_t)conn->theirs.lid;
	attr.ah_attr.is_global = device->attr.link_layer == IBV_LINK_LAYER_ETHERNET ||
		memcmp(conn->mine.gid, conn->theirs.gid, 8) != 0;
	memcpy(attr.ah_attr.grh.dgid.raw, conn->theirs.gid, sizeof(conn->theirs.gid));
	attr.ah_attr.grh.sgid_index = device->gid_index;
	attr.ah_attr.grh.hop_limit = HOPS;
	verbs_link_adjust(conn, qp, &attr);
	error = verbs_calls.ibv_modify_qp(qp, &attr, mask);
	if (!error || !attr.ah_attr.static_rate)
		return error;
	attr.ah_attr.static_rate = IBV_RATE_MAX;        /* not every device can be slowed down */
	return verbs_calls.ibv_modify_qp(qp, &attr, mask);
}

static int to_send(const struct verbs_conn *conn, struct ibv_qp *qp, uint32_t psn)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RTS, .sq_psn = psn };

	verbs_link_adjust(conn, qp, &attr);
	return verbs_calls.ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
					 IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

static int connect_qp(struct verbs_conn *conn, unsigned index)
{
	const struct verbs_card *mine = &conn->mine, *theirs = &conn->theirs;
	struct ibv_qp *qp = index ? conn->rails->data[index - 1] : conn->rails->frames;
	int error = to_init(conn, qp);

	if (error)
		return error;
	verbs_path_enhance(conn, qp, index);
	error = to_receive(conn, qp, index ? theirs->qp[index - 1] : theirs->frame_qp, index ? theirs->psn[index - 1] : theirs->frame_psn);
	return error ? error : to_send(conn, qp, index ? mine->psn[index - 1] : mine->frame_psn);
}

int verbs_link_connect(struct verbs_conn *conn)
{
	const struct verbs_card *theirs = &conn->theirs;
	struct verbs_link *link = conn->rails;
	int error = 0;

	for (unsigned i = 0; i <= conn->qps && !error; i++)
		error = connect_qp(conn, i);
	if (!error)
		return 0;

	char here[VERBS_GID_TEXT], there[VERBS_GID_TEXT];
	union ibv_gid gid;

	memcpy(gid.raw, theirs->gid, sizeof(gid.raw));
	return snti_fail(SNT_EDEVICE, "verbs: %s port %u does not connect a queue pair to rank %d, GID %s to %s: %s",
			 link->port->device.name, link->port->device.port, conn->base.peer,
			 verbs_gid_text(&link->port->device.gid.gid, here), verbs_gid_text(&gid, there), strerror(error));
}

/* ---- ending ------------------------------------------------------------- */

static void forget_works(struct verbs_link *link, unsigned qp)
{
	struct verbs_port *port = link->port;

	for (unsigned i = 0; link->out[qp] && i < VERBS_WORKS; i++)
		if (port->works[i].link == link && port->works[i].qp == qp)
			verbs_work_give(port, &port->works[i]);
}

static void destroy_qp(struct verbs_link *link, struct ibv_qp **qp, unsigned index)
{
	if (!*qp)
		return;
	leave(link->port, (*qp)->qp_num);
	verbs_cm_forget(link, index);
	verbs_calls.ibv_destroy_qp(*qp);
	*qp = NULL;
	forget_works(link, index);
}

void verbs_link_stop_data(struct verbs_link *link)
{
	for (unsigned i = 0; link && i < link->qps; i++)
		destroy_qp(link, &link->data[i], 1 + i);
}

/* In the error state first, as a queue pair may take completions with it that name shared receive buffers. */
void verbs_link_destroy(struct verbs_link *link)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };

	if (!link)
		return;
	verbs_link_stop_data(link);
	if (link->frames && !verbs_calls.ibv_modify_qp(link->frames, &attr, IBV_QP_STATE))
		verbs_harvest(link->port);
	destroy_qp(link, &link->frames, 0);
	verbs_slots_put(link);
	link->port->idle_slabs += (unsigned)link->slab;
	snti_list_remove(&link->link);
	free(link);
}

unsigned verbs_link_outstanding(const struct verbs_link *link)
{
	unsigned out = 0;

	for (unsigned i = 0; i <= link->qps; i++)
		out += link->out[i];
	return out;
}

/* ---- posting ------------------------------------------------------------ */

/* Its generation moves on, so that a completion that comes too late is nobody's. */
void verbs_work_give(struct verbs_port *port, struct verbs_work *work)
{
	if (work->buffer >= 0 && work->qp)
		verbs_block_give(&port->sending, work->buffer);
	else if (work->buffer >= 0)
		port->frame_stack[port->idle_frames++] = (unsigned char)work->buffer;
	work->link->out[work->qp]--;
	work->link = NULL;
	work->generation = (work->generation + 1) & 0x7fffffff;
	work->next = port->idle_work;
	port->idle_work = (uint32_t)(work - port->works);
}

int verbs_place_post(struct verbs_conn *conn, unsigned qp)
{
	struct ibv_recv_wr wr = { .wr_id = VERBS_NONE }, *bad;

	return ibv_post_recv(conn->rails->data[qp], &wr, &bad) ? SNT_EDEVICE : 0;
}

int verbs_not_posted(struct verbs_work *work, int error)
{
	const struct verbs_link *link = work->link;

	verbs_work_give(link->port, work);
	return snti_fail(SNT_EDEVICE, "verbs: %s takes no work for rank %d: %s", link->port->device.name,
			 link->conn ? link->conn->base.peer : -1, strerror(error));
}

/* ---- errors ------------------------------------------------------------- */

static const char *hint(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR:
	case IBV_WC_RESP_TIMEOUT_ERR:
		return "the peer or the path to it is gone: look at link, MTU and routes";
	case IBV_WC_RNR_RETRY_EXC_ERR:
		return "the peer takes no messages: it may be stopped";
	case IBV_WC_REM_ACCESS_ERR:
	case IBV_WC_REM_INV_REQ_ERR:
	case IBV_WC_REM_OP_ERR:
		return "the peer had given up the message, or its memory is gone";
	case IBV_WC_LOC_PROT_ERR:
	case IBV_WC_LOC_LEN_ERR:
		return "memory was freed while it was being sent or received";
	case IBV_WC_LOC_QP_OP_ERR:
		return "the port or its address is gone: look at the link";
	default:
		return "look at the device's log";
	}
}

static int status_of(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR:
	case IBV_WC_RESP_TIMEOUT_ERR:
	case IBV_WC_RNR_RETRY_EXC_ERR:
	case IBV_WC_REM_ACCESS_ERR:
	case IBV_WC_REM_INV_REQ_ERR:
	case IBV_WC_REM_OP_ERR:
		return SNT_EPEER;
	default:
		return SNT_EDEVICE;
	}
}

int verbs_link_error(struct verbs_link *link, const struct ibv_wc *wc)
{
	const struct verbs_device *device = &link->port->device;
	char here[VERBS_GID_TEXT], there[VERBS_GID_TEXT];
	union ibv_gid gid;

	memcpy(gid.raw, link->conn->theirs.gid, sizeof(gid.raw));
	return snti_fail(status_of(wc->status), "verbs: no connection to rank %d any more: %s (%d, vendor 0x%x) on %s port %u, GID %s "
			 "to %s, queue pair %u: %s", link->conn->base.peer, verbs_calls.ibv_wc_status_str(wc->status),
			 (int)wc->status, wc->vendor_err, device->name, device->port, verbs_gid_text(&device->gid.gid, here),
			 verbs_gid_text(&gid, there), wc->qp_num, hint(wc->status));
}
