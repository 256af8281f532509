/* SPDX-License-Identifier: BSD-3-Clause */
/* rdmacm.c - a librdmacm over the mock's devices: addresses are those of their GIDs, listeners are in this process. */
#include "tests/mock_verbs/mock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rdma/rdma_cma.h>

#define PRIVATE 56                /* bytes of private data that a request always carries */

struct mock_cm_event {
	struct rdma_cm_event cm;
	struct mock_cm_event *next;
	unsigned char private[PRIVATE];
};

struct mock_cm_channel {
	struct rdma_event_channel cm;
	struct mock_cm_event *first, **last;
};

struct mock_cm_id {
	struct rdma_cm_id cm;
	struct mock_cm_id *next, *peer;
	int listens, gid_index, events;
	uint32_t psn, number, their_psn, their_number;  /* of the queue pairs */
	uint8_t class;
};

static struct mock_cm_id *ids;
static uint16_t last_port = 20000;
static uint32_t last_psn = 777;

static struct mock_cm_id *of(struct rdma_cm_id *id)
{
	return (struct mock_cm_id *)(void *)id;
}

/* ---- events ------------------------------------------------------------- */

struct rdma_event_channel *rdma_create_event_channel(void)
{
	struct mock_cm_channel *channel = calloc(1, sizeof(*channel));

	channel->cm.fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	channel->last = &channel->first;
	mock_script()->channels++;
	return &channel->cm;
}

void rdma_destroy_event_channel(struct rdma_event_channel *channel)
{
	if (((struct mock_cm_channel *)(void *)channel)->first)
		abort();        /* of ids that should be gone */
	close(channel->fd);
	free(channel);
	mock_script()->channels--;
}

/* Instead of what should happen, what the script wants. */
static struct mock_cm_event *tell(struct mock_cm_id *id, enum rdma_cm_event_type type)
{
	struct mock_cm_channel *channel = (struct mock_cm_channel *)(void *)id->cm.channel;
	struct mock_cm_event *event = calloc(1, sizeof(*event));
	uint64_t one = 1;

	event->cm = (struct rdma_cm_event){ .id = &id->cm, .event = type };
	event->cm.param.conn.private_data = event->private;
	event->cm.param.conn.private_data_len = PRIVATE;
	*channel->last = event;
	channel->last = &event->next;
	(void)!write(channel->cm.fd, &one, sizeof(one));
	return event;
}

static void happen(struct mock_cm_id *id, enum rdma_cm_event_type type)
{
	if (mock_script()->cm_instead && mock_script()->cm_instead_of == (int)type)
		tell(id, (enum rdma_cm_event_type)mock_script()->cm_instead)->cm.status = -ETIMEDOUT;
	else
		tell(id, type);
}

int rdma_get_cm_event(struct rdma_event_channel *ibv, struct rdma_cm_event **out)
{
	struct mock_cm_channel *channel = (struct mock_cm_channel *)(void *)ibv;
	struct mock_cm_event *event = channel->first;
	uint64_t one;

	if (read(ibv->fd, &one, sizeof(one)) != sizeof(one))
		return -1;
	if (!event) {
		errno = EAGAIN;
		return -1;
	}
	channel->first = event->next;
	if (!channel->first)
		channel->last = &channel->first;
	of(event->cm.id)->events++;
	*out = &event->cm;
	return 0;
}

int rdma_ack_cm_event(struct rdma_cm_event *event)
{
	of(event->id)->events--;
	memset(event, 0x5a, sizeof(struct mock_cm_event));
	free(event);
	return 0;
}

const char *rdma_event_str(enum rdma_cm_event_type type)
{
	return type == RDMA_CM_EVENT_REJECTED ? "rejected" : type == RDMA_CM_EVENT_UNREACHABLE ? "unreachable" : "event of the mock";
}

/* ---- ids ---------------------------------------------------------------- */

int rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **out, void *context, enum rdma_port_space space)
{
	struct mock_cm_id *id = calloc(1, sizeof(*id));

	id->cm.channel = channel;
	id->cm.context = context;
	id->cm.ps = space;
	id->psn = last_psn += 11;
	id->next = ids;
	ids = id;
	mock_script()->cm_ids++;
	*out = &id->cm;
	return 0;
}

