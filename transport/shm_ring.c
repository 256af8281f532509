/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_ring.c - cells: small messages there and back, and what every incoming cell means. */
#define _GNU_SOURCE
#include <string.h>

#include "base/log.h"
#include "transport/shm.h"

void shm_garbled(struct shm_conn *c, const char *what)
{
	if (c->base.status >= 0)
		shm_fail(c, snti_fail(SNT_EPROTOCOL, "rank %d sent what makes no sense: %s", c->base.peer, what));
}

/* ---- sending -------------------------------------------------------------- */

/* Reads how far the peer is. 0, or the conn has failed. */
int shm_refresh(struct shm_conn *c)
{
	uint64_t cells = shm_load(&c->peer_counters->cells), slots = shm_load(&c->peer_counters->slots);
	uint64_t messages = shm_load(&c->peer_counters->messages), bytes = shm_load(&c->peer_counters->bytes);

	if (cells > c->sent || slots > c->slots_sent || messages > c->messages || bytes > c->bytes) {
		shm_garbled(c, "it has read more than was sent");
		return c->base.status;
	}
	c->cell_limit = cells + SHM_CELLS;
	c->slot_limit = slots + c->slots;
	c->message_limit = messages + SHM_NUMBERS;
	c->byte_limit = bytes + c->eager;
	return 0;
}

/* A cell that may be written, or NULL. */
struct shm_cell *shm_next_cell(struct shm_conn *c)
{
	if (c->sent >= c->cell_limit && (shm_refresh(c) || c->sent >= c->cell_limit))
		return NULL;
	return &c->out_cells[c->sent % SHM_CELLS];
}

inline void shm_put_cell(struct shm_conn *c, struct shm_cell *cell, uint64_t word)
{
	cell->word = word;
	shm_store(&cell->seq, ++c->sent);
	shm_nudge(c);
}

static inline void put_inline(struct shm_conn *c, const struct snti_xfer *xfer)
{
	struct shm_cell *cell = &c->out_cells[c->sent % SHM_CELLS];
	size_t size = xfer->size;

	cell->lane = xfer->lane;
	cell->fingerprint = xfer->fingerprint;
	if (size == 8)
		memcpy(cell->bytes, xfer->data, 8);
	else if (size)
		memcpy(cell->bytes, xfer->data, size);
	c->messages++;
	c->bytes += size;
	shm_put_cell(c, cell, shm_word(SHM_EAGER, 0, size));
}

/* Ordinary stores at any size: the slots stay in the caches whatever passes through them. Between two Zen 4
 * cores memcpy's string instruction moves 30 % more than vector stores, and streaming stores only half. */
void shm_put_slot(struct shm_conn *c, const char *bytes, size_t size)
{
	memcpy(c->out_slots + c->slots_sent++ % c->slots * c->slot, bytes, size);
}

static int send_eager_slot(struct shm_conn *c, struct snti_xfer *xfer)
{
	struct shm_cell *cell = &c->out_cells[c->sent % SHM_CELLS];

	shm_put_slot(c, xfer->data, xfer->size);
	c->messages++;
	c->bytes += xfer->size;
	cell->lane = xfer->lane;
	cell->fingerprint = xfer->fingerprint;
	shm_put_cell(c, cell, shm_word(SHM_SLOT, 0, xfer->size));
	xfer->status = 0;
	return 0;
}

static int send_slow(struct shm_conn *c, struct snti_xfer *xfer)
{
	if (c->base.status)
		return c->base.status == SNT_BUSY ? SNTI_AGAIN : c->base.status;
	if (c->gone)
		return c->gone;
	if ((c->sent >= c->cell_limit || !shm_has_credit(c, xfer->size) || c->slots_sent >= c->slot_limit) && shm_refresh(c))
		return c->base.status;
	if (c->sent >= c->cell_limit)
		return SNTI_AGAIN;
	if (xfer->size > c->least_piece || !shm_has_credit(c, xfer->size))
		return shm_offer(c, xfer);
	if (xfer->size <= SHM_INLINE) {
		put_inline(c, xfer);
		xfer->status = 0;
		return 0;
	}
	if (c->slots_sent < c->slot_limit)
		return send_eager_slot(c, xfer);
	/* Only eager messages are in the slots: the peer frees them whatever its lanes do. A stream
	 * would compete for every slot that comes free, so queue up with it. */
	return snti_list_empty(&c->streams) ? SNTI_AGAIN : shm_offer(c, xfer);
}

