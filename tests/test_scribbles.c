/* SPDX-License-Identifier: BSD-3-Clause */
/* test_scribbles.c - a peer that writes what it likes into the shared region: the other side fails or goes on, never more. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/conformance_parts.h"
#include "tests/strangers.h"
#include "transport/shm.h"

enum { ROUNDS = 4000, STEPS = 200, XFERS = 12, LANES = 3, GUARD = 64 };

/* One side of a pair is honest and polled, the other one's region and socket are scribbled on. */
struct duel {
	struct pair p;
	int honest;
	struct shm_conn *victim, *scribbler;
	uint64_t round;
	struct snti_xfer xfers[XFERS];
	size_t sizes[LANES];             /* of the messages of each lane, so that many do match */
	unsigned malice, failed, lent;         /* one word in so many is wrong */
};

static const size_t some_sizes[] = { 0, 8, 16, 96, 104, 1024, 1032, 4096, 40000 };

static size_t any(size_t below)
{
	return (size_t)(next_random() >> 8) % below;
}

static size_t any_size(void)
{
	return some_sizes[any(sizeof(some_sizes) / sizeof(some_sizes[0]))];
}

static void fold(void *dst, const void *left, const void *right, size_t count)
{
	for (size_t i = 0; i < 8 * count; i++)
		((char *)dst)[i] = (char)(((const char *)left)[i] ^ ((const char *)right)[i]);
}

/* ---- the honest side ------------------------------------------------------ */

static void renew(const struct duel *d, struct snti_xfer *xfer)
{
	size_t lane = any(LANES), size = any(d->malice) ? d->sizes[lane] : any_size();

	free(xfer->data);
	*xfer = message(NULL, size, lane);
	xfer->status = 0;
	xfer->data = calloc(1, size + GUARD);
	memset((char *)xfer->data + size, 0x5a, GUARD);
	xfer->width = 8;
	xfer->operand = xfer->data;
	xfer->fold = any(2) ? fold : NULL;
	xfer->arriving_left = (uint32_t)any(2);
}

static void check_guard(const struct snti_xfer *xfer)
{
	const unsigned char *guard = (const unsigned char *)xfer->data + xfer->size;

	for (int i = 0; xfer->data && i < GUARD; i++)
		assert_int_equal(guard[i], 0x5a);
}

/* Whatever is lent, all of it can be read, and written where there is room. */
static void borrow(struct duel *d)
{
	struct snti_xfer xfer = message(NULL, d->sizes[any(LANES)], any(LANES));
	unsigned sum = 0;

	if (d->victim->base.status || snti_shm_transport.borrow(&d->victim->base, &xfer))
		return;
	d->lent++;
	for (size_t i = 0; i < xfer.size; i++)
		sum += (unsigned char)xfer.lent[i];
	if (xfer.room && !snti_shm_transport.write(&d->victim->base, 1)) {
		memset(xfer.room, (int)sum, xfer.size);
		(void)!snti_shm_transport.write(&d->victim->base, 0);
	}
	(void)!snti_shm_transport.give_back(&d->victim->base, &xfer, xfer.room != NULL);
}

static void do_something(struct duel *d)
{
	struct snti_xfer *xfer = &d->xfers[any(XFERS)];
	int status;

	if (!any(3))
		borrow(d);
	if (xfer->status == SNT_BUSY)
		return;
	check_guard(xfer);
	renew(d, xfer);
	if (any(3)) {
		status = snti_recv(&d->victim->base, xfer);
	} else {
		xfer->fold = NULL;
		status = snti_send(&d->victim->base, xfer);
	}
	assert_true(status <= 0 || status == SNTI_AGAIN);
	if (status)
		xfer->status = 0;
}

/* ---- the scribbler -------------------------------------------------------- */

/* A word as it may be; sometimes almost as it may be, or any. */
static uint64_t near(const struct duel *d, uint64_t value)
{
	if (any(d->malice))
		return value;
	switch (any(3)) {
	case 0: return next_random();
	case 1: return value + any(3) - 1;
	default: return value ^ (uint64_t)1 << any(64);
	}
}