static void drop_events(struct mock_cm_id *id)
{
	struct mock_cm_channel *channel = (struct mock_cm_channel *)(void *)id->cm.channel;

	for (struct mock_cm_event **at = &channel->first; *at;) {
		struct mock_cm_event *event = *at;

		if (event->cm.id != &id->cm) {
			at = &event->next;
			continue;
		}
		*at = event->next;
		free(event);
	}
	channel->last = &channel->first;
	while (*channel->last)
		channel->last = &(*channel->last)->next;
}

/* With a listener go the requests that nobody has looked at. */
static struct rdma_cm_id *unseen_request(const struct mock_cm_id *listener)
{
	struct mock_cm_event *event = ((struct mock_cm_channel *)(void *)listener->cm.channel)->first;

	while (event && (event->cm.event != RDMA_CM_EVENT_CONNECT_REQUEST || event->cm.listen_id != &listener->cm))
		event = event->next;
	return event ? event->cm.id : NULL;
}

int rdma_destroy_id(struct rdma_cm_id *cm)
{
	struct mock_cm_id *id = of(cm), **at = &ids;

	if (id->events)
		abort();        /* librdmacm waits here until they are acknowledged */
	for (struct rdma_cm_id *request = NULL; id->listens && (request = unseen_request(id));)
		rdma_destroy_id(request);
	while (*at != id)
		at = &(*at)->next;
	*at = id->next;
	drop_events(id);
	if (id->peer) {
		id->peer->peer = NULL;
		if (id->peer->number)
			tell(id->peer, RDMA_CM_EVENT_DISCONNECTED);
	}
	if (cm->verbs)
		ibv_close_device(cm->verbs);
	mock_script()->cm_ids--;
	free(id);
	return 0;
}

/* The device that has this address, opened: 0, or there is none. */
static int bind_to(struct mock_cm_id *id, const struct sockaddr *address)
{
	int count;
	struct ibv_device **list = ibv_get_device_list(&count);
	unsigned char gid[16] = { [10] = 0xff, [11] = 0xff };

	memcpy(gid + 12, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
	for (int i = 0; i < count && !id->cm.verbs; i++)
		for (int k = 0; k < mock_script()->port[i].gid_count && !id->cm.verbs; k++) {
			const struct ibv_gid_entry *entry = &mock_script()->port[i].gids[k];

			if (entry->gid_type != IBV_GID_TYPE_ROCE_V2 || memcmp(entry->gid.raw, gid, 16))
				continue;
			id->cm.verbs = ibv_open_device(list[i]);
			id->gid_index = k;
			id->cm.port_num = 1;
		}
	ibv_free_device_list(list);
	memcpy(&id->cm.route.addr.src_sin, address, sizeof(struct sockaddr_in));
	return id->cm.verbs ? 0 : -1;
}

int rdma_bind_addr(struct rdma_cm_id *id, struct sockaddr *address)
{
	errno = EADDRNOTAVAIL;
	return address->sa_family == AF_INET ? bind_to(of(id), address) : -1;
}

int rdma_listen(struct rdma_cm_id *id, int backlog)
{
	(void)backlog;
	of(id)->listens = 1;
	id->route.addr.src_sin.sin_port = htons(++last_port);
	return 0;
}

__be16 rdma_get_src_port(struct rdma_cm_id *id)
{
	return id->route.addr.src_sin.sin_port;
}

int rdma_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t size)
{
	if (level == RDMA_OPTION_ID && name == RDMA_OPTION_ID_TOS && size == 1)
		of(id)->class = *(uint8_t *)value;
	return 0;
}

int rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to, int timeout_ms)
{
	(void)timeout_ms;
	errno = EADDRNOTAVAIL;
	if (bind_to(of(id), from))
		return -1;
	memcpy(&id->route.addr.dst_sin, to, sizeof(struct sockaddr_in));
	happen(of(id), RDMA_CM_EVENT_ADDR_RESOLVED);
	return 0;
}

int rdma_resolve_route(struct rdma_cm_id *id, int timeout_ms)
{
	(void)timeout_ms;
	happen(of(id), RDMA_CM_EVENT_ROUTE_RESOLVED);
	return 0;
}

/* ---- connecting --------------------------------------------------------- */

static struct mock_cm_id *find_listener(const struct sockaddr_in *to)
{
	struct mock_cm_id *id = ids;

