/* SPDX-License-Identifier: BSD-3-Clause */
/* rails_conn.c - a conn's life: its memory, its messages, how it fails and how it ends. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/settings.h"
#include "transport/rails.h"

static void init_lists(struct rails_conn *conn)
{
	struct snti_link *lists[] = { &conn->link, &conn->announced, &conn->pulling, &conn->matched, &conn->lost, &conn->spare };

	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		snti_list_init(lists[i]);
	for (int i = 0; i < RAILS_BUCKETS; i++) {
		snti_list_init(&conn->posted[i]);
		snti_list_init(&conn->unmatched[i]);
	}
}

void rails_conn_init(struct rails_conn *conn)
{
	init_lists(conn);
	conn->deadline = snti_deadline_ms(snti_settings()->startup_ms);
	conn->base.status = SNT_BUSY;
	snti_list_append(&rails_port_of(conn)->conns, &conn->link);
}

static size_t part(size_t *total, size_t size)
{
	size_t at = *total;

	*total += (size + 127) & ~(size_t)127;
	return at;
}

static void init_rail(struct rails_conn *conn, unsigned index)
{
	struct rails_rail *rail = &conn->rails[index];

	memset(rail, 0, sizeof(*rail));
	rail->conn = conn;
	rail->index = index;
	snti_list_init(&rail->asked);
	snti_list_init(&rail->spare);
	snti_list_init(&rail->served);
	snti_list_init(&rail->idle);
	for (int i = 0; i < RAILS_SLOTS; i++) {
		snti_list_append(&rail->spare, &rail->chunks[i].link);
		snti_list_append(&rail->idle, &rail->serves[i].link);
	}
}

/* All that the conn needs, in one block; only a rail that is dialed again allocates later. */
int rails_conn_prepare(struct rails_conn *conn)
{
	unsigned most = rails_port_of(conn)->count;
	size_t total = 0, entry_count = RAILS_HELD + RAILS_ANNOUNCED;
	size_t cards = part(&total, 2 * sizeof(*conn->cards)), rails = part(&total, most * sizeof(*conn->rails));
	size_t ring = part(&total, RAILS_RING * sizeof(*conn->ring)), bytes = part(&total, RAILS_BYTES);
	size_t entries = part(&total, entry_count * sizeof(*conn->entries)), frees, buffers;

	conn->buffer_count = RAILS_HELD + most * RAILS_POSTED;
	frees = part(&total, conn->buffer_count * sizeof(*conn->free_buffers));
	buffers = part(&total, (size_t)conn->buffer_count * RAILS_FRAME);
	conn->memory = aligned_alloc(128, total);
	if (!conn->memory)
		return snti_fail(SNT_ENOMEM, "rails: no memory for the connection to rank %d", conn->base.peer);
	memset(conn->memory, 0, bytes);
	conn->cards = (struct rails_card *)(void *)(conn->memory + cards);
	conn->rails = (struct rails_rail *)(void *)(conn->memory + rails);
	conn->ring = (struct rails_sent *)(void *)(conn->memory + ring);
	conn->bytes = conn->memory + bytes;
	conn->entries = (struct rails_entry *)(void *)(conn->memory + entries);
	conn->free_buffers = (uint32_t *)(void *)(conn->memory + frees);
	conn->buffers = conn->memory + buffers;
	for (unsigned i = 0; i < conn->buffer_count; i++)
		conn->free_buffers[conn->free_count++] = i;
	for (unsigned i = 0; i < entry_count; i++)
		snti_list_append(&conn->spare, &conn->entries[i].link);
	for (unsigned i = 0; i < most; i++)
		init_rail(conn, i);
	return 0;
}

struct snti_link *rails_bucket(struct snti_link *buckets, uint64_t lane)
{
	return &buckets[lane * UINT64_C(0x9E3779B97F4A7C15) >> 58];
}

