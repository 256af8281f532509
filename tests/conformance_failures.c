/* SPDX-License-Identifier: BSD-3-Clause */
/* conformance_failures.c - what a transport does when the sides disagree, leave or sleep. */
#include <dirent.h>
#include <poll.h>

#include "base/settings.h"
#include "tests/conformance_parts.h"
#include "transport/shared.h"

/* ---- failures ----------------------------------------------------------- */

/* Sends @there bytes to a receive of @here; @variant 1: the receive comes last, 2: it is one of at most. The sender may have been told
 * success before: then its conn fails. */
static void mismatch(struct pair *p, size_t there, size_t here, uint64_t fingerprint, int variant)
{
	unsigned char *out = filled(there, 1), *in = malloc(here + 1);
	struct snti_xfer send = message(out, there, 1), recv = message(in, here, 1);
	int late = variant & 1;

	recv.fingerprint = fingerprint;
	recv.at_most = here < there && variant & 2;     /* too large is too large */
	if (!late)
		do_recv(p, 1, &recv);
	do_send(p, 0, &send);
	for (int i = 0; i < 100; i++)
		turn(p);
	if (late)
		do_recv(p, 1, &recv);
	until(p, recv.status != SNT_BUSY && send.status != SNT_BUSY && (send.status || p->conn[0]->status));
	assert_int_equal(recv.status, SNT_EMISMATCH);
	assert_int_equal(send.status ? send.status : p->conn[0]->status, SNT_EMISMATCH);
	assert_true(*snt_error_text());
	free(out);
	free(in);
}

static void fresh_mismatch(size_t there, size_t here, uint64_t fingerprint)
{
	for (int variant = 0; variant < 4; variant++) {
		void *state;

		setup(&state);
		mismatch(state, there, here, fingerprint, variant);
		teardown(&state);
	}
}

void another_size_fails_both_sides(void **state)
{
	(void)state;
	fresh_mismatch(8, 16, 7);
	fresh_mismatch(16, 8, 7);
	fresh_mismatch(0, 8, 7);
	fresh_mismatch(1 << 20, 1 << 19, 7);
	fresh_mismatch(8, 1 << 20, 7);
	fresh_mismatch(1 << 20, 8, 7);
}

void another_fingerprint_fails_both_sides(void **state)
{
	(void)state;
	fresh_mismatch(8, 8, 8);
	fresh_mismatch(1 << 20, 1 << 20, 8);
}

void hang_up_cancels_what_is_pending(void **state)
{
	struct pair *p = *state;
	size_t big = BEYOND;
	unsigned char *out = filled(big, 1), in[8];
	struct snti_xfer send = message(out, big, 1), recv = message(in, 8, 1);

	do_send(p, 0, &send);
	do_recv(p, 0, &recv);
	snti_conn_close(p->conn[0]);
	p->conn[0] = NULL;
	assert_int_equal(send.status, SNT_ECANCELED);
	assert_int_equal(recv.status, SNT_ECANCELED);
	free(out);
}

void peer_that_hangs_up_fails_what_is_pending(void **state)
{
	struct pair *p = *state;
	size_t big = BEYOND;
	unsigned char *out = filled(big, 1), in[8];
	struct snti_xfer send = message(out, big, 1), recv = message(in, 8, 1);

	do_send(p, 0, &send);
	do_recv(p, 0, &recv);
	for (int i = 0; i < 50; i++)
		turn(p);
	snti_conn_close(p->conn[1]);
	p->conn[1] = NULL;
	until(p, send.status != SNT_BUSY && recv.status != SNT_BUSY);
	assert_int_equal(send.status, SNT_EPEER);
	assert_int_equal(recv.status, SNT_EPEER);
	until(p, snti_recv(p->conn[0], &recv) == SNT_EPEER);
	free(out);
}

/* Messages of @size bytes, @most at most, that a send completes before there is a receive. */
static int within_credit(int most, size_t size)
{
	const struct snti_settings *settings = snti_settings();
	uint64_t eager = !strcmp(wire->name, "tcp") ? settings->tcp_eager :
		!strcmp(wire->name, "ucx") ? settings->ucx_eager : settings->shm_eager;

	return eager / size < (uint64_t)most ? (int)(eager / size) : most;
}

void what_send_completed_arrives_after_hang_up(void **state)
{
	for (int variant = 0; variant < 4; variant++) {
		int count = variant & 1 ? 20 : within_credit(20, 100);
		struct snti_xfer send[20], recv[20];
		unsigned char out[20][100], in[20][100];
		struct pair *p;

		setup(state);
		p = *state;
		for (int i = 0; i < count; i++) {
			fill(out[i], 100, (uint64_t)i);
			send[i] = message(out[i], 100, (uint64_t)i % 3);
			recv[i] = message(in[i], 100, (uint64_t)i % 3);
			if (variant & 1)
				do_recv(p, 1, &recv[i]);
			do_send(p, 0, &send[i]);
		}
		for (int i = 0; i < count; i++)
			done(p, &send[i]);
		until(p, wire->flush(p->conn[0]) == 0);
		snti_conn_close(p->conn[0]);
		p->conn[0] = NULL;
		if (variant & 2) {
			snti_port_close(p->port[0]);
			p->port[0] = NULL;
			for (int i = 0; i < 50; i++)
				turn(p);
		}
		for (int i = 0; i < count; i++) {
			if (!(variant & 1))
				do_recv(p, 1, &recv[i]);
			done(p, &recv[i]);
			assert_filled(in[i], 100, (uint64_t)i);
		}
		teardown(state);
	}
}

