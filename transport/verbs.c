/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs.c - the verbs transport: its port, opened on one device. */
#include "transport/verbs.h"
#include "transport/verbs_cm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "base/settings.h"
#include "transport/tcp.h"

#define SRQ_MOST (1024 * VERBS_SLAB)
#define CLOSE_MS 1000

static int refused(const struct verbs_port *port, const char *what)
{
	return snti_fail(errno == ENOMEM || errno == EMFILE ? SNT_ELIMIT : SNT_EDEVICE, "verbs: %s: no %s: %s", port->device.name,
			 what, strerror(errno));
}

/* Reading events must not block: libibverbs knows no other way to say so. */
static int watch(struct verbs_port *port, int fd, int tag, int ours)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = (uint32_t)tag };
	int flags = ours ? fcntl(fd, F_GETFL) : 0;

	if (flags < 0 || (ours && fcntl(fd, F_SETFL, flags | O_NONBLOCK)))
		return -1;
	return epoll_ctl(port->epoll, EPOLL_CTL_ADD, fd, &event);
}

static int open_queues(struct verbs_port *port)
{
	const struct ibv_device_attr *limits = &port->device.limits;
	struct ibv_srq_init_attr attr = { .attr = { .max_sge = 1 } };

	port->srq_most = limits->max_srq_wr < SRQ_MOST ? (unsigned)limits->max_srq_wr : SRQ_MOST;
	attr.attr.max_wr = port->srq_most;
	port->cq_size = limits->max_cqe < 2 * VERBS_WORKS ? (unsigned)limits->max_cqe : 2 * VERBS_WORKS;
	port->room = port->cq_size > VERBS_WORKS ? port->cq_size - VERBS_WORKS : 0;
	port->pd = verbs_calls.ibv_alloc_pd(port->device.context);
	port->frame_pd = verbs_calls.ibv_alloc_pd(port->device.context);
	if (!port->pd || !port->frame_pd)
		return refused(port, "protection domain");
	port->channel = verbs_calls.ibv_create_comp_channel(port->device.context);
	if (!port->channel)
		return refused(port, "completion channel");
	port->cq = verbs_calls.ibv_create_cq(port->device.context, (int)port->cq_size, port, port->channel, 0);
	if (!port->cq)
		return refused(port, "completion queue");
	port->srq = verbs_calls.ibv_create_srq(port->frame_pd, &attr);
	return port->srq ? 0 : refused(port, "shared receive queue");
}

static int open_works(struct verbs_port *port)
{
	port->works = calloc(VERBS_WORKS, sizeof(*port->works));
	if (!port->works)
		return snti_fail(SNT_ENOMEM, "verbs: no memory for a port");
	for (uint32_t i = 0; i < VERBS_WORKS; i++)
		port->works[i].next = i + 1;
	return 0;
}

/* One socket a peer, for the conversation beside the queue pairs. */
static int open_side(struct verbs_port *port, const struct snti_port_options *options)
{
	struct snti_port_options side = *options;
	char own[32];
	int fd, status;

	side.device = options->interface;
	if (!side.device && options->own_interface && verbs_own_interface(&port->device, own, sizeof(own)))
		side.device = own;
	status = snti_port_open(&snti_tcp_transport, &side, &port->side);
	if (!status)
		status = verbs_cm_open(port, &fd);
	if (status)
		return status;
	((struct tcp_port *)port->side)->narrow = 1;
	port->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (port->epoll < 0 || watch(port, port->side->wake_fd, 0, 0) || watch(port, port->channel->fd, 1, 1) ||
	    watch(port, port->device.context->async_fd, 2, 1) || (fd >= 0 && watch(port, fd, 3, 1)))
		return refused(port, "epoll");
	port->base.wake_fd = port->epoll;
	return 0;
}

static int verbs_open(struct snti_port *base, const struct snti_port_options *options)
{
	struct verbs_port *port = (struct verbs_port *)base;
	char gid[VERBS_GID_TEXT];
	int status;

	snti_list_init(&port->conns);
	snti_list_init(&port->pending);
	snti_list_init(&port->lingering);
	port->epoll = -1;
	port->qps = (unsigned)snti_settings()->verbs_qps;
	if (options->streams && options->streams < port->qps)
		port->qps = options->streams;
	status = verbs_device_open(&port->device, options);
	if (!status)
		status = open_queues(port);
	if (!status)
		status = open_works(port);
	if (!status)
		status = verbs_memory_open(port);
	if (!status)
		status = open_side(port, options);
	if (!status)
		snti_log(SNT_LOG_DEBUG, "verbs: %s port %u, GID %u: %s", port->device.name, port->device.port, port->device.gid_index,
			 verbs_gid_text(&port->device.gid.gid, gid));
	return status;
}

static void verbs_close(struct snti_port *base)
{
	struct verbs_port *port = (struct verbs_port *)base;

	if (!port->conns.next)
		return;
	while (!snti_list_empty(&port->conns))
		verbs_hang_up(&snti_container(port->conns.next, struct verbs_conn, link)->base);
	verbs_drain(port, base->hasty ? 0 : CLOSE_MS);
	verbs_loop_close(port);
	if (port->side)
		port->side->hasty = base->hasty;
	snti_port_close(port->side);
	verbs_cm_close(port);
	if (port->srq)
		verbs_calls.ibv_destroy_srq(port->srq);
	if (port->cq)
		verbs_calls.ibv_destroy_cq(port->cq);
	if (port->channel)
		verbs_calls.ibv_destroy_comp_channel(port->channel);
	verbs_memory_close(port);
	if (port->pd)
		verbs_calls.ibv_dealloc_pd(port->pd);
	if (port->frame_pd)
		verbs_calls.ibv_dealloc_pd(port->frame_pd);
	verbs_device_close(&port->device);
	if (port->epoll >= 0)
		close(port->epoll);
	free(port->works);
	free(port->peers);
	port->conns.next = NULL;
	base->wake_fd = -1;
}

const struct snti_transport snti_verbs_transport = {
	.name = "verbs",
	.slice = (size_t)1 << 20,       /* the receiver asks for each; below, packets are all there is to fill */
	.port_size = sizeof(struct verbs_port),
	.conn_size = sizeof(struct verbs_conn),
	.devices = verbs_devices,
	.offers = verbs_offers,
	.open = verbs_open,
	.close = verbs_close,
	.poll = verbs_poll,
	.arm = verbs_arm,
	.address = verbs_address,
	.reaches = verbs_reaches,
	.connect = verbs_connect,
	.accept = verbs_accept,
	.hang_up = verbs_hang_up,
	.gpus = verbs_gpus,
	.pin = verbs_pin,
	.unpin = verbs_unpin,
	.settle = verbs_settle,
	.send = verbs_send,
	.recv = verbs_recv,
	.flush = verbs_flush,
};