void rails_take(struct rails_conn *conn, struct snti_xfer *xfer, struct snti_link *list)
{
	xfer->status = SNT_BUSY;
	xfer->moved = xfer->acked = 0;
	snti_list_append(list, &xfer->link);
	conn->waiting++;
}

void rails_finish(struct rails_conn *conn, struct snti_xfer *xfer, int status)
{
	snti_list_remove(&xfer->link);
	xfer->status = status;
	conn->waiting--;
	rails_port_of(conn)->moved++;
}

static void finish_all(struct rails_conn *conn, struct snti_link *list, int status)
{
	while (!snti_list_empty(list))
		rails_finish(conn, snti_container(list->next, struct snti_xfer, link), status);
}

static void finish_everything(struct rails_conn *conn, int status)
{
	finish_all(conn, &conn->announced, status);
	finish_all(conn, &conn->pulling, status);
	finish_all(conn, &conn->matched, status);
	for (int i = 0; i < RAILS_BUCKETS; i++)
		finish_all(conn, &conn->posted[i], status);
}

/* ---- messages that came before their receive ----------------------------- */

struct rails_entry *rails_entry_find(struct rails_conn *conn, uint64_t lane)
{
	struct snti_link *bucket = rails_bucket(conn->unmatched, lane);

	snti_list_each(link, bucket) {
		struct rails_entry *entry = snti_container(link, struct rails_entry, link);

		if (entry->frame.lane == lane)
			return entry;
	}
	return NULL;
}

void rails_entry_free(struct rails_conn *conn, struct rails_entry *entry)
{
	if (entry->frame.type == RAILS_EAGER) {
		rails_buffer_free(conn, entry->buffer);
		conn->eager_freed++;
	}
	snti_list_remove(&entry->link);
	snti_list_append(&conn->spare, &entry->link);
}

/* An announced one, and what came behind it on its lane: that must not be taken for it. */
static void drop_from(struct rails_conn *conn, struct snti_link *bucket, struct snti_link *link, uint64_t lane)
{
	while (link != bucket) {
		struct rails_entry *entry = snti_container(link, struct rails_entry, link);

		link = link->next;
		if (entry->frame.lane == lane)
			rails_entry_free(conn, entry);
	}
}

static struct rails_entry *first_announced(struct snti_link *bucket)
{
	snti_list_each(link, bucket) {
		struct rails_entry *entry = snti_container(link, struct rails_entry, link);

		if (entry->frame.type == RAILS_RTS)
			return entry;
	}
	return NULL;
}

/* Nothing more comes: only what is here whole can still be received. */
static void drop_unfinished(struct rails_conn *conn)
{
	struct rails_entry *entry;

	for (int i = 0; i < RAILS_BUCKETS; i++)
		while ((entry = first_announced(&conn->unmatched[i])))
			drop_from(conn, &conn->unmatched[i], &entry->link, entry->frame.lane);
}

/* ---- the end -------------------------------------------------------------- */

/* First the conns underneath, so that nothing touches what the xfers name any more. */
static void stop(struct rails_conn *conn, int status)
{
	snti_conn_close(conn->intro);
	conn->intro = NULL;
	for (unsigned i = 0; i < conn->count; i++) {
		struct rails_rail *rail = &conn->rails[i];

		snti_conn_close(rail->line);
		snti_conn_close(rail->sub);
		rail->line = rail->sub = NULL;
		rail->phase = RAILS_ABSENT;
		rails_lose_chunks(rail);
	}
	finish_everything(conn, status);
	snti_list_init(&conn->lost);
}

void rails_fail(struct rails_conn *conn, int status)
{
	if (conn->base.status < 0)
		return;
	conn->base.status = status;
	stop(conn, status);
	if (conn->memory)
		drop_unfinished(conn);
}

int rails_nonsense(struct rails_conn *conn, const char *what)
{
	if (conn->base.status >= 0)
		rails_fail(conn, snti_fail(SNT_EPROTOCOL, "rails: rank %d sent %s", conn->base.peer, what));
	return SNT_EPROTOCOL;
}

