/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_cm.c - queue pairs connected through librdmacm: the kernel finds route and path, as other RDMA programs have it.
 *
 * It is only the messenger: queue pairs are made and moved by us. Each request carries the cookie of the conn that it is
 * for, which the peer has got over the tcp conn, where both have proved the job's secret, and it has to name the
 * queue pair that the peer has named there; what does not is rejected.
 */
#include "transport/verbs_cm.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <rdma/rdma_cma.h>

#include "base/log.h"
#include "base/settings.h"

#define RESOLVE_MS 5000
#define BACKLOG 256

#define CM_CALLS(X) \
	X(rdma_create_event_channel) X(rdma_destroy_event_channel) X(rdma_create_id) X(rdma_destroy_id) X(rdma_bind_addr) \
	X(rdma_listen) X(rdma_get_src_port) X(rdma_resolve_addr) X(rdma_resolve_route) X(rdma_init_qp_attr) X(rdma_connect) \
	X(rdma_accept) X(rdma_reject) X(rdma_establish) X(rdma_get_cm_event) X(rdma_ack_cm_event) X(rdma_event_str) X(rdma_set_option)

static struct {
#define CALL(name) __typeof__(name) *name;
	CM_CALLS(CALL)
#undef CALL
} cm;
static char reason[200];
static pthread_once_t once = PTHREAD_ONCE_INIT;

struct verbs_cm {
	struct rdma_event_channel *channel;
	struct rdma_cm_id *listener;
	uint16_t number;                /* of its port */
};

/* What a request carries. */
struct hello {
	unsigned char cookie[VERBS_COOKIE];
	uint32_t index;                 /* of the queue pair, little-endian; 0: frames */
};

static void load(void)
{
	static const struct { const char *name; void **at; } calls[] = {
#define NAMED(name) { #name, (void **)&cm.name },
		CM_CALLS(NAMED)
#undef NAMED
	};
	void *library = dlopen("librdmacm.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		snprintf(reason, sizeof(reason), "%s", dlerror());
		return;
	}
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		*calls[i].at = dlsym(library, calls[i].name);
		if (!*calls[i].at) {
			snprintf(reason, sizeof(reason), "librdmacm.so.1 is too old: it lacks %s", calls[i].name);
			return;
		}
	}
}

/* ---- listening ---------------------------------------------------------- */

/* The address that a GID of RoCE is. 0: it is none that a route leads to. */
static int to_address(const unsigned char *gid, uint16_t number, struct sockaddr_storage *address)
{
	struct sockaddr_in *four = (struct sockaddr_in *)address;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
	union ibv_gid whole;

	memcpy(whole.raw, gid, sizeof(whole.raw));
	memset(address, 0, sizeof(*address));
	if (verbs_gid_is_ipv4(&whole)) {
		four->sin_family = AF_INET;
		four->sin_port = htons(number);
		memcpy(&four->sin_addr, gid + 12, 4);
		return 1;
	}
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(number);
	memcpy(&six->sin6_addr, gid, 16);
	return !IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr);
}

static int refused(const struct verbs_port *port, const char *what)
{
	return snti_fail(SNT_EDEVICE, "verbs: librdmacm %s on %s port %u: %s%s", what, port->device.name, port->device.port,
			 strerror(errno), errno == ENODEV || errno == ENOENT ? " (modprobe rdma_ucm)" : "");
}

static int listen_on(struct verbs_port *port, struct sockaddr_storage *address)
{
	struct verbs_cm *mine = port->cm;

	mine->channel = cm.rdma_create_event_channel();
	if (!mine->channel)
		return refused(port, "opens no channel");
	if (cm.rdma_create_id(mine->channel, &mine->listener, NULL, RDMA_PS_TCP))
		return refused(port, "makes no listener");
	if (cm.rdma_bind_addr(mine->listener, (struct sockaddr *)address) || cm.rdma_listen(mine->listener, BACKLOG))
		return refused(port, "does not listen");
	mine->number = ntohs(cm.rdma_get_src_port(mine->listener));
	return 0;
}

int verbs_cm_open(struct verbs_port *port, int *fd)
{
	const char *how = snti_settings()->verbs_connect;
	struct sockaddr_storage address;
	int status;

	*fd = -1;
	if (!strcmp(how, "direct"))
		return 0;
	if (strcmp(how, "cm"))
		return snti_fail(SNT_EINVAL, "SNT_VERBS_CONNECT is '%s', not direct or cm", how);
	pthread_once(&once, load);
	if (*reason)
		return snti_fail(SNT_EUNSUPPORTED, "verbs: SNT_VERBS_CONNECT=cm: %s", reason);
	if (port->device.attr.link_layer != IBV_LINK_LAYER_ETHERNET || !to_address(port->device.gid.gid.raw, 0, &address))
		return snti_fail(SNT_EUNSUPPORTED, "verbs: SNT_VERBS_CONNECT=cm: %s port %u has no IP address that is routed",
				 port->device.name, port->device.port);
	port->cm = calloc(1, sizeof(*port->cm));
	status = port->cm ? listen_on(port, &address) : snti_fail(SNT_ENOMEM, "verbs: no memory for librdmacm");
	if (!status)
		*fd = port->cm->channel->fd;
	return status;
}

