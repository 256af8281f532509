/* SPDX-License-Identifier: BSD-3-Clause */
/* conformance.c - what every transport has to do: two ports in one process, polled in turn. */
#include "tests/conformance.h"

#include "tests/conformance_parts.h"

const struct snti_transport *wire;
static const unsigned char secret[32] = "the secret of the conformance";

uint64_t conformance_wait_ms(void)
{
	const char *text = getenv("CONFORMANCE_WAIT_MS");

	return text ? strtoull(text, NULL, 10) : 20000;
}

int turn(struct pair *p)
{
	int did = 0;

	for (int i = 0; i < 2; i++) {
		int moved = p->port[i] ? wire->poll(p->port[i]) : 0;

		assert_true(moved >= 0);
		did += moved;
	}
	return did;
}


void open_ports(struct pair *p)
{
	struct snti_port_options options = { .secret = secret, .local_only = 1 };

	memset(p, 0, sizeof *p);
	for (int i = 0; i < 2; i++)
		assert_int_equal(snti_port_open(wire, &options, &p->port[i]), 0);
}

/* 0 accepts, 1 connects; @first begins. */
void begin(struct pair *p, int first, uint64_t ident, int polls_between)
{
	struct snti_address address;

	assert_int_equal(wire->address(p->port[0], &address), 0);
	assert_int_equal(wire->reaches(p->port[1], &address), 0);
	for (int k = 0; k < 2; k++) {
		int side = k ? !first : first;

		assert_int_equal(snti_conn_open(p->port[side], side ? NULL : &address, side ? &address : NULL, ident,
						!side, &p->conn[side]), 0);
		for (int i = 0; i < polls_between; i++)
			turn(p);
	}
}

int is_up(struct pair *p)
{
	return p->conn[0]->status <= 0 && p->conn[1]->status <= 0;
}

int setup(void **state)
{
	struct pair *p = malloc(sizeof *p);

	alarm(120);
	open_ports(p);
	begin(p, 0, 42, 0);
	until(p, is_up(p));
	assert_int_equal(p->conn[0]->status, 0);
	assert_int_equal(p->conn[1]->status, 0);
	*state = p;
	return 0;
}

void shut(struct pair *p)
{
	for (int i = 0; i < 2; i++)
		snti_conn_close(p->conn[i]);
	for (int i = 0; i < 2; i++)
		snti_port_close(p->port[i]);
}

int teardown(void **state)
{
	shut(*state);
	free(*state);
	alarm(0);
	return 0;
}

/* ---- messages ----------------------------------------------------------- */

uint64_t seed = 1;

uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

void fill(unsigned char *bytes, size_t size, uint64_t salt)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(salt * 31 + i * 7 + (i >> 8) * 13 + (i >> 16));
}

unsigned char *filled(size_t size, uint64_t salt)
{
	unsigned char *bytes = malloc(size + 1);

	fill(bytes, size, salt);
	return bytes;
}

void assert_filled(const unsigned char *bytes, size_t size, uint64_t salt)
{
	unsigned char *want = filled(size, salt);

	assert_int_equal(memcmp(bytes, want, size), 0);
	free(want);
}

struct snti_xfer message(void *data, size_t size, uint64_t lane)
{
	return (struct snti_xfer){ .data = data, .size = size, .lane = lane, .fingerprint = 7, .status = 99 };
}

void do_send(struct pair *p, int side, struct snti_xfer *xfer)
{
	int status = SNTI_AGAIN;

	until(p, (status = snti_send(p->conn[side], xfer)) != SNTI_AGAIN);
	assert_int_equal(status, 0);
}

void do_recv(struct pair *p, int side, struct snti_xfer *xfer)
{
	int status = SNTI_AGAIN;

	until(p, (status = snti_recv(p->conn[side], xfer)) != SNTI_AGAIN);
	assert_int_equal(status, 0);
}

void done(struct pair *p, struct snti_xfer *xfer)
{
	until(p, xfer->status != SNT_BUSY);
	assert_int_equal(xfer->status, 0);
}

