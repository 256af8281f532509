/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_large.c - messages that do not fit a cell or a small slot: offered, then read from the sender or streamed through
 * the slots; or streamed at once, within the credit. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/uio.h>

#include "base/log.h"
#include "base/settings.h"
#include "transport/shm.h"

/* ---- the sender ----------------------------------------------------------- */

static void finish_out(struct shm_conn *c, uint32_t number, int status)
{
	struct snti_xfer *xfer = c->out[number];

	c->out[number] = NULL;
	c->free_numbers[c->free_count++] = (uint16_t)number;
	snti_list_remove(&xfer->link);
	xfer->status = status;
}

/* Full slots, but two pieces at least to a message, so that its sender and its receiver are both busy. */
static size_t piece_of(const struct shm_conn *c, const struct snti_xfer *xfer)
{
	size_t left = xfer->size - xfer->moved, part = xfer->size / 2;

	part = part > c->slot ? c->slot : part < c->least_piece ? c->least_piece : part + SHM_CHUNK - 1;
	part = part / SHM_CHUNK * SHM_CHUNK;
	return part < left ? part : left;
}

static int stream_piece(struct shm_conn *c, struct snti_xfer *xfer)
{
	struct shm_cell *cell = shm_next_cell(c);
	size_t part = piece_of(c, xfer);

	if (!cell || (c->slots_sent >= c->slot_limit && (shm_refresh(c) || c->slots_sent >= c->slot_limit)))
		return 0;
	shm_put_slot(c, (const char *)xfer->data + xfer->moved, part);
	xfer->moved += part;
	shm_put_cell(c, cell, shm_word(SHM_PIECE, (uint32_t)xfer->number, part));
	if (xfer->moved == xfer->size) {
		finish_out(c, (uint32_t)xfer->number, 0);
	} else {
		/* To the end: the streams take turns. */
		snti_list_remove(&xfer->link);
		snti_list_append(&c->streams, &xfer->link);
	}
	return 1;
}

static int stream(struct shm_conn *c)
{
	int moved = 0;

	while (moved < (int)c->slots && !snti_list_empty(&c->streams) &&
	       stream_piece(c, snti_container(c->streams.next, struct snti_xfer, link)))
		moved++;
	return moved;
}

/* From the size on from which the receiver may rather read from the sender. */
static int may_be_read(size_t size)
{
	uint64_t least = snti_settings()->shm_single_copy;

	return size >= (least ? least : SHM_SINGLE_COPY);
}

/* The peer has room for it even if nobody waits there. But keeping it aside costs the peer a copy, so it is done only
 * where the way there and back does not hide behind other messages. */
static int goes_unasked(const struct shm_conn *c, const struct snti_xfer *xfer)
{
	int is_hidden = xfer->unhurried || c->free_count < SHM_NUMBERS;

	return !is_hidden && xfer->size && !xfer->memory && !may_be_read(xfer->size) && shm_has_credit(c, xfer->size);
}

static void go_on(struct shm_conn *c, struct snti_xfer *xfer)
{
	xfer->acked = 1;
	snti_list_append(&c->streams, &xfer->link);
	c->work = 1;
	stream(c);
}

/* The caller has checked that there is a cell. */
int shm_offer(struct shm_conn *c, struct snti_xfer *xfer)
{
	struct shm_cell *cell = shm_next_cell(c);
	struct shm_offer offer = { .address = xfer->spare ? 0 : (uint64_t)(uintptr_t)xfer->data, .unasked = goes_unasked(c, xfer) };
	uint32_t number;

	if (!cell || !c->free_count)
		return SNTI_AGAIN;
	if (xfer->memory) {
		offer.memory = shm_announce(c, xfer->memory);
		offer.offset = (uint64_t)((char *)xfer->data - xfer->memory->base);
	}
	if (offer.memory && xfer->room) {
		offer.room_memory = shm_announce(c, xfer->room_memory);
		offer.room_offset = (uint64_t)((char *)xfer->room - xfer->room_memory->base);
		offer.answer = xfer->answer;
	}
	number = c->free_numbers[--c->free_count];
	c->out[number] = xfer;
	xfer->number = number;
	xfer->moved = xfer->acked = 0;
	xfer->status = SNT_BUSY;
	snti_list_init(&xfer->link);
	cell->lane = xfer->lane;
	cell->fingerprint = xfer->fingerprint;
	memcpy(cell->bytes, &offer, sizeof(offer));
	shm_put_cell(c, cell, shm_word(SHM_OFFER, number, xfer->size));
	if (offer.unasked) {
		c->messages++;
		c->bytes += xfer->size;
		go_on(c, xfer);
	}
	return 0;
}