int shm_send(struct snti_conn *conn, struct snti_xfer *xfer)
{
	struct shm_conn *c = shm_conn_of(conn);

	if (__builtin_expect(xfer->size <= SHM_INLINE && c->sent < c->cell_limit && shm_has_credit(c, xfer->size), 1)) {
		put_inline(c, xfer);
		xfer->status = 0;
		return 0;
	}
	return send_slow(c, xfer);
}

/* ---- receiving ------------------------------------------------------------ */

void shm_publish(struct shm_conn *c)
{
	shm_store(&c->own_counters->cells, c->done.cells);
	shm_store(&c->own_counters->slots, c->done.slots);
	shm_store(&c->own_counters->messages, c->done.messages);
	shm_store(&c->own_counters->bytes, c->done.bytes);
	c->told = c->done;
	shm_nudge(c);
}

/* Not more often than the peer needs: its line moves to it and back each time. */
static inline void maybe_publish(struct shm_conn *c)
{
	if (c->done.cells - c->told.cells >= SHM_CELLS / 4 || (c->done.slots - c->told.slots) * 4 >= c->slots ||
	    c->done.messages - c->told.messages >= SHM_NUMBERS / 4 || (c->done.bytes - c->told.bytes) * 4 > c->eager)
		shm_publish(c);
}

static inline void consume(struct shm_conn *c)
{
	c->received++;
	c->done.cells++;
	maybe_publish(c);
}

static inline void matched(struct shm_conn *c, uint64_t size)
{
	c->done.messages++;
	c->done.bytes += size;
}

static int differs(struct snti_xfer *xfer, const struct shm_cell *head)
{
	return !snti_fits(xfer, head->word >> 16) || xfer->fingerprint != head->fingerprint;
}

static int mismatch(const struct shm_conn *c, const struct snti_xfer *xfer, uint64_t size, uint64_t fingerprint)
{
	return snti_fail(SNT_EMISMATCH,
			 "rank %d sent %llu bytes (call %016llx) where this rank expects %zu (call %016llx)", c->base.peer,
			 (unsigned long long)size, (unsigned long long)fingerprint, xfer->size,
			 (unsigned long long)xfer->fingerprint);
}

static struct snti_xfer *find_posted(struct shm_conn *c, uint64_t lane)
{
	snti_list_each (link, &c->posted) {
		struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

		if (xfer->lane == lane)
			return xfer;
	}
	return NULL;
}

/* A message that its sender has forgotten already: a mismatch fails the conn, on both sides. */
static void take_eager(struct shm_conn *c, const struct shm_cell *head, const char *bytes)
{
	uint64_t size = head->word >> 16;
	struct snti_xfer *xfer = find_posted(c, head->lane);

	if (!xfer) {
		if (shm_early_keep(c, head, bytes))
			shm_garbled(c, "more messages than its credit");
		return;
	}
	if (differs(xfer, head)) {
		shm_fail(c, mismatch(c, xfer, size, head->fingerprint));
		return;
	}
	snti_list_remove(&xfer->link);
	if (size)
		snti_land(xfer, 0, bytes, size);
	matched(c, size);
	xfer->status = 0;
}

static void match_offer(struct shm_conn *c, struct snti_xfer *xfer, const struct shm_cell *head,
			const struct shm_offer *offer, uint64_t stored)
{
	uint32_t number = head->word >> 8 & 0xff;

	snti_list_remove(&xfer->link);
	if (!differs(xfer, head)) {
		if (offer->unasked) {
			matched(c, head->word >> 16);
			shm_take_unasked(c, xfer, number, stored);
		} else {
			shm_take_offer(c, xfer, number, offer);
		}
		return;
	}
	if (offer->unasked) {   /* its sender may be through with it */
		xfer->status = mismatch(c, xfer, head->word >> 16, head->fingerprint);
		shm_fail(c, xfer->status);
		return;
	}
	xfer->status = mismatch(c, xfer, head->word >> 16, head->fingerprint);
	shm_reject(c, number);
}