void talk(struct pair *p, size_t size)
{
	for (int from = 0; from < 2; from++) {
		unsigned char *out = filled(size, size + 1), *in = malloc(size + 1);
		struct snti_xfer send = message(out, size, 1), recv = message(in, size, 1);

		do_recv(p, !from, &recv);
		do_send(p, from, &send);
		done(p, &send);
		done(p, &recv);
		assert_filled(in, size, size + 1);
		free(out);
		free(in);
	}
}

void expect_text(const char *what)
{
	if (!strstr(snt_error_text(), what))
		fail_msg("'%s' does not say '%s'", snt_error_text(), what);
}

/* One message from @from, receiving @before it is sent or after. */
static void exchange(struct pair *p, int from, size_t size, int before)
{
	unsigned char *out = filled(size, size + 3), *in = malloc(size + 1);
	struct snti_xfer send = message(out, size, 5), recv = message(in, size, 5);

	in[size] = 0xa5;
	if (before)
		do_recv(p, !from, &recv);
	do_send(p, from, &send);
	for (int i = 0; i < 20 && !before; i++)
		turn(p);
	if (!before)
		do_recv(p, !from, &recv);
	done(p, &send);
	done(p, &recv);
	assert_filled(in, size, size + 3);
	assert_int_equal(in[size], 0xa5);
	free(out);
	free(in);
}

static const size_t sizes[] = { 0, 1, 7, 8, 63, 64, 65, 96, 97, 1000, 4096, 16384, 65536, 65537, 1 << 20, (5 << 20) + 3 };
#define SIZES (sizeof sizes / sizeof *sizes)

static void connects_whichever_side_begins_first(void **state)
{
	(void)state;
	for (int variant = 0; variant < 4; variant++) {
		struct pair p;

		alarm(60);
		open_ports(&p);
		begin(&p, variant & 1, 1000 + (uint64_t)variant, variant & 2 ? 2000 : 0);
		until(&p, is_up(&p));
		assert_int_equal(p.conn[0]->status, 0);
		assert_int_equal(p.conn[1]->status, 0);
		exchange(&p, 0, 100, 1);
		exchange(&p, 1, 100, 0);
		shut(&p);
	}
}

static void every_size_arrives_intact(void **state)
{
	for (size_t i = 0; i < SIZES; i++)
		for (int variant = 0; variant < 4; variant++)
			exchange(*state, variant & 1, sizes[i], variant & 2);
}

static void send_before_connection_is_up_is_offered_again(void **state)
{
	struct pair p;
	struct snti_xfer send = message("12345678", 8, 1);
	char in[8];
	struct snti_xfer recv = message(in, 8, 1);

	(void)state;
	alarm(60);
	open_ports(&p);
	begin(&p, 1, 9, 0);
	do_recv(&p, 0, &recv);
	do_send(&p, 1, &send);
	done(&p, &recv);
	assert_memory_equal(in, "12345678", 8);
	shut(&p);
}

/* ---- folds -------------------------------------------------------------- */

/* left - right, so that the order shows; byte for byte, so that nothing need be aligned. */
static void subtract(void *dst, const void *left, const void *right, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		float a, b;

		memcpy(&a, (const char *)left + 4 * i, 4);
		memcpy(&b, (const char *)right + 4 * i, 4);
		a -= b;
		memcpy((char *)dst + 4 * i, &a, 4);
	}
}