/* An answer to an offer has come. Not 0: to none. */
int shm_answered(struct shm_conn *c, uint32_t type, uint32_t number)
{
	struct snti_xfer *xfer = c->out[number];

	if (!xfer || xfer->acked || type < SHM_CLEAR || type > SHM_ANSWERED || (type == SHM_ANSWERED && !xfer->room))
		return SNT_EPROTOCOL;
	if (type == SHM_CLEAR) {
		go_on(c, xfer);
	} else if (type == SHM_DONE || type == SHM_ANSWERED) {
		xfer->answered = type == SHM_ANSWERED;
		finish_out(c, number, 0);
	} else {
		finish_out(c, number, snti_fail(SNT_EMISMATCH, "rank %d expects another message than %zu bytes (call %016llx)",
						c->base.peer, xfer->size, (unsigned long long)xfer->fingerprint));
	}
	return 0;
}

/* A fold in place wants to write the first @end bytes: better they are sent than kept aside. */
void shm_send_ahead(struct shm_conn *c, const struct snti_xfer *recv, size_t end)
{
	struct snti_xfer *send = recv->behind;

	while (send->status == SNT_BUSY && send->acked && send->moved < end && stream_piece(c, send))
		;
}

/* ---- the receiver --------------------------------------------------------- */

static int put_answers(struct shm_conn *c)
{
	struct shm_cell *cell;
	int put = 0;

	while (c->answer_count && (cell = shm_next_cell(c))) {
		struct shm_answer *answer = &c->answers[c->answer_first++ % SHM_NUMBERS];

		c->answer_count--;
		shm_put_cell(c, cell, shm_word(answer->type, answer->number, 0));
		put++;
	}
	return put;
}

/* There is room: a number has one answer, and is free for another offer only after it. */
static void answer(struct shm_conn *c, uint32_t type, uint32_t number)
{
	if (c->answer_count >= SHM_NUMBERS) {
		shm_garbled(c, "offers faster than answers");
		return;
	}
	c->answers[(c->answer_first + c->answer_count++) % SHM_NUMBERS] = (struct shm_answer){ type, number };
	c->work = 1;
	put_answers(c);
}

void shm_reject(struct shm_conn *c, uint32_t number)
{
	c->in[number] = (struct shm_in){ 0 };
	answer(c, SHM_REJECT, number);
}

static void clear_to_send(struct shm_conn *c, uint32_t number)
{
	c->in[number].state = SHM_IN_CLEARED;
	answer(c, SHM_CLEAR, number);
}

void shm_finish_in(struct shm_conn *c, uint32_t number, uint32_t type)
{
	struct snti_xfer *xfer = c->in[number].xfer;

	snti_list_remove(&xfer->link);
	c->in[number] = (struct shm_in){ 0 };
	answer(c, type, number);
	xfer->status = 0;
}

static int worth_reading(const struct shm_conn *c, size_t size)
{
	if (!snti_settings()->shm_single_copy && shm_port_of(c->base.port)->single_copy < 0)
		return 0;
	return c->readable && may_be_read(size);
}

/* The first @stored bytes are in place, the others are on their way. */
void shm_take_unasked(struct shm_conn *c, struct snti_xfer *xfer, uint32_t number, uint64_t stored)
{
	c->in[number] = (struct shm_in){ .xfer = xfer, .state = SHM_IN_CLEARED };
	xfer->number = number;
	xfer->moved = stored;
	xfer->acked = 0;
}

void shm_take_offer(struct shm_conn *c, struct snti_xfer *xfer, uint32_t number, const struct shm_offer *offer)
{
	struct shm_in *in = &c->in[number];

	in->xfer = xfer;
	in->address = offer->address;
	in->mapped = offer->memory ? shm_mapped(c, offer, xfer->size) : NULL;
	if (offer->memory && !in->mapped) {
		shm_read_socket(c);     /* its descriptor was sent before the offer */
		if (c->base.status < 0)
			return;
		in->mapped = shm_mapped(c, offer, xfer->size);
	}
	xfer->number = number;
	xfer->moved = xfer->acked = 0;
	if (!xfer->size) {
		shm_finish_in(c, number, SHM_DONE);
	} else if (in->mapped || (in->address && worth_reading(c, xfer->size))) {
		in->state = SHM_IN_PULLED;
		snti_list_append(&c->pulls, &xfer->link);
		c->work = 1;
	} else {
		clear_to_send(c, number);
	}
}