	while (id && (!id->listens || id->cm.route.addr.src_sin.sin_port != to->sin_port ||
		      id->cm.route.addr.src_sin.sin_addr.s_addr != to->sin_addr.s_addr))
		id = id->next;
	return id;
}

static void request(struct mock_cm_id *listener, struct mock_cm_id *from, const void *private, size_t size)
{
	struct rdma_cm_id *made;
	struct mock_cm_event *event;

	rdma_create_id(listener->cm.channel, &made, listener->cm.context, RDMA_PS_TCP);
	bind_to(of(made), &listener->cm.route.addr.src_addr);
	event = tell(of(made), RDMA_CM_EVENT_CONNECT_REQUEST);
	event->cm.listen_id = &listener->cm;
	memcpy(event->private, private, size);
	if (from) {
		of(made)->peer = from;
		from->peer = of(made);
		made->route.addr.dst_sin = from->cm.route.addr.src_sin;
		of(made)->their_psn = from->psn;
		of(made)->their_number = from->number;
		of(made)->class = from->class;
		event->cm.param.conn.qp_num = from->number + (mock_strikes(&mock_script()->cm_wrong) ? 1 : 0);
	}
}

int rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
	struct mock_cm_id *listener = find_listener(&id->route.addr.dst_sin);

	of(id)->number = param->qp_num;
	if (mock_script()->cm_instead && mock_script()->cm_instead_of == RDMA_CM_EVENT_CONNECT_RESPONSE)
		happen(of(id), RDMA_CM_EVENT_CONNECT_RESPONSE);
	else if (!listener)
		tell(of(id), RDMA_CM_EVENT_UNREACHABLE);
	else
		request(listener, of(id), param->private_data, param->private_data_len);
	return 0;
}

int rdma_accept(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
	struct mock_cm_id *peer = of(id)->peer;

	of(id)->number = param->qp_num;
	errno = ENOTCONN;
	if (!peer)
		return -1;
	peer->their_psn = of(id)->psn;
	peer->their_number = param->qp_num;
	tell(peer, RDMA_CM_EVENT_CONNECT_RESPONSE)->cm.param.conn.qp_num = param->qp_num;
	return 0;
}

int rdma_reject(struct rdma_cm_id *id, const void *private, uint8_t size)
{
	(void)private, (void)size;
	mock_script()->cm_rejected++;
	if (of(id)->peer)
		tell(of(id)->peer, RDMA_CM_EVENT_REJECTED)->cm.status = 28;
	return 0;
}

int rdma_establish(struct rdma_cm_id *id)
{
	if (of(id)->peer)
		tell(of(id)->peer, RDMA_CM_EVENT_ESTABLISHED);
	return 0;
}

/* Each queue pair gets what the kernel would give it. */
int rdma_init_qp_attr(struct rdma_cm_id *cm, struct ibv_qp_attr *attr, int *mask)
{
	const struct mock_cm_id *id = of(cm);

	switch (attr->qp_state) {
	case IBV_QPS_INIT:
		attr->port_num = 1;
		attr->qp_access_flags = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
		*mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
		return 0;
	case IBV_QPS_RTR:
		attr->path_mtu = mock_port_of(cm->verbs)->mtu;
		attr->dest_qp_num = id->their_number;
		attr->rq_psn = id->their_psn;
		attr->ah_attr.port_num = 1;
		attr->ah_attr.is_global = 1;
		attr->ah_attr.grh.sgid_index = (uint8_t)id->gid_index;
		attr->ah_attr.grh.traffic_class = id->class;
		attr->ah_attr.grh.dgid.raw[10] = attr->ah_attr.grh.dgid.raw[11] = 0xff;
		memcpy(attr->ah_attr.grh.dgid.raw + 12, &cm->route.addr.dst_sin.sin_addr, 4);
		*mask = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			IBV_QP_MIN_RNR_TIMER;
		return 0;
	default:
		attr->sq_psn = id->psn;
		attr->rnr_retry = 7;
		*mask = IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC;
		return 0;
	}
}

/* A stranger calls at every listener with what he likes. */
void mock_cm_knock(const void *private, size_t size);
void mock_cm_knock(const void *private, size_t size)
{
	for (struct mock_cm_id *id = ids, *next; id; id = next) {
		next = id->next;
		if (id->listens)
			request(id, NULL, private, size < PRIVATE ? size : PRIVATE);
	}
}