static void fold_once(struct pair *p, size_t count, int left, int in_place, size_t skew)
{
	size_t size = 4 * count;
	char *out = malloc(size + 8), *in = malloc(size + 8), *operand = in_place ? in : malloc(size + 8);
	struct snti_xfer send = message(out + skew, size, 3), recv = message(in + skew, size, 3);

	for (size_t i = 0; i < count; i++) {
		float a = (float)(i % 1000), b = (float)(i % 777) * 2;

		memcpy(out + skew + 4 * i, &a, 4);
		memcpy(operand + skew + 4 * i, &b, 4);
	}
	recv.fold = subtract;
	recv.operand = operand + skew;
	recv.width = 4;
	recv.arriving_left = (uint32_t)left;
	if (count & 1)
		do_recv(p, 1, &recv);
	do_send(p, 0, &send);
	for (int i = 0; i < 20; i++)
		turn(p);
	if (!(count & 1))
		do_recv(p, 1, &recv);
	done(p, &recv);
	done(p, &send);
	for (size_t i = 0; i < count; i++) {
		float a = (float)(i % 1000), b = (float)(i % 777) * 2, got;

		memcpy(&got, in + skew + 4 * i, 4);
		if (got != (left ? a - b : b - a))
			fail_msg("element %zu of %zu is wrong", i, count);
	}
	free(out);
	free(in);
	if (!in_place)
		free(operand);
}

static void folds_land_whichever_side_arrives_left(void **state)
{
	static const size_t counts[] = { 0, 1, 2, 15, 16, 25, 1000, 4097, 16384, 16385, 300001, 1000000 };

	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
		for (int variant = 0; variant < 8; variant++)
			fold_once(*state, counts[i], variant & 1, variant & 2, variant & 4 ? 1 : 0);
}

/* Both sides' vectors and scratch, exchanged and folded in place. */
struct swap {
	float *data[2], *spare[2];
	struct snti_xfer send[2], recv[2];
};

static float swap_value(int side, size_t i)
{
	return (float)((side ? 3 * i : i) % 1000);
}

static void swap_begin(struct swap *s, int side, size_t size)
{
	s->data[side] = malloc(size);
	s->spare[side] = malloc(size);
	for (size_t i = 0; i < size / 4; i++)
		s->data[side][i] = swap_value(side, i);
	s->send[side] = s->recv[side] = message(s->data[side], size, 3);
	s->send[side].spare = s->recv[side].spare = s->spare[side];
	s->recv[side].behind = &s->send[side];
	s->recv[side].fold = subtract;
	s->recv[side].operand = s->data[side];
	s->recv[side].width = 4;
}

static void swap_end(struct pair *p, struct swap *s, int side)
{
	done(p, &s->send[side]);
	done(p, &s->recv[side]);
	for (size_t i = 0; i < s->recv[side].size / 4; i++)
		if (s->data[side][i] != swap_value(side, i) - swap_value(!side, i))
			fail_msg("side %d: element %zu of %zu is wrong", side, i, s->recv[side].size / 4);
	free(s->data[side]);
	free(s->spare[side]);
}

/* @turns before side 0 receives; side 1 comes later still. */
static void swap_in_place(struct pair *p, size_t size, int turns)
{
	struct swap s;

	for (int side = 0; side < 2; side++) {
		swap_begin(&s, side, size);
		do_send(p, side, &s.send[side]);
	}
	for (int side = 0; side < 2; side++) {
		for (int i = 0; i < turns; i++)
			turn(p);
		do_recv(p, side, &s.recv[side]);
	}
	for (int side = 0; side < 2; side++)
		swap_end(p, &s, side);
}

/* With a message before them that nobody takes yet, sends of side 0 have to wait while what comes is folded. */
static void a_fold_in_place_follows_its_own_send(void **state)
{
	static const size_t swap_sizes[] = { 4, 96, 4096, 16384, 20000, 65536, 100000, 262144, 300000, 1 << 20, 3 << 20 };
	size_t count = sizeof swap_sizes / sizeof *swap_sizes;
	struct snti_xfer waiting, last;
	unsigned char *out, *in;

	if (!wire->folds_behind)
		skip();
	out = filled(BEYOND, 1);
	in = malloc(BEYOND);
	waiting = message(out, BEYOND, 9);
	last = message(in, BEYOND, 9);
	for (size_t i = 0; i < 4 * count; i++) {
		if (i == 2 * count)
			do_send(*state, 0, &waiting);
		swap_in_place(*state, swap_sizes[i % count], i / count % 2 ? 5 : 0);
	}
	do_recv(*state, 1, &last);
	done(*state, &last);
	done(*state, &waiting);
	assert_filled(in, BEYOND, 1);
	free(out);
	free(in);
}