static void take_offer_cell(struct shm_conn *c, const struct shm_cell *head, const unsigned char *bytes)
{
	uint32_t number = head->word >> 8 & 0xff;
	struct snti_xfer *xfer;
	struct shm_offer offer;

	if (c->in[number].state != SHM_IN_FREE) {
		shm_garbled(c, "an offer's number is in use");
		return;
	}
	c->in[number].state = SHM_IN_WAITS;
	memcpy(&offer, bytes, sizeof(offer));
	xfer = find_posted(c, head->lane);
	if (xfer)
		match_offer(c, xfer, head, &offer, 0);
	else if (shm_early_offer(c, head, &offer))
		shm_garbled(c, "more offers than allowed");
}

static const char *next_in_slot(struct shm_conn *c)
{
	return c->in_slots + c->done.slots % c->slots * c->slot;
}

static void take_piece(struct shm_conn *c, uint32_t number, uint64_t size)
{
	struct snti_xfer *xfer = c->in[number].xfer;

	if (c->in[number].early) {
		if (shm_early_add(c, number, next_in_slot(c), size))
			shm_garbled(c, "more of a message than was announced");
	} else if (shm_piece(c, number, size)) {
		shm_garbled(c, "a piece of no message");
	} else {
		if (xfer->fold && xfer->behind)
			shm_send_ahead(c, xfer, xfer->moved + size);
		if (c->base.status < 0)
			return;
		snti_land(xfer, xfer->moved, next_in_slot(c), size);
		xfer->moved += size;
		if (xfer->moved < xfer->size)
			return;
		c->in[number] = (struct shm_in){ 0 };
		xfer->status = 0;
	}
}

static void take_slot(struct shm_conn *c, const struct shm_cell *head)
{
	uint32_t number = head->word >> 8 & 0xff, type = head->word & 0xff;
	uint64_t size = head->word >> 16;

	if (size > c->slot)
		shm_garbled(c, "a piece is larger than a slot");
	else if (type == SHM_SLOT)
		take_eager(c, head, next_in_slot(c));
	else
		take_piece(c, number, size);
	c->done.slots++;
}

static void take_cell(struct shm_conn *c, const struct shm_cell *cell)
{
	struct shm_cell head;
	uint32_t type, number;

	/* Copied once: the peer could change it between a check and a use. */
	head.word = __atomic_load_n(&cell->word, __ATOMIC_RELAXED);
	head.lane = __atomic_load_n(&cell->lane, __ATOMIC_RELAXED);
	head.fingerprint = __atomic_load_n(&cell->fingerprint, __ATOMIC_RELAXED);
	type = head.word & 0xff;
	number = head.word >> 8 & 0xff;
	if (type == SHM_EAGER && head.word >> 16 <= SHM_INLINE) {
		take_eager(c, &head, (const char *)cell->bytes);
	} else if (type == SHM_SLOT || type == SHM_PIECE) {
		take_slot(c, &head);
	} else if (type == SHM_OFFER) {
		take_offer_cell(c, &head, cell->bytes);
	} else if (shm_answered(c, type, number)) {
		shm_garbled(c, "an answer to nothing");
	}
	if (c->base.status >= 0)
		consume(c);
}

/* Long enough that keeping it aside costs, and nobody waits for it. */
static int is_too_early(struct shm_conn *c, const struct shm_cell *cell)
{
	uint32_t type = __atomic_load_n(&cell->word, __ATOMIC_RELAXED) & 0xff;
	struct shm_offer offer = { 0 };

	if (type == SHM_OFFER)
		memcpy(&offer, cell->bytes, sizeof(offer));
	return (type == SHM_SLOT || offer.unasked) && !find_posted(c, __atomic_load_n(&cell->lane, __ATOMIC_RELAXED));
}

/* In a moment somebody may wait for it: after what has just come, or when the operation that polls gets on. */
static int is_left(struct shm_conn *c, const struct shm_cell *cell, int taken)
{
	if (!is_too_early(c, cell))
		return 0;
	if (c->left_cell != c->received) {
		c->left_cell = c->received;
		c->left_times = 0;
	}
	return taken || c->left_times++ < SHM_LEAVES;
}