/* One that nobody waited for yet, of any size that its transport takes unasked; the other side sees the end before it asks for it. */
void an_unasked_message_arrives_after_hang_up(void **state)
{
	static const size_t some[] = { 8, 4000, 20000, 40000, 200000, 500000 };

	for (int i = 0; i < 6 * 5; i++) {
		size_t size = some[i / 5];
		unsigned char *out = filled(size, 3), *in = malloc(size);
		struct snti_xfer send = message(out, size, 1), recv = message(in, size, 1);
		struct pair *p;

		setup(state);
		p = *state;
		do_send(p, 0, &send);
		for (int k = 0; k < 100 && send.status == SNT_BUSY; k++)
			turn(p);
		if (send.status == 0) {
			until(p, wire->flush(p->conn[0]) == 0);
			snti_conn_close(p->conn[0]);
			p->conn[0] = NULL;
			/* Who was about to sleep looks at everything. */
			wire->arm(p->port[1]);
			for (int k = 0; k < (i % 5) * (i % 5) * (i % 5); k++)
				turn(p);
			do_recv(p, 1, &recv);
			done(p, &recv);
			assert_filled(in, size, 3);
		}
		teardown(state);
		free(out);
		free(in);
	}
}

void large_send_arrives_after_hang_up(void **state)
{
	struct pair *p = *state;
	size_t size = 2 << 20;
	unsigned char *out = filled(size, 1), *in = malloc(size);
	struct snti_xfer send = message(out, size, 1), recv = message(in, size, 1);

	do_recv(p, 1, &recv);
	do_send(p, 0, &send);
	done(p, &send);
	snti_conn_close(p->conn[0]);
	p->conn[0] = NULL;
	memset(out, 0, size);
	done(p, &recv);
	assert_filled(in, size, 1);
	free(out);
	free(in);
}

/* The sender hangs up after @turns and uses its buffer for something else: the receiver has either the
 * message or an error. */
static void abandon(struct pair *p, unsigned char *out, size_t size, int turns)
{
	unsigned char *in = calloc(1, size);
	struct snti_xfer send = message(out, size, 1), recv = message(in, size, 1);

	fill(out, size, 1);
	send.memory = snti_shared_find(out, size);
	do_recv(p, 1, &recv);
	do_send(p, 0, &send);
	for (int i = 0; i < turns; i++)
		turn(p);
	snti_conn_close(p->conn[0]);
	p->conn[0] = NULL;
	memset(out, 0xee, size);
	until(p, recv.status != SNT_BUSY);
	if (recv.status == 0)
		assert_filled(in, size, 1);
	else
		assert_int_equal(recv.status, SNT_EPEER);
	free(in);
}

static void abandon_often(unsigned char *out, size_t size)
{
	for (int turns = 0; turns < 12; turns++) {
		void *state;

		setup(&state);
		abandon(state, out, size, turns);
		teardown(&state);
	}
}

/* The first never came, so what was sent behind it on its lane is not the next message. Other lanes are not touched. */
void nothing_takes_the_place_of_a_lost_message(void **state)
{
	struct pair *p = *state;
	size_t big = BEYOND;
	unsigned char *out = filled(big, 1), *in = malloc(big), after[16];
	struct snti_xfer send = message(out, big, 1), behind = message(after, sizeof after, 1);
	struct snti_xfer beside = message(after, sizeof after, 2);
	struct snti_xfer first = message(in, big, 1), second = message(in, sizeof after, 2);

	fill(after, sizeof after, 2);
	first.at_most = 1;
	do_send(p, 0, &send);
	do_send(p, 0, &behind);
	do_send(p, 0, &beside);
	until(p, behind.status != SNT_BUSY && beside.status != SNT_BUSY);
	snti_conn_close(p->conn[0]);
	p->conn[0] = NULL;
	for (int i = 0; i < 50; i++)
		turn(p);
	do_recv(p, 1, &second);
	done(p, &second);
	assert_filled(in, sizeof after, 2);
	first.status = snti_recv(p->conn[1], &first) ? SNT_EPEER : first.status;
	until(p, first.status != SNT_BUSY);
	assert_int_equal(first.status, SNT_EPEER);
	free(out);
	free(in);
}