/* Whether a piece belongs to a message, and fits. */
int shm_piece(struct shm_conn *c, uint32_t number, uint64_t size)
{
	struct shm_in *in = &c->in[number];

	if (in->state != SHM_IN_CLEARED || !size || size > in->xfer->size - in->xfer->moved)
		return SNT_EPROTOCOL;
	if (in->xfer->fold && size & (in->xfer->width - 1))
		return SNT_EPROTOCOL;
	return 0;
}

/* Reads from the sender, and its nonce with it: its number could belong to another process by now. */
static int read_peer(struct shm_conn *c, char *to, uint64_t from, size_t size)
{
	uint64_t nonce = 0;
	struct iovec local[2] = { { to, size }, { &nonce, sizeof(nonce) } };
	struct iovec remote[2] = { { (void *)(uintptr_t)from, size },
				   { (void *)(uintptr_t)c->peer_nonce_at, sizeof(nonce) } };
	ssize_t got = process_vm_readv(c->pid, local, 2, remote, 2, 0);

	return got == (ssize_t)(size + sizeof(nonce)) && nonce == c->peer_nonce ? 0 : -1;
}

static int pull_folding(struct shm_conn *c, struct snti_xfer *xfer, uint64_t from, size_t size)
{
	char *bounce = shm_port_of(c->base.port)->bounce;

	for (size_t at = 0; at < size; at += SHM_BOUNCE) {
		size_t part = size - at < SHM_BOUNCE ? size - at : SHM_BOUNCE;

		if (read_peer(c, bounce, from + at, part))
			return -1;
		snti_land(xfer, xfer->moved, bounce, part);
		xfer->moved += part;
	}
	return 0;
}

static int pull_piece(struct shm_conn *c, struct snti_xfer *xfer, const struct shm_in *in, size_t size)
{
	if (in->mapped) {
		snti_land(xfer, xfer->moved, in->mapped + xfer->moved, size);
	} else if (xfer->fold) {
		return pull_folding(c, xfer, in->address + xfer->moved, size);
	} else if (read_peer(c, (char *)xfer->data + xfer->moved, in->address + xfer->moved, size)) {
		return -1;
	}
	xfer->moved += size;
	return 0;
}

static void stop_reading(struct shm_conn *c, struct snti_xfer *xfer)
{
	snti_log(SNT_LOG_WARN, "rank %d: cannot read its memory any more, copying through shared slots", c->base.peer);
	c->readable = 0;
	snti_list_remove(&xfer->link);
	if (xfer->moved && xfer->fold && xfer->operand == xfer->data) {
		/* What has been folded in place cannot be folded again. */
		c->in[xfer->number] = (struct shm_in){ 0 };
		xfer->status = SNT_EPEER;
		shm_fail(c, snti_fail(SNT_EPEER, "rank %d: its memory became unreadable in mid-message", c->base.peer));
		return;
	}
	xfer->moved = 0;
	clear_to_send(c, (uint32_t)xfer->number);
}

/* Whether what was just read may be another's than the message's: its sender has given up. */
int shm_was_abandoned(const struct shm_conn *c)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return shm_load(c->peer_left) != 0;
}

static int pull(struct shm_conn *c)
{
	struct snti_xfer *xfer = snti_container(c->pulls.next, struct snti_xfer, link);
	uint32_t number = (uint32_t)xfer->number;
	size_t left = xfer->size - xfer->moved;

	if (pull_piece(c, xfer, &c->in[number], left < SHM_PULL ? left : SHM_PULL)) {
		stop_reading(c, xfer);
	} else if (shm_was_abandoned(c)) {
		shm_fail(c, snti_fail(SNT_EPEER, "rank %d gave up while its memory was read", c->base.peer));
	} else if (xfer->moved == xfer->size) {
		shm_finish_in(c, number, SHM_DONE);
	} else {
		snti_list_remove(&xfer->link);
		snti_list_append(&c->pulls, &xfer->link);
	}
	return 1;
}

/* Answers, streams and pulls, a bounded amount of each. */
int shm_move_large(struct shm_conn *c)
{
	int moved = 0;

	if (c->answer_count)
		moved += put_answers(c);
	if (!snti_list_empty(&c->streams))
		moved += stream(c);
	if (!snti_list_empty(&c->pulls))
		moved += pull(c);
	c->work = c->answer_count || !snti_list_empty(&c->streams) || !snti_list_empty(&c->pulls);
	return moved;
}

/* Whether shm_move_large would move anything. */
int shm_can_move(struct shm_conn *c)
{
	if (!snti_list_empty(&c->pulls))
		return 1;
	if (!c->answer_count && snti_list_empty(&c->streams))
		return 0;
	return !shm_refresh(c) && c->sent < c->cell_limit && (c->answer_count || c->slots_sent < c->slot_limit);
}