/* ---- order and lanes ---------------------------------------------------- */

static void stalled_lane_is_alone(void **state)
{
	struct pair *p = *state;
	size_t big = 3 << 20;
	unsigned char *out = filled(big, 1), *in = malloc(big), small[200][8], got[8];
	struct snti_xfer stalled = message(out, big, 1), sends[200], recv = message(in, big, 1);

	do_send(p, 0, &stalled);
	for (int i = 0; i < 200; i++) {
		fill(small[i], 8, (uint64_t)i);
		sends[i] = message(small[i], 8, 2);
		do_send(p, 0, &sends[i]);
	}
	for (size_t i = 0; i < SIZES; i++)
		exchange(p, 0, sizes[i], (int)i & 1);
	do_recv(p, 1, &recv);
	done(p, &recv);
	done(p, &stalled);
	assert_filled(in, big, 1);
	for (int i = 0; i < 200; i++) {
		recv = message(got, 8, 2);
		do_recv(p, 1, &recv);
		done(p, &recv);
		assert_filled(got, 8, (uint64_t)i);
		done(p, &sends[i]);
	}
	free(out);
	free(in);
}

#define MANY 600

struct many {
	struct snti_xfer send[MANY], recv[MANY];
	unsigned char *out[MANY], *in[MANY];
	int sent, received;
};

static void many_make(struct many *m, int lanes)
{
	static const size_t some[] = { 8, 64, 1, 5000, 0, 40000, 97, 300000, 24, 16 };

	memset(m, 0, sizeof *m);
	for (int i = 0; i < MANY; i++) {
		size_t size = some[next_random() % 10];
		uint64_t lane = next_random() % (uint64_t)lanes;

		m->out[i] = filled(size, (uint64_t)i);
		m->in[i] = malloc(size + 1);
		m->send[i] = message(m->out[i], size, lane);
		m->send[i].polled = next_random() % 4 != 0;
		m->recv[i] = message(m->in[i], size, lane);
	}
}

static void many_offer(struct many *m, struct snti_conn *from, struct snti_conn *to)
{
	if (m->sent < MANY && next_random() % 2 && snti_send(from, &m->send[m->sent]) == 0)
		m->sent++;
	if (m->received < MANY && next_random() % 2 && snti_recv(to, &m->recv[m->received]) == 0)
		m->received++;
}

static int many_is_done(const struct many *m)
{
	if (m->sent < MANY || m->received < MANY)
		return 0;
	for (int i = 0; i < MANY; i++)
		if (m->send[i].status == SNT_BUSY || m->recv[i].status == SNT_BUSY)
			return 0;
	return 1;
}

static void many_check(struct many *m)
{
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(m->send[i].status, 0);
		assert_int_equal(m->recv[i].status, 0);
		assert_filled(m->in[i], m->recv[i].size, (uint64_t)i);
		free(m->out[i]);
		free(m->in[i]);
	}
}

static void run_many(struct pair *p, int lanes, int both)
{
	struct many *there = malloc(sizeof *there), *back = malloc(sizeof *back);
	uint64_t deadline = snti_deadline_ms(CONFORMANCE_WAIT_MS);

	many_make(there, lanes);
	many_make(back, lanes);
	while (!(many_is_done(there) && (!both || many_is_done(back))) && !snti_is_past(deadline)) {
		many_offer(there, p->conn[0], p->conn[1]);
		if (both)
			many_offer(back, p->conn[1], p->conn[0]);
		if (next_random() % 3 == 0)
			turn(p);
	}
	assert_true(many_is_done(there));
	many_check(there);
	if (both)
		many_check(back);
	for (int i = 0; i < MANY && !both; i++) {
		free(back->out[i]);
		free(back->in[i]);
	}
	free(there);
	free(back);
}

static void messages_on_one_lane_keep_their_order(void **state)
{
	seed = 11;
	run_many(*state, 1, 0);
}

static void many_lanes_interleave(void **state)
{
	for (uint64_t i = 1; i <= 5; i++) {
		seed = i * 7919;
		run_many(*state, 50, 0);
	}
}