void verbs_cm_close(struct verbs_port *port)
{
	if (!port->cm)
		return;
	if (port->cm->listener)
		cm.rdma_destroy_id(port->cm->listener);
	if (port->cm->channel)
		cm.rdma_destroy_event_channel(port->cm->channel);
	free(port->cm);
	port->cm = NULL;
}

uint32_t verbs_cm_number(const struct verbs_port *port)
{
	return port->cm ? port->cm->number : 0;
}

/* ---- queue pairs -------------------------------------------------------- */

void verbs_cm_forget(struct verbs_link *link, unsigned index)
{
	if (link->ids[index])
		cm.rdma_destroy_id(link->ids[index]);
	link->ids[index] = NULL;
}

static struct ibv_qp *qp_of(const struct verbs_link *link, unsigned index)
{
	return index ? link->data[index - 1] : link->frames;
}

static uint32_t their_number(const struct verbs_conn *conn, unsigned index)
{
	return index ? conn->theirs.qp[index - 1] : conn->theirs.frame_qp;
}

/* What librdmacm knows of the path, and of the rest what connecting directly would set. */
static int move_to(struct verbs_conn *conn, unsigned index, enum ibv_qp_state state)
{
	struct ibv_qp_attr attr = { .qp_state = state };
	int mask = 0;

	if (cm.rdma_init_qp_attr(conn->rails->ids[index], &attr, &mask))
		return errno;
	verbs_link_adjust(conn, qp_of(conn->rails, index), &attr);
	return verbs_calls.ibv_modify_qp(qp_of(conn->rails, index), &attr, mask);
}

static int move_all_the_way(struct verbs_conn *conn, unsigned index)
{
	int error = move_to(conn, index, IBV_QPS_RTR);

	return error ? error : move_to(conn, index, IBV_QPS_RTS);
}

static struct rdma_conn_param parameters(const struct verbs_conn *conn, unsigned index)
{
	return (struct rdma_conn_param){ .responder_resources = 1, .initiator_depth = 1, .retry_count = VERBS_RETRIES,
		.rnr_retry_count = VERBS_RNR_RETRIES, .srq = index == 0, .qp_num = qp_of(conn->rails, index)->qp_num };
}

static int begin(struct verbs_conn *conn, unsigned index)
{
	struct verbs_port *port = verbs_port_of(conn);
	struct verbs_link *link = conn->rails;
	struct sockaddr_storage here, there;
	uint8_t class = conn->path.traffic;

	if (!to_address(port->device.gid.gid.raw, 0, &here) || !to_address(conn->theirs.gid, (uint16_t)conn->theirs.cm_port, &there))
		return EADDRNOTAVAIL;
	if (cm.rdma_create_id(port->cm->channel, &link->ids[index], link, RDMA_PS_TCP))
		return errno;
	/* The answers' class; ours is set in the queue pair. */
	if (class)
		cm.rdma_set_option(link->ids[index], RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &class, sizeof(class));
	return cm.rdma_resolve_addr(link->ids[index], (struct sockaddr *)&here, (struct sockaddr *)&there, RESOLVE_MS) ? errno : 0;
}

static int no_connection(const struct verbs_conn *conn, const char *what, int error)
{
	char here[VERBS_GID_TEXT], there[VERBS_GID_TEXT];
	const struct verbs_device *device = &verbs_port_of(conn)->device;
	union ibv_gid gid;

	memcpy(gid.raw, conn->theirs.gid, sizeof(gid.raw));
	return snti_fail(SNT_EPEER, "verbs: librdmacm does not connect %s port %u, GID %s, with rank %d, GID %s: %s: %s; look at routes and "
			 "ARP between these addresses, or use SNT_VERBS_CONNECT=direct", device->name, device->port,
			 verbs_gid_text(&device->gid.gid, here), conn->base.peer, verbs_gid_text(&gid, there), what, strerror(error));
}

/* ---- events ------------------------------------------------------------- */

static int resolve_route(struct verbs_conn *conn, unsigned index)
{
	const struct rdma_cm_id *id = conn->rails->ids[index];
	const char *name = id->verbs ? verbs_calls.ibv_get_device_name(id->verbs->device) : "no device";

	if (strcmp(name, verbs_port_of(conn)->device.name))
		return snti_fail(SNT_EUNSUPPORTED, "verbs: the route to rank %d leaves %s, not %s", conn->base.peer, name,
				 verbs_port_of(conn)->device.name);
	return cm.rdma_resolve_route(conn->rails->ids[index], RESOLVE_MS) ? no_connection(conn, "no route", errno) : 0;
}

static int ask(struct verbs_conn *conn, unsigned index)
{
	struct rdma_conn_param param = parameters(conn, index);
	struct hello hello = { .index = htole32(index) };
	int error = move_to(conn, index, IBV_QPS_INIT);

	memcpy(hello.cookie, conn->theirs.cookie, sizeof(hello.cookie));
	param.private_data = &hello;
	param.private_data_len = sizeof(hello);
	if (!error && cm.rdma_connect(conn->rails->ids[index], &param))
		error = errno;
	return error ? no_connection(conn, "no request", error) : 0;
}