static uint64_t a_word(const struct duel *d, size_t size)
{
	uint32_t number = (uint32_t)any(6);

	if (any(2) && (d->victim->in[number].state == SHM_IN_CLEARED || d->victim->in[number].early))
		return shm_word(SHM_PIECE, number, size % 1024 && any(2) ? size % 1024 : 1024);
	if (any(2) && d->victim->out[number] && (!d->victim->out[number]->acked || !any(d->malice)))
		return shm_word(SHM_CLEAR + (uint32_t)(any(40) ? any(3) : 3), number, 0);
	number = (uint32_t)any(6);
	while (number < SHM_NUMBERS - 1 && d->victim->in[number].state != SHM_IN_FREE && any(d->malice))
		number++;
	if (size > 1024 || !any(4))
		return shm_word(SHM_OFFER, any(d->malice) ? number : number % 6, size);
	return shm_word(size <= SHM_INLINE ? SHM_EAGER : SHM_SLOT, 0, size);
}

/* The next one the honest side looks at. */
static void put_cell(struct duel *d)
{
	const struct shm_conn *v = d->victim;
	struct shm_cell *cell = &v->in_cells[v->received % SHM_CELLS];
	struct shm_offer offer = { .address = near(d, (uintptr_t)d->xfers[0].data), .memory = any(3), .offset = near(d, 0),
				   .unasked = any(2), .room_memory = any(3), .room_offset = any(2) ? 0 : any(8192),
				   .answer = near(d, 1) };

	cell->lane = any(LANES);
	cell->word = near(d, a_word(d, d->sizes[cell->lane]));
	cell->fingerprint = near(d, 7);
	memcpy(cell->bytes, &offer, sizeof(offer));
	shm_store(&cell->seq, near(d, v->received + 1));
}

static void put_counters(struct duel *d)
{
	struct shm_counters *c = (struct shm_counters *)(uintptr_t)d->victim->peer_counters;

	c->cells = near(d, any(2) ? d->victim->sent : 0);
	c->slots = near(d, any(2) ? d->victim->slots_sent : 0);
	c->messages = near(d, d->victim->messages);
	c->bytes = near(d, d->victim->bytes);
}

static void put_anything(struct duel *d)
{
	size_t words = (any(4) ? sizeof(struct shm_region) : d->victim->region_size) / sizeof(uint64_t);

	for (size_t n = any(20); n > 0; n--)
		shm_store((uint64_t *)(void *)d->victim->region + any(words), any(2) ? next_random() : any(300));
}

static void put_sleep_or_left(struct duel *d)
{
	if (any(4))
		shm_store((uint64_t *)(uintptr_t)d->victim->peer_sleeping, near(d, 1));
	else if (!any(8))
		shm_store((uint64_t *)(uintptr_t)d->victim->peer_left, 1);
}