static void both_directions_at_once(void **state)
{
	for (uint64_t i = 1; i <= 5; i++) {
		seed = i * 104729;
		run_many(*state, 10, 1);
	}
}

static void large_messages_cross(void **state)
{
	struct pair *p = *state;
	size_t size = 4 << 20;
	unsigned char *out[2], *in[2];
	struct snti_xfer send[2], recv[2];

	for (int i = 0; i < 2; i++) {
		out[i] = filled(size, (uint64_t)i);
		in[i] = malloc(size);
		send[i] = message(out[i], size, 1);
		recv[i] = message(in[i], size, 1);
		do_send(p, i, &send[i]);
	}
	for (int i = 0; i < 2; i++)
		do_recv(p, i, &recv[i]);
	for (int i = 0; i < 2; i++) {
		done(p, &send[i]);
		done(p, &recv[i]);
		assert_filled(in[i], size, !i);
	}
	for (int i = 0; i < 2; i++) {
		free(out[i]);
		free(in[i]);
	}
}

/* Shorter, exact and empty ones, small and large, before and after their receives; then one too large. */
static void receives_of_at_most_take_what_comes(void **state)
{
	static const size_t sizes[][2] = { { 0, 8 }, { 0, 1 << 20 }, { 1, 8 }, { 8, 8 }, { 8, 300000 }, { 5000, 70000 },
		{ 70000, 70001 }, { 200000, 1 << 20 }, { 1 << 20, 1 << 20 } };

	for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
		size_t sent = sizes[i / 2][0], room = sizes[i / 2][1];
		unsigned char *out = filled(sent, i), *in = malloc(room);
		struct snti_xfer send = message(out, sent, i % 3), recv = message(in, room, i % 3);

		recv.at_most = 1;
		if (i % 2)
			do_recv(*state, 1, &recv);
		do_send(*state, 0, &send);
		for (int turns = 0; turns < 20; turns++)
			turn(*state);
		if (i % 2 == 0)
			do_recv(*state, 1, &recv);
		done(*state, &send);
		done(*state, &recv);
		assert_int_equal(recv.size, sent);
		assert_filled(in, sent, i);
		free(out);
		free(in);
	}
}

int conformance_run(const struct snti_transport *transport)
{
#define plain(test) cmocka_unit_test(test)
#define paired(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		plain(connects_whichever_side_begins_first),
		plain(send_before_connection_is_up_is_offered_again),
		paired(every_size_arrives_intact),
		paired(folds_land_whichever_side_arrives_left),
		paired(a_fold_in_place_follows_its_own_send),
		paired(receives_of_at_most_take_what_comes),
		paired(stalled_lane_is_alone),
		paired(messages_on_one_lane_keep_their_order),
		paired(many_lanes_interleave),
		paired(both_directions_at_once),
		paired(large_messages_cross),
		plain(another_size_fails_both_sides),
		plain(another_fingerprint_fails_both_sides),
		paired(hang_up_cancels_what_is_pending),
		paired(peer_that_hangs_up_fails_what_is_pending),
		plain(what_send_completed_arrives_after_hang_up),
		plain(an_unasked_message_arrives_after_hang_up),
		paired(large_send_arrives_after_hang_up),
		paired(nothing_takes_the_place_of_a_lost_message),
		plain(what_a_sender_abandoned_is_never_taken_for_a_message),
		plain(closing_half_open_conns_leaks_nothing),
		paired(armed_port_wakes_on_arrival),
		paired(sleeping_moves_a_large_message),
		paired(garbage_address_is_refused),
		paired(shared_memory_is_a_source),
		paired(a_lent_message_stays_where_it_is_until_it_is_given_back),
		paired(private_memory_is_not_lent),
		paired(a_sender_that_hangs_up_takes_back_what_it_lent),
	};

	wire = transport;
	setenv("SNT_LOG", "0", 0);
	return cmocka_run_group_tests_name(transport->name, tests, NULL, NULL);
}
