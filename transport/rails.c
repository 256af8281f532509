/* SPDX-License-Identifier: BSD-3-Clause */
/* rails.c - several ports as one logical connection: the rails transport's port, and the poll that drives it. */
#include "transport/rails.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/settings.h"

#define TICK_NS 20000000
#define DOUBT_NS 50000000ULL

static int watch(struct rails_port *port, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(port->epoll, EPOLL_CTL_ADD, fd, &event);
}

static int open_wake(struct rails_port *port)
{
	port->epoll = epoll_create1(EPOLL_CLOEXEC);
	port->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (port->epoll < 0 || port->timer < 0 || watch(port, port->timer))
		return snti_fail(errno == EMFILE || errno == ENFILE ? SNT_ELIMIT : SNT_EDEVICE, "rails: no epoll: %m");
	for (unsigned i = 0; i < port->count; i++)
		if (port->ports[i]->wake_fd < 0 || watch(port, port->ports[i]->wake_fd))
			return snti_fail(SNT_EDEVICE, "rails: cannot watch %s: %m", port->names[i]);
	port->base.wake_fd = port->epoll;
	return 0;
}

static int open_blocks(struct rails_port *port)
{
	port->blocks = aligned_alloc(4096, (size_t)RAILS_BLOCKS * RAILS_CHUNK);
	if (!port->blocks)
		return snti_fail(SNT_ENOMEM, "rails: no memory for a port");
	for (int i = 0; i < RAILS_BLOCKS; i++)
		port->free_blocks[port->free_block_count++] = port->blocks + (size_t)i * RAILS_CHUNK;
	return 0;
}

/* A device that refuses is left out, as long as there is another one. */
static int open_ports(struct rails_port *port, const struct rails_choice *choice, const struct snti_port_options *options)
{
	struct snti_port_options one = *options;
	int status = 0;

	rails_prepare(port->under, &one);
	for (unsigned i = 0; i < choice->count; i++) {
		int failed;

		one.device = choice->devices[i].name;
		snti_fail_quietly(choice->count > 1);
		failed = snti_port_open(port->under, &one, &port->ports[port->count]);
		snti_fail_quietly(0);
		if (failed) {
			status = failed;
			snti_log(SNT_LOG_WARN, "rails: without %s: %s", one.device, snt_error_text());
			continue;
		}
		rails_narrow(port->under, port->ports[port->count]);
		snprintf(port->names[port->count], sizeof(port->names[0]), "%s", one.device);
		port->speeds[port->count++] = (unsigned)choice->devices[i].speed_mbps;
	}
	return port->count ? 0 : snti_fail(status, "rails: no device could be opened");
}

/* What SNT_RAILS names may be the other transport's: no line in the log. */
static int no_rails(const struct snti_transport *under)
{
	int status;

	snti_fail_quietly(strcmp(snti_settings()->rails, "auto") != 0);
	status = snti_fail(SNT_EUNSUPPORTED, "rails: there are no two devices of %s to use at once; SNT_RAILS may name them", under->name);
	snti_fail_quietly(0);
	return status;
}

static int rails_open(struct snti_port *base, const struct snti_port_options *options)
{
	struct rails_port *port = (struct rails_port *)base;
	struct rails_choice choice;
	int status;

	snti_list_init(&port->conns);
	port->epoll = port->timer = -1;
	status = rails_choose(base->ops, options->device, options->local_only, &choice);
	if (status == SNT_EUNSUPPORTED)
		return no_rails(choice.under);
	port->under = choice.under;
	if (!status)
		status = open_ports(port, &choice, options);
	if (!status)
		status = open_wake(port);
	return status ? status : open_blocks(port);
}

static void rails_close(struct snti_port *base)
{
	struct rails_port *port = (struct rails_port *)base;

	if (!port->conns.next)
		return;
	while (!snti_list_empty(&port->conns))
		rails_hang_up(&snti_container(port->conns.next, struct rails_conn, link)->base);
	for (unsigned i = 0; i < port->count; i++) {
		port->ports[i]->hasty = base->hasty;
		snti_port_close(port->ports[i]);
	}
	port->count = 0;
	if (port->timer >= 0)
		close(port->timer);
	if (port->epoll >= 0)
		close(port->epoll);
	free(port->blocks);
	port->blocks = NULL;
	port->epoll = port->timer = base->wake_fd = -1;
}

/* What it still brought has been read. A peer that hangs up says so on the line, which may come after the end of
 * the other conn. */
static void on_failure(struct rails_rail *rail)
{
	uint64_t now = snti_now_ns();

	if (!rail->doubt_ns)
		rail->doubt_ns = now;
	if (rail->line->status < 0 || now > rail->doubt_ns + DOUBT_NS)
		rails_down(rail, 1, "%s", snt_error_text());
}

static void poll_rail(struct rails_rail *rail)
{
	struct rails_conn *conn = rail->conn;

	if (rail->phase == RAILS_JOINING) {
		rails_port_of(conn)->chatted |= conn->base.status == 0;
		rails_join(rail);
	}
	if (rail->phase != RAILS_LIVE)
		return;
	rails_read(rail);
	if (conn->base.status >= 0 && rail->phase == RAILS_LIVE)
		rails_landed(rail);
	if (conn->base.status >= 0 && rail->phase == RAILS_LIVE)
		rails_serve_wants(rail);
	if (conn->base.status >= 0 && rail->phase == RAILS_LIVE)
		rails_notes(rail);
	if (conn->base.status >= 0 && rail->phase == RAILS_LIVE && rails_status(rail) < 0)
		on_failure(rail);
}