static int some_file(const struct duel *d, size_t size)
{
	int fd = memfd_create("scribbler", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	if (any(d->malice))
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	return fd;
}

static void put_note(struct duel *d)
{
	struct shm_note note = { .magic = SHM_MAGIC, .version = SHM_VERSION, .type = 1 + (uint32_t)any(5),
				 .ident = d->victim->base.ident, .place = near(d, any(3)), .memory = near(d, 1 + any(2)), .size = near(d, 4096) };
	int fd = any(d->malice) ? some_file(d, 4096) : -1;

	note.type = !any(60) ? SHM_BYE : any(d->malice) ? SHM_MEMORY : note.type;
	note.nonce_at = near(d, (uintptr_t)&d->scribbler->nonce);
	note.nonce = d->scribbler->nonce;
	if (d->scribbler->watch.fd >= 0)
		shm_note_send(d->scribbler->watch.fd, &note, fd);
	if (fd >= 0)
		close(fd);
}

static void scribble(struct duel *d)
{
	switch (any(40)) {
	case 0:
		if (!any(d->malice))
			put_anything(d);
		break;
	case 1: case 2: put_counters(d); break;
	case 3: put_sleep_or_left(d); break;
	case 4: case 5: put_note(d); break;
	case 6:
		if (d->scribbler->watch.fd >= 0 && !any(20))
			shutdown(d->scribbler->watch.fd, SHUT_RDWR);
		break;
	default: put_cell(d);
	}
}

/* ---- a round -------------------------------------------------------------- */

static void end_round(struct duel *d)
{
	d->failed += d->victim->base.status < 0;
	for (int side = 0; side < 2; side++) {
		snti_conn_close(d->p.conn[side == 0 ? d->honest : !d->honest]);
		d->p.conn[side == 0 ? d->honest : !d->honest] = NULL;
	}
	for (int i = 0; i < XFERS; i++) {
		if (d->xfers[i].status == SNT_BUSY)
			fail_msg("round %llu: xfer %d of %zu bytes is busy for ever (number %llu, moved %zu)",
				 (unsigned long long)d->round, i, d->xfers[i].size,
				 (unsigned long long)d->xfers[i].number, d->xfers[i].moved);
		check_guard(&d->xfers[i]);
		free(d->xfers[i].data);
	}
	memset(d->xfers, 0, sizeof(d->xfers));
}

static void play(struct duel *d, uint64_t round)
{
	static const unsigned malices[] = { 3, 20, 200, 2000 };
	struct snti_port *port;

	seed = round * 0x9e3779b97f4a7c15u + 1;
	d->honest = (int)any(2);
	begin(&d->p, (int)any(2), round, 0);
	until(&d->p, is_up(&d->p));
	assert_int_equal(d->p.conn[0]->status | d->p.conn[1]->status, 0);
	d->round = round;
	d->malice = malices[any(4)];
	for (int i = 0; i < LANES; i++)
		d->sizes[i] = any_size();
	port = d->p.port[d->honest];
	d->victim = (struct shm_conn *)d->p.conn[d->honest];
	d->scribbler = (struct shm_conn *)d->p.conn[!d->honest];
	if (any(2))
		d->victim->readable = 0;        /* as where the kernel forbids it: then pieces come through slots */
	for (size_t i = 0; i < STEPS; i++) {
		scribble(d);
		if (any(2))
			do_something(d);
		if (any(2))
			assert_true(wire->poll(port) >= 0);
		if (!any(20))
			(void)!wire->arm(port);
	}
	for (int i = 0; i < 300; i++)
		assert_true(wire->poll(port) >= 0);
	end_round(d);
}

static void a_scribbling_peer_does_no_more_than_fail_the_conn(void **state)
{
	struct duel *d = calloc(1, sizeof(*d));
	const char *only = getenv("TEST_ROUND");
	int files = strangers_count_files();

	(void)state;
	wire = &snti_shm_transport;
	open_ports(&d->p);
	for (uint64_t round = only ? strtoull(only, NULL, 0) : 1; round <= ROUNDS; round++) {
		if (getenv("TEST_TIMES"))
			fprintf(stderr, "round %llu\n", (unsigned long long)round);
		play(d, round);
		if (only)
			break;
	}
	print_message("%u of %d conns failed, %u messages lent\n", d->failed, ROUNDS, d->lent);
	assert_true(only || d->lent > 100);
	assert_true(only || (d->failed > ROUNDS / 4 && d->failed < ROUNDS));
	shut(&d->p);
	assert_int_equal(strangers_count_files(), files);
	free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_scribbling_peer_does_no_more_than_fail_the_conn) };

	setenv("SNT_LOG", "0", 0);
	setenv("SNT_SHM_SLOT", "1K", 1);
	setenv("SNT_SHM_SLOTS", "4", 1);
	setenv("SNT_SHM_EAGER", "8K", 1);
	setenv("SNT_SHM_SINGLE_COPY", "4K", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
