/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_poll.c - what the device tells: completions, events; and sleeping until it does. */
#include "transport/verbs.h"
#include "transport/verbs_cm.h"

#include <poll.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"

#define ASIDE_EVERY 256           /* polls between two looks at what needs a system call: a multiple of the other */
#define DOWN_MS 5000              /* a port that is down longer has failed */
#define UNUSED_EVERY 16

/* ---- completions -------------------------------------------------------- */

VERBS_ALWAYS int harvest(struct verbs_port *port)
{
	struct ibv_wc wc[VERBS_BATCH];
	int did = ibv_poll_cq(port->cq, VERBS_BATCH, wc);

	port->drained = 1;
	if (did)
		did = verbs_completions(port, wc, did);
	else if (port->used_count)
		verbs_slab_post(port);
	return did;
}

int verbs_harvest(struct verbs_port *port)
{
	return harvest(port);
}

/* ---- events ------------------------------------------------------------- */

/* Nothing that waits on a port that failed will come any more. */
static void fail_all(struct verbs_port *port, int status)
{
	port->failed = status;
	snti_list_each(link, &port->conns) {
		struct verbs_conn *conn = snti_container(link, struct verbs_conn, link);

		if (conn->base.status >= 0)
			verbs_fail(conn, status);
	}
}

static void on_qp_event(struct verbs_port *port, enum ibv_event_type type, uint32_t number)
{
	struct verbs_link *link = verbs_link_find(port, number);

	if (!link || !link->conn || link->conn->base.status < 0)
		return;
	verbs_fail(link->conn, snti_fail(SNT_EDEVICE, "verbs: no connection to rank %d any more: %s on %s port %u, queue pair %u",
					 link->conn->base.peer, verbs_calls.ibv_event_type_str(type), port->device.name,
					 port->device.port, number));
}

/* Another address, or the port is up again: connections made from now on use what is there now. */
static void refresh(struct verbs_port *port, enum ibv_event_type type)
{
	char gid[VERBS_GID_TEXT];

	if (verbs_device_refresh(&port->device) || verbs_path_keys(&port->device))
		return;
	port->down_until = 0;
	if (port->failed_down)
		port->failed = port->failed_down = 0;
	snti_log(SNT_LOG_INFO, "verbs: %s port %u: %s, GID %s", port->device.name, port->device.port,
		 verbs_calls.ibv_event_type_str(type), verbs_gid_text(&port->device.gid.gid, gid));
}

/* Queue pairs survive a link that flaps. Not all devices report what does not get through while it is down. */
static void go_down(struct verbs_port *port)
{
	uint64_t most = snti_settings()->timeout_ms / 2;

	snti_log(SNT_LOG_WARN, "verbs: port %u of %s is down", port->device.port, port->device.name);
	port->down_until = snti_deadline_ms(most < DOWN_MS ? most : DOWN_MS);
}

static void check_down(struct verbs_port *port)
{
	if (port->failed || !snti_is_past(port->down_until))
		return;
	port->failed_down = 1;
	fail_all(port, snti_fail(SNT_EDEVICE, "verbs: port %u of %s is down and does not come back: look at cable and switch",
					 port->device.port, port->device.name));
}

/* @number: of the queue pair or the port that it is about. */
static void on_event(struct verbs_port *port, enum ibv_event_type type, uint32_t number)
{
	switch (type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
		on_qp_event(port, type, number);
		break;
	case IBV_EVENT_DEVICE_FATAL:
	case IBV_EVENT_CQ_ERR:
	case IBV_EVENT_SRQ_ERR:
		port->failed_down = 0;
		if (!port->failed)
			fail_all(port, snti_fail(SNT_EDEVICE, "verbs: %s: %s", port->device.name,
						 verbs_calls.ibv_event_type_str(type)));
		break;
	case IBV_EVENT_PORT_ERR:
		if (number == port->device.port)
			go_down(port);
		break;
	case IBV_EVENT_PORT_ACTIVE:
	case IBV_EVENT_GID_CHANGE:
	case IBV_EVENT_LID_CHANGE:
	case IBV_EVENT_PKEY_CHANGE:
		if (number == port->device.port)
			refresh(port, type);
		break;
	default:
		break;
	}
}

static uint32_t number_of(const struct ibv_async_event *event)
{
	switch (event->event_type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
		return event->element.qp->qp_num;
	default:
		return (uint32_t)event->element.port_num;
	}
}

/* Acknowledged before anything is done about it: a queue pair with an event that is not cannot be destroyed. */
static void read_events(struct verbs_port *port)
{
	struct ibv_async_event event;

	while (!verbs_calls.ibv_get_async_event(port->device.context, &event)) {
		uint32_t number = number_of(&event);

		verbs_calls.ibv_ack_async_event(&event);
		on_event(port, event.event_type, number);
	}
}

