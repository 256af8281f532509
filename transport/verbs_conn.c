/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_conn.c - a conn's life: its memory, its busy xfers, how it fails and how it ends. */
#include "transport/verbs.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"

#define ENTRIES (VERBS_SMALLS + VERBS_BIGS + VERBS_ANNOUNCED)

void verbs_conn_init(struct verbs_conn *conn)
{
	struct verbs_port *port = verbs_port_of(conn);
	struct snti_link *lists[] = { &conn->link, &conn->pending, &conn->queue, &conn->announced, &conn->cleared, &conn->asking,
		&conn->matched, &conn->spare, &conn->jobs_waiting, &conn->idle_jobs };

	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		snti_list_init(lists[i]);
	for (int i = 0; i < VERBS_BUCKETS; i++) {
		snti_list_init(&conn->posted[i]);
		snti_list_init(&conn->unmatched[i]);
	}
	for (int i = 0; i < VERBS_QPS; i++)
		snti_list_init(&conn->parts[i]);
	conn->refused = VERBS_NONE;
	conn->deadline = snti_deadline_ms(snti_settings()->startup_ms);
	conn->base.status = SNT_BUSY;
	snti_list_append(&port->conns, &conn->link);
	port->setting_up++;
}

static size_t part(size_t *total, size_t size)
{
	size_t at = *total;

	*total += (size + 63) & ~(size_t)63;
	return at;
}

int verbs_conn_prepare(struct verbs_conn *conn)
{
	size_t eager = (snti_settings()->verbs_eager + 63) & ~(size_t)63, total = 0;
	size_t entries = part(&total, ENTRIES * sizeof(*conn->entries));
	size_t jobs = part(&total, VERBS_JOBS * sizeof(*conn->jobs));
	size_t control = part(&total, VERBS_CONTROL * sizeof(*conn->control));
	size_t smalls = part(&total, VERBS_SMALLS * VERBS_SMALL), bigs = part(&total, VERBS_BIGS * eager);

	conn->memory = aligned_alloc(64, total);
	if (!conn->memory)
		return snti_fail(SNT_ENOMEM, "verbs: no memory for the connection to rank %d", conn->base.peer);
	conn->entries = (struct verbs_entry *)(void *)(conn->memory + entries);
	conn->jobs = (struct verbs_job *)(void *)(conn->memory + jobs);
	conn->control = (struct verbs_message *)(void *)(conn->memory + control);
	conn->small_cells = conn->memory + smalls;
	conn->big_cells = conn->memory + bigs;
	for (int i = 0; i < ENTRIES; i++)
		snti_list_append(&conn->spare, &conn->entries[i].link);
	for (int i = 0; i < VERBS_JOBS; i++)
		snti_list_append(&conn->idle_jobs, &conn->jobs[i].link);
	for (int i = 0; i < VERBS_SMALLS; i++)
		conn->idle_small[conn->idle_smalls++] = conn->small_cells + i * VERBS_SMALL;
	for (size_t i = 0; i < VERBS_BIGS; i++)
		conn->idle_big[conn->idle_bigs++] = conn->big_cells + i * eager;
	return 0;
}

struct snti_xfer *verbs_find(struct snti_link *list, uint64_t number)
{
	snti_list_each(link, list) {
		struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

		if (xfer->number == number)
			return xfer;
	}
	return NULL;
}

void verbs_wants_output(struct verbs_conn *conn)
{
	if (snti_list_empty(&conn->pending))
		snti_list_append(&verbs_port_of(conn)->pending, &conn->pending);
}

void verbs_take(struct verbs_conn *conn, struct snti_xfer *xfer, struct snti_link *list)
{
	xfer->status = SNT_BUSY;
	xfer->moved = xfer->acked = 0;
	xfer->number = VERBS_NONE;
	xfer->private = NULL;
	snti_list_append(list, &xfer->link);
	conn->waiting++;
}

static void finish_all(struct verbs_conn *conn, struct snti_link *list, int status)
{
	while (!snti_list_empty(list))
		verbs_finish(conn, snti_container(list->next, struct snti_xfer, link), status);
}

