/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_early.c - messages that came before their receive, in a bounded arena of chunks. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "transport/ucx.h"

static size_t part(size_t *total, size_t size)
{
	size_t at = *total;

	*total += (size + 63) & ~(size_t)63;
	return at;
}

/* All at once, with room for every message that the peer has credit for. */
int ucx_early_memory(struct ucx_conn *conn)
{
	size_t chunks = conn->eager / UCX_CHUNK + UCX_MESSAGES, total = 0;
	size_t arena = part(&total, chunks * UCX_CHUNK);
	size_t nexts = part(&total, chunks * sizeof *conn->next_chunk);
	size_t entries = part(&total, (2 * UCX_MESSAGES + 1) * sizeof *conn->entries);

	conn->memory = aligned_alloc(64, total);
	if (!conn->memory)
		return snti_fail(SNT_ENOMEM, "ucx: no memory for the connection to rank %d", conn->base.peer);
	conn->chunks = conn->memory + arena;
	conn->next_chunk = (uint32_t *)(void *)(conn->memory + nexts);
	conn->entries = (struct ucx_entry *)(void *)(conn->memory + entries);
	for (size_t i = 0; i < chunks; i++)
		conn->next_chunk[i] = i + 1 < chunks ? (uint32_t)i + 1 : UCX_NONE;
	/* One more than there are messages, for a bye. */
	for (int i = 0; i < 2 * UCX_MESSAGES + 1; i++)
		snti_list_append(&conn->spare, &conn->entries[i].link);
	return 0;
}

static void unchain(struct ucx_conn *conn, struct ucx_entry *entry)
{
	while (entry->first != UCX_NONE) {
		uint32_t next = conn->next_chunk[entry->first];

		conn->next_chunk[entry->first] = conn->free_chunk;
		conn->free_chunk = entry->first;
		entry->first = next;
	}
}

/* 0: the arena is full. */
static int copy_in(struct ucx_conn *conn, struct ucx_entry *entry, const char *bytes, size_t size)
{
	uint32_t *tail = &entry->first;

	while (size) {
		uint32_t chunk = conn->free_chunk;
		size_t piece = size < UCX_CHUNK ? size : UCX_CHUNK;

		if (chunk == UCX_NONE)
			return 0;
		conn->free_chunk = conn->next_chunk[chunk];
		conn->next_chunk[chunk] = UCX_NONE;
		*tail = chunk;
		tail = &conn->next_chunk[chunk];
		memcpy(conn->chunks + (size_t)chunk * UCX_CHUNK, bytes, piece);
		bytes += piece;
		size -= piece;
	}
	return 1;
}

/* In no list yet. NULL: the peer sent more than its credit. */
struct ucx_entry *ucx_entry_new(struct ucx_conn *conn, const struct ucx_head *head, void *data, size_t size, int is_descriptor)
{
	if (snti_list_empty(&conn->spare))
		return NULL;

	struct ucx_entry *entry = snti_container(conn->spare.next, struct ucx_entry, link);

	entry->head = *head;
	entry->size = size;
	entry->descriptor = is_descriptor ? data : NULL;
	entry->lost = 0;
	entry->first = UCX_NONE;
	if (!is_descriptor && !copy_in(conn, entry, data, size)) {
		unchain(conn, entry);
		return NULL;
	}
	snti_list_remove(&entry->link);
	conn->kept++;
	return entry;
}

struct ucx_entry *ucx_entry_find(struct ucx_conn *conn, uint64_t lane)
{
	struct snti_link *bucket = ucx_bucket(conn->unmatched, lane);

	snti_list_each(link, bucket) {
		struct ucx_entry *entry = snti_container(link, struct ucx_entry, link);

		if (entry->head.lane == lane)
			return entry;
	}
	return NULL;
}

void ucx_entry_land(struct ucx_conn *conn, const struct ucx_entry *entry, struct snti_xfer *xfer)
{
	size_t at = 0;

	for (uint32_t chunk = entry->first; chunk != UCX_NONE; chunk = conn->next_chunk[chunk]) {
		size_t piece = xfer->size - at < UCX_CHUNK ? xfer->size - at : UCX_CHUNK;

		snti_land(xfer, at, conn->chunks + (size_t)chunk * UCX_CHUNK, piece);
		at += piece;
	}
}

/* The descriptor, if there is one, has been used or released. */
void ucx_entry_free(struct ucx_conn *conn, struct ucx_entry *entry)
{
	if (entry->head.type == UCX_CHARGED) {
		conn->owed_bytes += entry->size;
		conn->owed_messages++;
	}
	unchain(conn, entry);
	conn->kept--;
	snti_list_remove(&entry->link);
	snti_list_append(&conn->spare, &entry->link);
}

static void drop_descriptors(struct ucx_conn *conn, struct snti_link *list)
{
	struct snti_link *link = list->next;

	while (link && link != list) {
		struct ucx_entry *entry = snti_container(link, struct ucx_entry, link);

		link = link->next;
		if (!entry->descriptor)
			continue;
		ucx.am_data_release(ucx_port_of(conn)->worker.handle, entry->descriptor);
		entry->descriptor = NULL;
		entry->lost = 1;        /* stays, so that what was sent behind it does not take its place */
	}
}

/* The peer is gone: only what is here whole can still be received. */
void ucx_entry_drop_descriptors(struct ucx_conn *conn)
{
	for (int i = 0; i < UCX_BUCKETS; i++)
		drop_descriptors(conn, &conn->unmatched[i]);
	drop_descriptors(conn, &conn->early);
}
