/* SPDX-License-Identifier: BSD-3-Clause */
/* shm.c - shared memory between processes of one host: the table, the port, and how conns end. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/log.h"
#include "base/random.h"
#include "transport/shm.h"

#define POLLS_PER_CLOCK 128u            /* a look at the clock costs as much as several polls */
#define LOOK_NS 100000u                 /* between looks at the sockets while cells are polled */
#define ARM_NS 1000u                    /* longer than a store stays in a store buffer */

/* ---- the port ------------------------------------------------------------- */

static int open_port(struct snti_port *port, const struct snti_port_options *options)
{
	struct shm_port *p = shm_port_of(port);

	(void)options;  /* who may connect is told by the ticket in the address, and by the user */
	p->watch = (struct shm_watch){ SHM_WATCH_PORT, -1 };
	for (size_t i = 0; i < SHM_PARKED; i++)
		p->parked[i].watch = (struct shm_watch){ SHM_WATCH_PARKED, -1 };
	port->wake_fd = epoll_create1(EPOLL_CLOEXEC);
	if (port->wake_fd < 0)
		return snti_fail(SNT_EDEVICE, "no epoll: %s", strerror(errno));
	p->host = shm_host();
	if (!p->host)
		return snti_fail(SNT_EUNSUPPORTED, "cannot tell this host from others without /proc");
	if (snti_random(&p->ticket, sizeof(p->ticket)) || snti_random(p->name, sizeof(p->name)))
		return SNT_EDEVICE;
	p->bounce = aligned_alloc(64, SHM_BOUNCE);
	if (!p->bounce)
		return snti_fail(SNT_ENOMEM, "no memory for a bounce buffer");
	return shm_listen(p);
}

/* Whether a port whose open never ran or failed early has anything is told by its watch. */
static void close_port(struct snti_port *port)
{
	struct shm_port *p = shm_port_of(port);

	for (size_t i = 0; i < SHM_PARKED && p->parked[i].watch.kind == SHM_WATCH_PARKED; i++)
		shm_unpark(&p->parked[i]);
	if (p->watch.fd > 0)
		close(p->watch.fd);
	if (port->wake_fd > 0)
		close(port->wake_fd);
	free(p->conns);
	free(p->bounce);
	p->watch.fd = port->wake_fd = -1;
	p->conns = NULL;
	p->bounce = NULL;
}

int shm_make_room(struct shm_port *p)
{
	size_t room = p->room ? 2 * p->room : 16;
	struct shm_conn **grown;

	if (p->count < p->room)
		return 0;
	grown = realloc(p->conns, room * sizeof(struct shm_conn *));
	if (!grown)
		return snti_fail(SNT_ENOMEM, "no memory for one more connection");
	p->conns = grown;
	p->room = room;
	return 0;
}

static void disarm(struct shm_port *p)
{
	p->armed = 0;
	for (size_t i = 0; i < p->count; i++)
		if (p->conns[i]->region && *p->conns[i]->own_sleeping & 1)
			shm_store(p->conns[i]->own_sleeping, *p->conns[i]->own_sleeping + 1);
}

static int is_time_to_look(struct shm_port *p)
{
	uint64_t now;

	if (p->setting_up && p->polls % 16 == 0)
		return 1;
	if (p->polls % POLLS_PER_CLOCK)
		return 0;
	now = snti_now_ns();
	if (now - p->looked < LOOK_NS)
		return 0;
	p->looked = now;
	return 1;
}

static int poll_port(struct snti_port *port)
{
	struct shm_port *p = shm_port_of(port);
	int moved = 0;

	p->polls++;
	if (p->armed) {
		disarm(p);
		shm_look_at_sockets(p);
	} else if (is_time_to_look(p)) {
		shm_look_at_sockets(p);
	}
	if (p->starved)
		return snti_fail(SNT_ELIMIT, "no descriptor left to let a peer in on this host: raise ulimit -n");
	for (size_t i = 0; i < p->count; i++) {
		struct shm_conn *c = p->conns[i];

		if (c->base.status) {
			if (c->base.status == SNT_BUSY && c->gone)
				shm_fail(c, snti_fail(c->gone, "rank %d %s", c->base.peer, c->gone_how));
			continue;
		}
		if (shm_has_cell(c))
			moved += shm_drain(c);
		if (c->work)
			moved += shm_move_large(c);
		if (c->gone)
			shm_settle(c);
	}
	return moved;
}

static int has_work(const struct shm_port *p)
{
	for (size_t i = 0; i < p->count; i++) {
		struct shm_conn *c = p->conns[i];

		if (c->connecting && c->base.status == SNT_BUSY)
			return 1;       /* nothing tells when the backlog has room */
		if (c->base.status == 0 && (shm_has_cell(c) || shm_can_move(c)))
			return 1;
	}
	return 0;
}

