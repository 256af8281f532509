/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_store.c - messages that came before their receive, in a bounded arena of chunks. */
#include <string.h>

#include "transport/tcp.h"

struct snti_link *tcp_bucket(struct snti_link *buckets, uint64_t lane)
{
	return &buckets[lane * UINT64_C(0x9E3779B97F4A7C15) >> 58];
}

static size_t chunks_of(size_t size)
{
	return (size + TCP_CHUNK - 1) / TCP_CHUNK;
}

/* One that was used before, if there is one: its memory is there, and maybe still in the cache. */
static uint32_t take_chunk(struct tcp_conn *conn)
{
	uint32_t chunk = conn->free_chunk;

	if (chunk != TCP_NONE)
		conn->free_chunk = conn->next_chunk[chunk];
	else if (conn->touched < conn->chunk_count)
		chunk = conn->touched++;
	return chunk;
}

/* Chains up all chunks at once, so that arriving bytes cannot find the arena full. */
static int chain(struct tcp_conn *conn, struct tcp_entry *entry, size_t count)
{
	uint32_t *tail = &entry->first;

	entry->first = entry->last = TCP_NONE;
	for (; count; count--) {
		uint32_t chunk = take_chunk(conn);

		if (chunk == TCP_NONE)
			return 0;
		conn->next_chunk[chunk] = TCP_NONE;
		*tail = chunk;
		tail = &conn->next_chunk[chunk];
	}
	entry->last = entry->first;
	return 1;
}

static void unchain(struct tcp_conn *conn, struct tcp_entry *entry)
{
	while (entry->first != TCP_NONE) {
		uint32_t next = conn->next_chunk[entry->first];

		conn->next_chunk[entry->first] = conn->free_chunk;
		conn->free_chunk = entry->first;
		entry->first = next;
	}
}

/* NULL: the peer sent more than its credit. */
struct tcp_entry *tcp_entry_new(struct tcp_conn *conn, const struct tcp_frame *frame)
{
	if (snti_list_empty(&conn->spare))
		return NULL;

	struct tcp_entry *entry = snti_container(conn->spare.next, struct tcp_entry, link);

	entry->frame = *frame;
	entry->xfer = NULL;
	entry->arrived = 0;
	if (!chain(conn, entry, chunks_of(tcp_unasked(frame)))) {
		unchain(conn, entry);
		return NULL;
	}
	snti_list_remove(&entry->link);
	snti_list_append(tcp_bucket(conn->unmatched, frame->lane), &entry->link);
	return entry;
}

struct tcp_entry *tcp_entry_find(struct tcp_conn *conn, uint64_t lane)
{
	struct snti_link *bucket = tcp_bucket(conn->unmatched, lane);

	snti_list_each(link, bucket) {
		struct tcp_entry *entry = snti_container(link, struct tcp_entry, link);

		if (entry->frame.lane == lane)
			return entry;
	}
	return NULL;
}

void tcp_entry_add(struct tcp_conn *conn, struct tcp_entry *entry, const char *bytes, size_t size)
{
	while (size) {
		size_t at = entry->arrived % TCP_CHUNK, piece = TCP_CHUNK - at;

		if (piece > size)
			piece = size;
		memcpy(conn->chunks + (size_t)entry->last * TCP_CHUNK + at, bytes, piece);
		entry->arrived += piece;
		bytes += piece;
		size -= piece;
		if (entry->arrived % TCP_CHUNK == 0)
			entry->last = conn->next_chunk[entry->last];
	}
}

void tcp_entry_land(struct tcp_conn *conn, struct tcp_entry *entry, struct snti_xfer *xfer)
{
	size_t at = 0;

	for (uint32_t chunk = entry->first; chunk != TCP_NONE; chunk = conn->next_chunk[chunk]) {
		size_t piece = entry->arrived - at < TCP_CHUNK ? entry->arrived - at : TCP_CHUNK;

		snti_land(xfer, at, conn->chunks + (size_t)chunk * TCP_CHUNK, piece);
		at += piece;
	}
}

/* Its space is free again, which is what the peer's credit stands for. */
void tcp_entry_free(struct tcp_conn *conn, struct tcp_entry *entry)
{
	conn->owed_bytes += tcp_unasked(&entry->frame);
	conn->owed_messages += entry->frame.type == TCP_EAGER;
	unchain(conn, entry);
	snti_list_remove(&entry->link);
	snti_list_append(&conn->spare, &entry->link);
}

static struct tcp_entry *first_unfinished(struct snti_link *bucket)
{
	snti_list_each(link, bucket) {
		struct tcp_entry *entry = snti_container(link, struct tcp_entry, link);

		if (entry->frame.type == TCP_RTS || entry->arrived < entry->frame.size)
			return entry;
	}
	return NULL;
}

/* @entry, and what came behind it on its lane: that must not be taken for it. */
static void drop_from(struct tcp_conn *conn, struct snti_link *bucket, struct tcp_entry *entry)
{
	uint64_t lane = entry->frame.lane;
	struct snti_link *link = &entry->link;

	while (link != bucket) {
		entry = snti_container(link, struct tcp_entry, link);
		link = link->next;
		if (entry->frame.lane == lane)
			tcp_entry_free(conn, entry);
	}
}

/* Nothing more comes: only what is here whole can still be received. */
void tcp_entry_drop_unfinished(struct tcp_conn *conn)
{
	struct tcp_entry *entry;

	for (int i = 0; i < TCP_BUCKETS; i++)
		while (conn->unmatched[i].next && (entry = first_unfinished(&conn->unmatched[i])))
			drop_from(conn, &conn->unmatched[i], entry);
}