static void read_channel(struct verbs_port *port)
{
	struct ibv_cq *cq;
	void *context;

	while (!verbs_calls.ibv_get_cq_event(port->channel, &cq, &context))
		verbs_calls.ibv_ack_cq_events(cq, 1);
}

/* ---- poll --------------------------------------------------------------- */

static int talk(struct verbs_port *port)
{
	int did = port->side->ops->poll(port->side);
	struct snti_link *next;

	if (did < 0)
		return port->failed = did;
	for (struct snti_link *link = port->conns.next; link != &port->conns; link = next) {
		next = link->next;
		did += verbs_side(snti_container(link, struct verbs_conn, link));
	}
	return did;
}

/* What costs a system call. What a peer said beside its queue pairs counts once they hold nothing more. */
static int look_aside(struct verbs_port *port)
{
	struct epoll_event events[4];
	int count;

	port->hurry = 0;
	if (port->drained)
		snti_list_each(link, &port->conns)
			verbs_conclude(snti_container(link, struct verbs_conn, link));
	count = epoll_wait(port->epoll, events, 4, 0);
	for (int i = 0; i < count; i++) {
		if (events[i].data.u32 == 1)
			read_channel(port);
		else if (events[i].data.u32 == 2)
			read_events(port);
		else if (events[i].data.u32 == 3)
			verbs_cm_events(port);
	}
	check_down(port);
	return talk(port);
}

static void sweep_lingering(struct verbs_port *port)
{
	struct snti_link *next;

	for (struct snti_link *at = port->lingering.next; at != &port->lingering; at = next) {
		struct verbs_link *link = snti_container(at, struct verbs_link, link);

		next = at->next;
		if (!verbs_link_outstanding(link) || snti_is_past(link->done))
			verbs_link_destroy(link);
	}
}

static int kick_pending(struct verbs_port *port)
{
	int did = 0;
	struct snti_link *next;

	for (struct snti_link *link = port->pending.next; link != &port->pending; link = next) {
		next = link->next;
		did += verbs_kick(snti_container(link, struct verbs_conn, pending));
	}
	return did;
}

/* Beside a transport that reaches all peers a port stays unused, and is to cost nothing. */
static inline int is_unused(const struct verbs_port *port)
{
	return snti_list_empty(&port->conns) && snti_list_empty(&port->lingering) && !port->hurry && port->turn % UNUSED_EVERY;
}

/* All but the completions: mostly there is nothing of it. */
static inline int has_more(const struct verbs_port *port)
{
	return port->hurry || port->failed || port->setting_up || port->loop || port->turn % ASIDE_EVERY == 0 ||
		!snti_list_empty(&port->pending) || !snti_list_empty(&port->lingering);
}

VERBS_SELDOM int poll_more(struct verbs_port *port, int did)
{
	did += verbs_loop_poll(port);
	did += kick_pending(port);
	sweep_lingering(port);
	if (port->hurry || port->setting_up || port->turn % ASIDE_EVERY == 0)
		did += look_aside(port);
	if (!port->failed)
		return did;
	fail_all(port, port->failed);
	return port->failed;
}

int verbs_poll(struct snti_port *base)
{
	struct verbs_port *port = (struct verbs_port *)base;
	int did;

	port->turn++;
	if (is_unused(port))
		return port->failed;
	did = harvest(port);
	return has_more(port) ? poll_more(port, did) : did;
}

int verbs_arm(struct snti_port *base)
{
	struct verbs_port *port = (struct verbs_port *)base;

	if (port->hurry || port->failed || verbs_loop_is_busy(port))
		return SNTI_AGAIN;
	port->hurry = 1;
	if (port->side->ops->arm(port->side) == SNTI_AGAIN)
		return SNTI_AGAIN;
	if (ibv_req_notify_cq(port->cq, 0))
		return SNTI_AGAIN;
	/* What came before nobody would wake us for. */
	return verbs_harvest(port) ? SNTI_AGAIN : 0;
}

void verbs_drain(struct verbs_port *port, int wait_ms)
{
	uint64_t deadline = snti_deadline_ms((uint64_t)wait_ms);

	while (!snti_list_empty(&port->lingering)) {
		verbs_harvest(port);
		if (snti_is_past(deadline))
			snti_list_each(at, &port->lingering)
				snti_container(at, struct verbs_link, link)->done = 1;
		sweep_lingering(port);
		if (!snti_list_empty(&port->lingering))
			poll(NULL, 0, 1);
	}
}