/* The peer hung up. Without anything pending that is no failure: whole messages may still be received. */
void rails_peer_over(struct rails_conn *conn)
{
	if (conn->waiting) {
		rails_fail(conn, snti_fail(SNT_EPEER, "rails: rank %d has hung up", conn->base.peer));
		return;
	}
	conn->over = 1;
	drop_unfinished(conn);
}

void rails_hang_up(struct snti_conn *base)
{
	struct rails_conn *conn = (struct rails_conn *)base;
	struct rails_frame bye = { .type = RAILS_BYE };

	if (!conn->link.next)
		return;
	if (base->status == 0 && !conn->over && !conn->dying && !rails_put(conn, &bye, NULL, 0))
		rails_push(conn);
	stop(conn, SNT_ECANCELED);
	base->status = SNT_ECANCELED;
	snti_list_remove(&conn->link);
	free(conn->memory);
	conn->memory = NULL;
	conn->link.next = NULL;
}

/* ---- the table's -------------------------------------------------------------- */

static int fail_if_over(struct rails_conn *conn)
{
	if (conn->over && !conn->base.status)
		rails_fail(conn, snti_fail(SNT_EPEER, "rails: rank %d has hung up", conn->base.peer));
	return conn->base.status;
}

int rails_send(struct snti_conn *base, struct snti_xfer *xfer)
{
	struct rails_conn *conn = (struct rails_conn *)base;
	struct rails_frame frame = { .lane = xfer->lane, .fingerprint = xfer->fingerprint, .size = xfer->size };
	int eager, status;

	if (base->status == SNT_BUSY)
		return SNTI_AGAIN;
	if (fail_if_over(conn))
		return base->status;
	eager = xfer->size <= RAILS_PAYLOAD && conn->eager_sent - conn->their_freed < RAILS_HELD;
	if (conn->dying || (!eager && conn->announcing == RAILS_ANNOUNCED))
		return SNTI_AGAIN;
	frame.type = eager ? RAILS_EAGER : RAILS_RTS;
	frame.bytes = eager ? (uint32_t)xfer->size : 0;
	frame.number = conn->next_number;
	status = rails_put(conn, &frame, xfer->data, 1);
	if (status)
		return status;
	conn->next_number++;
	rails_take(conn, xfer, &conn->announced);
	xfer->number = frame.number;
	if (eager) {
		conn->eager_sent++;
		rails_finish(conn, xfer, 0);
	} else {
		conn->announcing++;
	}
	rails_push(conn);
	return 0;
}

int rails_recv(struct snti_conn *base, struct snti_xfer *xfer)
{
	struct rails_conn *conn = (struct rails_conn *)base;
	struct rails_entry *entry;

	if (base->status == SNT_BUSY)
		return SNTI_AGAIN;
	if (!conn->memory)
		return base->status;
	entry = rails_entry_find(conn, xfer->lane);
	if (entry) {
		rails_claim(conn, entry, xfer);
		return 0;
	}
	if (fail_if_over(conn))
		return base->status;
	rails_take(conn, xfer, rails_bucket(conn->posted, xfer->lane));
	return 0;
}

int rails_flush(struct snti_conn *base)
{
	struct rails_conn *conn = (struct rails_conn *)base;
	const struct snti_transport *under = rails_port_of(conn)->under;

	if (base->status)
		return base->status == SNT_BUSY ? 0 : base->status;
	if (conn->over)
		return 0;
	rails_push(conn);
	if (conn->out < conn->tail)
		return SNT_BUSY;
	for (uint64_t i = conn->head; i < conn->tail; i++)
		if (conn->ring[i % RAILS_RING].sub.status == SNT_BUSY)
			return SNT_BUSY;
	for (unsigned i = 0; i < conn->count; i++)
		if (conn->rails[i].phase == RAILS_LIVE && (under->flush(conn->rails[i].line) == SNT_BUSY ||
							   under->flush(conn->rails[i].sub) == SNT_BUSY))
			return SNT_BUSY;
	return 0;
}