/* Whether @cell is a message whole, and all that is waited for. What comes in pieces has its next ones behind it. */
static inline int is_last(const struct shm_conn *c, const struct shm_cell *cell)
{
	uint32_t type = __atomic_load_n(&cell->word, __ATOMIC_RELAXED) & 0xff;

	return (type == SHM_EAGER || type == SHM_SLOT) && c->posted.next != &c->posted && c->posted.next == c->posted.prev;
}

/* Takes what has come, at most a ring full, and until the last has come that is waited for. How many cells. */
int shm_drain(struct shm_conn *c)
{
	int taken = 0, last = 0;

	while (taken < (int)SHM_CELLS && c->base.status == 0 && !(last && snti_list_empty(&c->posted)) && shm_has_cell(c)) {
		const struct shm_cell *cell = &c->in_cells[c->received % SHM_CELLS];

		if (is_left(c, cell, taken))
			break;
		last = is_last(c, cell);
		take_cell(c, cell);
		taken++;
	}
	return taken;
}

/* What has come of it already lands now. */
static void recv_offered(struct shm_conn *c, struct shm_early *early, struct snti_xfer *xfer, const struct shm_cell *head)
{
	struct shm_offer offer = early->offer;
	uint64_t stored = early->stored;

	if (stored && !differs(xfer, head))
		shm_early_land(c, early, xfer, stored);
	c->in[early->number].early = NULL;
	shm_early_drop(c, early);
	match_offer(c, xfer, head, &offer, stored);
}

static int recv_early(struct shm_conn *c, struct shm_early *early, struct snti_xfer *xfer)
{
	struct shm_cell head = { .word = shm_word(0, early->number, early->size), .lane = early->lane,
				 .fingerprint = early->fingerprint };

	snti_list_init(&xfer->link);
	if (early->is_offer) {
		recv_offered(c, early, xfer, &head);
		return 0;
	}
	if (differs(xfer, &head)) {
		xfer->status = mismatch(c, xfer, early->size, early->fingerprint);
		shm_fail(c, xfer->status);
		return 0;
	}
	shm_early_land(c, early, xfer, early->size);
	matched(c, early->size);
	shm_early_drop(c, early);
	maybe_publish(c);
	xfer->status = 0;
	if (c->gone)
		shm_settle(c);
	return 0;
}

static inline void look(struct shm_conn *c)
{
	c->blind = shm_has_cell(c) ? 0 : SHM_BLIND;
	if (!c->blind)
		shm_drain(c);
}

static int recv_slow(struct shm_conn *c, struct snti_xfer *xfer)
{
	struct shm_early *early;

	if (c->base.status)
		return c->base.status == SNT_BUSY ? SNTI_AGAIN : c->base.status;
	xfer->status = SNT_BUSY;
	early = snti_list_empty(&c->early) ? NULL : shm_early_find(c, xfer->lane);
	if (early)
		return recv_early(c, early, xfer);
	if (c->gone && !shm_has_cell(c))
		return c->gone;
	snti_list_append(&c->posted, &xfer->link);
	if (c->blind && xfer->size <= c->least_piece)
		c->blind--;
	else
		look(c);
	return 0;
}

/* The next cell is for this receive and nothing waits before it: no lists. */
static inline int take_at_once(struct shm_conn *c, struct snti_xfer *xfer)
{
	const struct shm_cell *cell = &c->in_cells[c->received % SHM_CELLS];
	size_t size = xfer->size;

	if (shm_load(&cell->seq) != c->received + 1 || cell->lane != xfer->lane || size > SHM_INLINE ||
	    cell->word != shm_word(SHM_EAGER, 0, size) || cell->fingerprint != xfer->fingerprint)
		return 0;
	if (size == 8 && !xfer->fold)
		memcpy(xfer->data, cell->bytes, 8);
	else if (size)
		snti_land(xfer, 0, cell->bytes, size);
	matched(c, size);
	consume(c);
	xfer->status = 0;
	return 1;
}

int shm_recv(struct snti_conn *conn, struct snti_xfer *xfer)
{
	struct shm_conn *c = shm_conn_of(conn);

	if (__builtin_expect(conn->status == 0, 1) && !c->blind && snti_list_empty(&c->posted) && snti_list_empty(&c->early) &&
	    take_at_once(c, xfer))
		return 0;
	return recv_slow(c, xfer);
}