/* Only when nobody writes into their memory or reads from it any more. */
static void finish_everything(struct verbs_conn *conn, int status)
{
	verbs_link_stop_data(conn->rails);
	verbs_slots_drop_all(conn);
	for (int i = 0; i < VERBS_QPS; i++)
		snti_list_init(&conn->parts[i]);
	snti_list_init(&conn->jobs_waiting);
	snti_list_init(&conn->idle_jobs);       /* none will be needed any more */
	finish_all(conn, &conn->queue, status);
	finish_all(conn, &conn->announced, status);
	finish_all(conn, &conn->cleared, status);
	finish_all(conn, &conn->asking, status);
	finish_all(conn, &conn->matched, status);
	for (int i = 0; i < VERBS_BUCKETS; i++)
		finish_all(conn, &conn->posted[i], status);
}

/* What was announced and never came. */
static void drop_announced(struct verbs_conn *conn)
{
	for (int i = 0; i < VERBS_BUCKETS; i++) {
		struct snti_link *next;

		for (struct snti_link *link = conn->unmatched[i].next; link != &conn->unmatched[i]; link = next) {
			struct verbs_entry *entry = snti_container(link, struct verbs_entry, link);

			next = link->next;
			if (entry->bytes)
				continue;
			snti_list_remove(&entry->link);
			snti_list_append(&conn->spare, &entry->link);
		}
	}
}

/* Without good-bye, so that the peer learns at once that this is not how it was meant to end. */
void verbs_fail(struct verbs_conn *conn, int status)
{
	if (conn->base.status < 0)
		return;
	if (conn->base.status == SNT_BUSY)
		verbs_port_of(conn)->setting_up--;
	conn->base.status = status;
	snti_list_remove(&conn->pending);
	finish_everything(conn, status);
	drop_announced(conn);
	snti_conn_close(conn->side);
	conn->side = NULL;
}

int verbs_nonsense(struct verbs_conn *conn, const char *what)
{
	if (conn->base.status >= 0)
		verbs_fail(conn, snti_fail(SNT_EPROTOCOL, "verbs: rank %d sent %s", conn->base.peer, what));
	return SNT_EPROTOCOL;
}

/* Whole messages that are here may still be received. */
static void end(struct verbs_conn *conn)
{
	if (conn->waiting) {
		verbs_fail(conn, snti_fail(SNT_EPEER, "verbs: rank %d has hung up", conn->base.peer));
		return;
	}
	conn->over = 1;
	snti_list_remove(&conn->pending);
	drop_announced(conn);
}

void verbs_conclude(struct verbs_conn *conn)
{
	if (conn->base.status < 0 || conn->over)
		return;
	if (conn->side_lost)
		verbs_fail(conn, conn->side_lost);
	else if (conn->bye && conn->frames_seen >= conn->heard.frames && conn->pieces_seen >= conn->heard.pieces)
		end(conn);
	else if (conn->bye && snti_is_past(conn->deadline))
		verbs_fail(conn, snti_fail(SNT_EPEER, "verbs: rank %d has hung up, and what it sent last did not arrive",
					   conn->base.peer));
}

/* The queue pair for frames stays until the peer has what was sent. */
static void let_go(struct verbs_conn *conn)
{
	struct verbs_link *link = conn->rails;

	if (!link)
		return;
	link->conn = NULL;
	link->done = conn->base.status || conn->over ? 1 : snti_deadline_ms(snti_settings()->timeout_ms);
	snti_list_append(&link->port->lingering, &link->link);
	conn->rails = NULL;
}

void verbs_hang_up(struct snti_conn *base)
{
	struct verbs_conn *conn = (struct verbs_conn *)base;

	if (!conn->link.next)
		return;
	if (!base->status)
		verbs_kick(conn);
	finish_everything(conn, SNT_ECANCELED);
	if (!base->status)
		verbs_say_bye(conn);
	snti_conn_close(conn->side);
	conn->side = NULL;
	if (base->status == SNT_BUSY)
		verbs_port_of(conn)->setting_up--;
	let_go(conn);
	base->status = SNT_ECANCELED;
	snti_list_remove(&conn->pending);
	snti_list_remove(&conn->link);
	free(conn->memory);
	conn->memory = NULL;
	conn->entries = NULL;
}