void what_a_sender_abandoned_is_never_taken_for_a_message(void **state)
{
	size_t size = 2 << 20;
	unsigned char *private = malloc(size), *shared = snt_alloc(size);

	(void)state;
	abandon_often(private, size);
	if (shared)
		abandon_often(shared, size);
	free(private);
	snt_free(shared);
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

void closing_half_open_conns_leaks_nothing(void **state)
{
	int before = count_fds();

	(void)state;
	alarm(60);
	for (int polls = 0; polls < 40; polls++) {
		struct pair p;

		open_ports(&p);
		begin(&p, polls & 1, 77, 0);
		for (int i = 0; i < polls; i++)
			turn(&p);
		if (polls % 3 == 0) {
			snti_conn_close(p.conn[1]);
			p.conn[1] = NULL;
			for (int i = 0; i < 20; i++)
				turn(&p);
		}
		if (polls % 5 == 0) {
			snti_conn_close(p.conn[1]);
			snti_port_close(p.port[1]);
			p.port[1] = NULL;
			p.conn[1] = NULL;
		}
		shut(&p);
	}
	assert_int_equal(count_fds(), before);
}

void armed_port_wakes_on_arrival(void **state)
{
	struct pair *p = *state;
	char in[8];
	struct snti_xfer send = message("abcdefgh", 8, 1), recv = message(in, 8, 1);
	struct pollfd wake = { .fd = p->port[1]->wake_fd, .events = POLLIN };
	uint64_t deadline = snti_deadline_ms(CONFORMANCE_WAIT_MS);

	if (wake.fd < 0)
		skip();
	do_recv(p, 1, &recv);
	for (int i = 0; i < 100; i++)
		turn(p);
	while (wire->arm(p->port[1]) == SNTI_AGAIN && !snti_is_past(deadline))
		turn(p);
	assert_int_equal(poll(&wake, 1, 0), 0);
	assert_int_equal(snti_send(p->conn[0], &send), 0);
	assert_int_equal(poll(&wake, 1, 5000), 1);
	until(p, recv.status != SNT_BUSY);
	assert_memory_equal(in, "abcdefgh", 8);
	done(p, &send);
}

void sleeping_moves_a_large_message(void **state)
{
	struct pair *p = *state;
	size_t size = 8 << 20;
	unsigned char *out = filled(size, 1), *in = malloc(size);
	struct snti_xfer send = message(out, size, 1), recv = message(in, size, 1);
	uint64_t deadline = snti_deadline_ms(CONFORMANCE_WAIT_MS);

	if (p->port[0]->wake_fd < 0)
		skip();
	do_recv(p, 1, &recv);
	do_send(p, 0, &send);
	while ((send.status == SNT_BUSY || recv.status == SNT_BUSY) && !snti_is_past(deadline)) {
		int ready = 0;
		struct pollfd wake[2];

		for (int i = 0; i < 2; i++) {
			wake[i] = (struct pollfd){ .fd = p->port[i]->wake_fd, .events = POLLIN };
			ready |= wire->arm(p->port[i]) == SNTI_AGAIN;
		}
		/* Nothing may be lost: whoever has work is awake. */
		if (!ready)
			assert_true(poll(wake, 2, 5000) > 0);
		turn(p);
	}
	assert_int_equal(recv.status, 0);
	assert_int_equal(send.status, 0);
	assert_filled(in, size, 1);
	free(out);
	free(in);
}

void garbage_address_is_refused(void **state)
{
	struct pair *p = *state;
	struct snti_address address;
	struct snti_conn *conn = NULL;

	seed = 3;
	for (int round = 0; round < 100; round++) {
		for (size_t i = 0; i < sizeof address.bytes; i++)
			address.bytes[i] = (unsigned char)next_random();
		assert_int_not_equal(wire->reaches(p->port[1], &address), 0);
	}
	memset(&address, 0, sizeof address);
	assert_int_not_equal(wire->reaches(p->port[1], &address), 0);
	assert_true(snti_conn_open(p->port[1], NULL, &address, 5, 0, &conn) < 0);
	assert_null(conn);
}

void shared_memory_is_a_source(void **state)
{
	struct pair *p = *state;
	size_t size = 2 << 20;
	unsigned char *out, *in;
	struct snti_xfer send, recv;

	out = snt_alloc(size);
	if (!out)
		skip();
	in = malloc(size);
	fill(out, size, 5);
	send = message(out + 64, size - 64, 1);
	recv = message(in, size - 64, 1);
	send.memory = snti_shared_find(send.data, send.size);
	assert_non_null(send.memory);
	if (wire->pin)
		assert_int_equal(wire->pin(p->port[0], send.memory), 0);
	do_send(p, 0, &send);
	do_recv(p, 1, &recv);
	done(p, &send);
	done(p, &recv);
	assert_memory_equal(in, out + 64, size - 64);
	if (wire->unpin)
		wire->unpin(p->port[0], send.memory);
	snt_free(out);
	free(in);
}