static int on_answer(struct verbs_conn *conn, unsigned index, uint32_t number)
{
	int error;

	if (number != their_number(conn, index))
		return snti_fail(SNT_EPROTOCOL, "verbs: rank %d answers with another queue pair than it said", conn->base.peer);
	error = move_all_the_way(conn, index);
	if (!error && cm.rdma_establish(conn->rails->ids[index]))
		error = errno;
	if (error)
		return no_connection(conn, "the queue pair does not follow", error);
	conn->rails->connecting--;
	return 0;
}

/* @event is about one of the queue pairs of @conn: 0, or why there is no connection. */
static int on_own_event(struct verbs_conn *conn, unsigned index, const struct rdma_cm_event *event)
{
	switch (event->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		return resolve_route(conn, index);
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		return ask(conn, index);
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
		return on_answer(conn, index, event->param.conn.qp_num);
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_REJECTED:
		return no_connection(conn, cm.rdma_event_str(event->event), event->status < 0 ? -event->status : event->status);
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		return snti_fail(SNT_EDEVICE, "verbs: %s is being removed", verbs_port_of(conn)->device.name);
	default:                        /* the tcp conn tells when the peer leaves */
		return 0;
	}
}

static struct verbs_conn *meant(struct verbs_port *port, const struct hello *hello)
{
	snti_list_each(link, &port->conns) {
		struct verbs_conn *conn = snti_container(link, struct verbs_conn, link);

		if (conn->base.status == SNT_BUSY && !conn->calls && conn->rails &&
		    !CRYPTO_memcmp(conn->mine.cookie, hello->cookie, sizeof(hello->cookie)))
			return conn;
	}
	return NULL;
}

static int answer(struct verbs_conn *conn, unsigned index)
{
	struct rdma_conn_param param = parameters(conn, index);
	int error;

	if (conn->rails->asked[index] != their_number(conn, index))
		return snti_fail(SNT_EPROTOCOL, "verbs: rank %d calls with another queue pair than it said", conn->base.peer);
	error = move_to(conn, index, IBV_QPS_INIT);
	if (!error)
		error = move_all_the_way(conn, index);
	if (!error && cm.rdma_accept(conn->rails->ids[index], &param))
		error = errno;
	if (error)
		return no_connection(conn, "the request cannot be answered", error);
	conn->rails->connecting--;
	return 0;
}

/* 0: the conn that it is for has @id. It may have come before the peer's card, which says what it has to name. */
static int on_request(struct verbs_port *port, struct rdma_cm_id *id, const struct hello *hello, uint32_t number)
{
	struct verbs_conn *conn = meant(port, hello);
	uint32_t index = le32toh(hello->index);
	int status;

	if (!conn || index > conn->rails->qps || conn->rails->ids[index])
		return -1;
	conn->rails->ids[index] = id;
	conn->rails->asked[index] = number;
	id->context = conn->rails;
	status = conn->by_cm && index <= conn->qps ? answer(conn, index) : 0;
	if (status)
		verbs_fail(conn, status);
	return 0;
}

int verbs_cm_connect(struct verbs_conn *conn)
{
	struct verbs_link *link = conn->rails;
	int status = 0;

	link->connecting = 1 + conn->qps;
	for (unsigned i = 0; !status && i <= conn->qps; i++) {
		int error = conn->calls ? begin(conn, i) : 0;

		if (error)
			status = no_connection(conn, "it does not resolve the address", error);
		else if (!conn->calls && link->ids[i])
			status = answer(conn, i);
	}
	return status;
}

static void on_event(struct verbs_port *port, const struct rdma_cm_event *event, const struct hello *hello)
{
	struct verbs_link *link = event->id->context;
	unsigned index = 0;
	int status;

	if (event->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
		if (on_request(port, event->id, hello, event->param.conn.qp_num)) {
			cm.rdma_reject(event->id, NULL, 0);
			cm.rdma_destroy_id(event->id);
		}
		return;
	}
	if (!link || !link->conn || link->conn->base.status < 0)
		return;
	while (index <= link->conn->qps && link->ids[index] != event->id)
		index++;
	status = index <= link->conn->qps ? on_own_event(link->conn, index, event) : 0;
	if (status)
		verbs_fail(link->conn, status);
}

/* Acknowledged before anything is done about it: an id with an event that is not cannot be destroyed. */
void verbs_cm_events(struct verbs_port *port)
{
	struct rdma_cm_event *event;

	while (port->cm && !cm.rdma_get_cm_event(port->cm->channel, &event)) {
		struct rdma_cm_event copy = *event;
		struct hello hello;

		memset(&hello, 0xff, sizeof(hello));
		if (copy.event == RDMA_CM_EVENT_CONNECT_REQUEST && copy.param.conn.private_data &&
		    copy.param.conn.private_data_len >= sizeof(hello))
			memcpy(&hello, copy.param.conn.private_data, sizeof(hello));
		cm.rdma_ack_cm_event(event);
		on_event(port, &copy, &hello);
	}
}