static int arm(struct snti_port *port)
{
	struct shm_port *p = shm_port_of(port);
	uint64_t until = snti_now_ns() + ARM_NS;

	p->armed = 1;
	for (size_t i = 0; i < p->count; i++)
		if (p->conns[i]->base.status == 0)
			shm_store(p->conns[i]->own_sleeping, *p->conns[i]->own_sleeping | 1);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	do {
		if (has_work(p))
			return SNTI_AGAIN;
		snti_cpu_relax();
	} while (snti_now_ns() < until);
	return 0;
}

/* ---- how a conn ends ------------------------------------------------------ */

static void fail_list(struct snti_link *list, int status)
{
	while (!snti_list_empty(list)) {
		struct snti_xfer *xfer = snti_container(list->next, struct snti_xfer, link);

		snti_list_remove(&xfer->link);
		xfer->status = status;
	}
}

static void fail_xfers(struct shm_conn *c, int status)
{
	fail_list(&c->posted, status);
	fail_list(&c->streams, status);
	fail_list(&c->pulls, status);
	for (size_t i = 0; i < SHM_NUMBERS; i++) {
		if (c->out[i])
			c->out[i]->status = status;
		c->out[i] = NULL;
		if (!c->in[i].xfer)
			continue;
		c->in[i].xfer->status = status;
		/* Neither free nor cleared: a piece that comes yet has no place any more. */
		c->in[i] = (struct shm_in){ .state = SHM_IN_WAITS };
	}
	c->answer_count = 0;
	c->work = 0;
}

/* For ever. @status has its text already. */
void shm_fail(struct shm_conn *c, int status)
{
	if (c->base.status < 0)
		return;
	if (c->base.status == SNT_BUSY)
		shm_port_of(c->base.port)->setting_up--;
	c->base.status = status;
	c->cell_limit = 0;
	shm_leave_offers(c);
	shm_leave(c);
	fail_xfers(c, status);
}

static int holds_messages(const struct shm_conn *c)
{
	snti_list_each (link, &c->early)
		if (!snti_container(link, struct shm_early, link)->is_offer)
			return 1;
	return 0;
}

static int has_pending(const struct shm_conn *c)
{
	int pending = !snti_list_empty(&c->posted) || !snti_list_empty(&c->streams) || !snti_list_empty(&c->pulls);

	for (size_t i = 0; i < SHM_NUMBERS && !pending; i++)
		pending = c->out[i] || c->in[i].xfer;
	return pending;
}

/* The peer is gone: what it had sent is still received, then the conn fails. */
void shm_settle(struct shm_conn *c)
{
	if (c->base.status == 0 && shm_has_cell(c))
		return;
	if (has_pending(c))
		snti_fail(c->gone, "rank %d %s", c->base.peer, c->gone_how);
	fail_xfers(c, c->gone);
	if (!holds_messages(c))
		shm_fail(c, c->gone);
}

static void hang_up(struct snti_conn *conn)
{
	struct shm_conn *c = shm_conn_of(conn);
	struct shm_port *p = shm_port_of(conn->port);

	if (!c->listed)
		return;
	for (size_t i = 0; i < p->count; i++)
		if (p->conns[i] == c) {
			p->conns[i] = p->conns[--p->count];
			break;
		}
	c->listed = 0;
	shm_leave_offers(c);
	if (conn->status >= 0) {
		p->setting_up -= conn->status == SNT_BUSY;
		shm_leave(c);
		fail_xfers(c, SNT_ECANCELED);
		conn->status = SNT_ECANCELED;
	}
	shm_leave(c);
	shm_region_drop(c);
}

/* What is in the ring stays there for the peer, whose mapping it is as well. */
static int flush(struct snti_conn *conn)
{
	return conn->status < 0 ? conn->status : 0;
}

const struct snti_transport snti_shm_transport = {
	.name = "shm",
	.within_host = 1,
	.folds_behind = 1,
	.slice = (size_t)128 << 10,     /* a window of them stays in the second-level cache */
	.lends = SHM_PIECE_LEAST,
	.port_size = sizeof(struct shm_port),
	.conn_size = sizeof(struct shm_conn),
	.open = open_port,
	.close = close_port,
	.poll = poll_port,
	.arm = arm,
	.address = shm_address,
	.reaches = shm_reaches,
	.connect = shm_connect,
	.accept = shm_accept,
	.hang_up = hang_up,
	.send = shm_send,
	.recv = shm_recv,
	.borrow = shm_borrow,
	.write = shm_write,
	.give_back = shm_give_back,
	.flush = flush,
};