static void poll_conn(struct rails_conn *conn)
{
	if (conn->intro)
		rails_introduce(conn);
	for (unsigned i = 0; i < conn->count && conn->base.status >= 0; i++)
		poll_rail(&conn->rails[i]);
	if (conn->base.status < 0 || conn->over)
		return;
	rails_pull(conn);
	rails_push(conn);
	if (conn->dying && conn->base.status >= 0 && rails_flush(&conn->base) == 0)
		rails_fail(conn, conn->dying);
}

/* A port that fails takes its rails along; the others go on. */
static int poll_under(struct rails_port *port)
{
	int did = 0, failed = 0, status = 0;

	for (unsigned i = 0; i < port->count; i++) {
		int moved = port->under->poll(port->ports[i]);

		if (moved >= 0)
			did += moved;
		else
			status = moved;
		failed += moved < 0;
	}
	return failed == (int)port->count ? status : did;
}

static int fail_all(struct rails_port *port, int status)
{
	snti_list_each(link, &port->conns)
		rails_fail(snti_container(link, struct rails_conn, link), status);
	return status;
}

static void tick(struct rails_port *port)
{
	uint64_t now = snti_now_ns(), fired;

	if (now < port->next_tick)
		return;
	port->next_tick = now + TICK_NS;
	(void)!read(port->timer, &fired, sizeof(fired));
	snti_list_each(link, &port->conns) {
		struct rails_conn *conn = snti_container(link, struct rails_conn, link);

		if (conn->base.status >= 0)
			rails_tick(conn, now);
	}
}

static int rails_poll(struct snti_port *base)
{
	struct rails_port *port = (struct rails_port *)base;
	int did, busy = 0;

	snti_fail_quietly(1);
	did = poll_under(port);
	snti_fail_quietly(0);
	if (did < 0)
		return fail_all(port, did);
	port->moved = port->chatted = 0;
	snti_list_each(link, &port->conns) {
		struct rails_conn *conn = snti_container(link, struct rails_conn, link);

		if (conn->base.status >= 0)
			poll_conn(conn);
		busy |= conn->base.status == SNT_BUSY || !snti_list_empty(&conn->pulling) || !snti_list_empty(&conn->matched);
	}
	tick(port);
	/* Rails that ask each other whether they are there must not keep a wait from ever ending. */
	return port->moved ? port->moved : did && busy && !port->chatted;
}

static int rails_arm(struct snti_port *base)
{
	struct rails_port *port = (struct rails_port *)base;
	struct itimerspec in = { .it_value.tv_nsec = 0 };

	for (unsigned i = 0; i < port->count; i++)
		if (!rails_rests(port->under, port->ports[i]) && port->under->arm(port->ports[i]))
			return SNTI_AGAIN;
	snti_list_each(link, &port->conns) {
		struct rails_conn *conn = snti_container(link, struct rails_conn, link);

		if (rails_has_work(conn))
			return SNTI_AGAIN;
		if (rails_wants_time(conn))
			in.it_value.tv_nsec = TICK_NS;
	}
	timerfd_settime(port->timer, 0, &in, NULL);
	return 0;
}

static void rails_unpin(struct snti_port *base, struct snti_memory *memory)
{
	struct rails_port *port = (struct rails_port *)base;

	for (unsigned i = 0; i < port->count && port->under->unpin; i++)
		port->under->unpin(port->ports[i], memory);
}

/* On every port: each may carry a part of it. What is small is copied, which a GPU's memory does not take. */
static int rails_pin(struct snti_port *base, struct snti_memory *memory)
{
	struct rails_port *port = (struct rails_port *)base;
	int status = 0;

	if (memory->is_gpu)
		return snti_fail(SNT_EUNSUPPORTED, "rails: memory of GPUs goes over one port, not over several at once");
	for (unsigned i = 0; i < port->count && port->under->pin && !status; i++) {
		status = port->under->pin(port->ports[i], memory);
		while (status && i)
			port->under->unpin(port->ports[--i], memory);
	}
	return status;
}

#define RAILS \
	.slice = (size_t)8 << 20, .port_size = sizeof(struct rails_port), .conn_size = sizeof(struct rails_conn), \
	.open = rails_open, .close = rails_close, .poll = rails_poll, .arm = rails_arm, \
	.address = rails_address, .reaches = rails_reaches, .connect = rails_connect, .accept = rails_accept, \
	.hang_up = rails_hang_up, .pin = rails_pin, .unpin = rails_unpin, .send = rails_send, .recv = rails_recv, .flush = rails_flush

/* Two of them, as one comes before verbs and the other before tcp. */
const struct snti_transport snti_rails_verbs_transport = {
	.name = "rails-verbs", .devices = rails_verbs_devices, .offers = rails_verbs_offers, RAILS
};

const struct snti_transport snti_rails_transport = { .name = "rails", .devices = rails_devices, RAILS };
