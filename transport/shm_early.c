/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_early.c - messages that came before their receive: kept in memory that the credit bounds.
 *
 * A message lies in a chain of chunks, so that lanes that drain in any order
 * leave no holes: eager/SHM_CHUNK + SHM_NUMBERS chunks always suffice.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "transport/shm.h"

#define NONE UINT32_MAX

int shm_early_init(struct shm_conn *c)
{
	c->chunk_count = (uint32_t)(c->eager / SHM_CHUNK) + SHM_NUMBERS + 1;      /* pieces are whole chunks, but for the last */
	c->chunk_free = NONE;
	c->chunks = malloc((size_t)c->chunk_count * SHM_CHUNK);
	c->chunk_next = malloc(c->chunk_count * sizeof(*c->chunk_next));
	c->earlies = calloc(2 * SHM_NUMBERS, sizeof(*c->earlies));
	if (!c->chunks || !c->chunk_next || !c->earlies)
		return SNT_ENOMEM;
	for (size_t i = 0; i < 2 * SHM_NUMBERS; i++)
		snti_list_append(&c->early_free, &c->earlies[i].link);
	return 0;
}

void shm_early_free(struct shm_conn *c)
{
	free(c->chunks);
	free(c->chunk_next);
	free(c->earlies);
	c->chunks = NULL;
	c->chunk_next = NULL;
	c->earlies = NULL;
	snti_list_init(&c->early);
	snti_list_init(&c->early_free);
}

/* NONE when the peer has sent more than its credit. */
static uint32_t take_chunk(struct shm_conn *c)
{
	uint32_t chunk = c->chunk_free;

	if (chunk != NONE)
		c->chunk_free = c->chunk_next[chunk];
	else if (c->chunk_fresh < c->chunk_count)
		chunk = c->chunk_fresh++;
	return chunk;
}

static void give_chunks(struct shm_conn *c, uint32_t chunk)
{
	while (chunk != NONE) {
		uint32_t next = c->chunk_next[chunk];

		c->chunk_next[chunk] = c->chunk_free;
		c->chunk_free = chunk;
		chunk = next;
	}
}

static struct shm_early *take_early(struct shm_conn *c, const struct shm_cell *head)
{
	struct shm_early *early;

	if (snti_list_empty(&c->early_free))
		return NULL;
	early = snti_container(c->early_free.next, struct shm_early, link);
	snti_list_remove(&early->link);
	early->lane = head->lane;
	early->fingerprint = head->fingerprint;
	early->size = head->word >> 16;
	early->number = head->word >> 8 & 0xff;
	early->chunk = NONE;
	early->stored = 0;
	return early;
}

/* To the end of its chain, which holds whole chunks. */
static int store(struct shm_conn *c, struct shm_early *early, const char *bytes, size_t size)
{
	for (size_t at = 0; at < size; at += SHM_CHUNK) {
		uint32_t chunk = take_chunk(c);

		if (chunk == NONE)
			return SNT_EPROTOCOL;
		memcpy(c->chunks + (size_t)chunk * SHM_CHUNK, bytes + at, size - at < SHM_CHUNK ? size - at : SHM_CHUNK);
		if (early->chunk == NONE)
			early->chunk = chunk;
		else
			c->chunk_next[early->last] = chunk;
		early->last = chunk;
		c->chunk_next[chunk] = NONE;
	}
	return 0;
}

int shm_early_keep(struct shm_conn *c, const struct shm_cell *head, const char *bytes)
{
	struct shm_early *early = take_early(c, head);

	if (!early || store(c, early, bytes, early->size))
		return SNT_EPROTOCOL;
	early->is_offer = 0;
	snti_list_append(&c->early, &early->link);
	return 0;
}

int shm_early_offer(struct shm_conn *c, const struct shm_cell *head, const struct shm_offer *offer)
{
	struct shm_early *early = take_early(c, head);

	if (!early)
		return SNT_EPROTOCOL;
	early->is_offer = 1;
	early->offer = *offer;
	snti_list_append(&c->early, &early->link);
	if (offer->unasked)
		c->in[early->number].early = early;
	return 0;
}

/* A piece of what comes unasked. Once it is whole it is like any other that came early. */
int shm_early_add(struct shm_conn *c, uint32_t number, const char *bytes, uint64_t size)
{
	struct shm_early *early = c->in[number].early;
	uint64_t end = early->stored + size;

	if (!size || end > early->size || (size % SHM_CHUNK && end < early->size) || store(c, early, bytes, size))
		return SNT_EPROTOCOL;
	early->stored = end;
	if (end == early->size) {
		early->is_offer = 0;
		c->in[number] = (struct shm_in){ 0 };
	}
	return 0;
}

struct shm_early *shm_early_find(struct shm_conn *c, uint64_t lane)
{
	snti_list_each (link, &c->early) {
		struct shm_early *early = snti_container(link, struct shm_early, link);

		if (early->lane == lane)
			return early;
	}
	return NULL;
}

void shm_early_land(struct shm_conn *c, struct shm_early *early, struct snti_xfer *xfer, uint64_t size)
{
	uint32_t chunk = early->chunk;

	for (size_t at = 0; at < size; at += SHM_CHUNK) {
		size_t part = size - at < SHM_CHUNK ? size - at : SHM_CHUNK;

		snti_land(xfer, at, c->chunks + (size_t)chunk * SHM_CHUNK, part);
		chunk = c->chunk_next[chunk];
	}
}

void shm_early_drop(struct shm_conn *c, struct shm_early *early)
{
	give_chunks(c, early->chunk);
	early->chunk = NONE;
	snti_list_remove(&early->link);
	/* The one used last is warm: take it first. */
	early->link.next = c->early_free.next;
	early->link.prev = &c->early_free;
	c->early_free.next->prev = &early->link;
	c->early_free.next = &early->link;
}
