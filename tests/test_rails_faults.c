/* SPDX-License-Identifier: BSD-3-Clause */
/* test_rails_faults.c - rails that are lost while messages move, at once or in silence: nothing is lost, nothing folded twice, and
 * they come back. */
#include <poll.h>
#include <sys/socket.h>

#include "tests/conformance_parts.h"
#include "tests/flow.h"
#include "transport/rails.h"
#include "transport/tcp.h"

enum { ROUNDS = 12 };

static struct rails_conn *rails_of(struct pair *p, int side)
{
	return (struct rails_conn *)p->conn[side];
}

static int is_whole(struct pair *p)
{
	for (int side = 0; side < 2; side++)
		for (unsigned i = 0; i < rails_of(p, side)->count; i++)
			if (rails_of(p, side)->rails[i].phase != RAILS_LIVE)
				return 0;
	return rails_of(p, 0)->count == 3;
}

static int socket_of(struct snti_conn *conn)
{
	return ((struct tcp_conn *)conn)->sockets[0].fd;
}

/* The socket goes on taking bytes, which nobody gets: as a cable that was cut. */
static void silence(int fd)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	assert_int_equal(dup2(ends[0], fd), fd);
	close(ends[0]);
	/* The other end stays open: it is closed by the end of the test's process. */
}

/* @how 0: the chunks' conn is reset, 1: the frames', 2: both are silent. */
static void lose(struct pair *p, unsigned rail, int how)
{
	for (int side = 0; side < 2; side++) {
		struct rails_rail *one = &rails_of(p, side)->rails[rail];

		if (one->phase != RAILS_LIVE)
			return;
		if (how < 2 && !side)
			shutdown(socket_of(how ? one->line : one->sub), SHUT_RDWR);
		if (how == 2) {
			silence(socket_of(one->line));
			silence(socket_of(one->sub));
		}
	}
}

/* A message each way on every lane, while @rail is lost after @turns. */
static void flow_run(struct pair *p, unsigned rail, int how, int turns)
{
	struct flow *f = flow_begin(p);

	for (int i = 0; i < turns; i++)
		turn(p);
	lose(p, rail, how);
	flow_end(p, f);
}

static void lose_often(struct pair *p, int how)
{
	seed = 17 + (uint64_t)how;
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t deadline = snti_deadline_ms(5000);

		flow_run(p, (unsigned)round % 3, how, 3 * round);
		while (!is_whole(p)) {
			assert_false(snti_is_past(deadline));
			turn(p);
		}
	}
}

static void rail_without_its_chunks_conn(void **state)
{
	lose_often(*state, 0);
}

static void rail_without_its_frames_conn(void **state)
{
	lose_often(*state, 1);
}

/* Two at a time; the last one that is left carries on. */
static void silent_rails(void **state)
{
	struct pair *p = *state;

	seed = 5;
	for (unsigned round = 0; round < 4; round++) {
		lose(p, (round + 1) % 3, 2);
		flow_run(p, round % 3, 2, (int)round * 5);
		until(p, is_whole(p));
	}
}

/* While one rail is down and dialed again, a peer that sends nothing is nothing that moves. */
static void asking_is_not_moving(void **state)
{
	struct pair *p = *state;
	uint32_t in[4], out[4] = { 1 };
	struct snti_xfer recv = message(in, sizeof in, 1), send = message(out, sizeof out, 1);
	uint64_t deadline = snti_deadline_ms(2000);

	do_recv(p, 0, &recv);
	lose(p, 1, 2);
	for (int i = 0; i < 100; i++)
		turn(p);
	while (!snti_is_past(deadline)) {
		assert_int_equal(turn(p), 0);
		poll(NULL, 0, 1);
	}
	until(p, is_whole(p));
	assert_int_equal(recv.status, SNT_BUSY);
	do_send(p, 1, &send);
	done(p, &recv);
}

/* Once measured a thousand times as slow as it is, with messages that the others would always move sooner. */
static void rail_thought_slow_is_used_again(void **state)
{
	enum { SIZE = 1 << 20, SLOW = 100000 };
	struct pair *p = *state;
	struct rails_rail *slow = &rails_of(p, 0)->rails[1];
	uint64_t deadline = snti_deadline_ms(CONFORMANCE_WAIT_MS);
	size_t explored = 0;

	talk(p, (size_t)8 << 20);
	for (unsigned i = 0; i < 3; i++)
		rails_of(p, 0)->rails[i].rate = i == 1 ? SLOW : (uint64_t)SLOW * 1000;
	while (slow->rate < (uint64_t)SLOW * 100) {
		unsigned char *in = filled(SIZE, 1), *out = filled(SIZE, 2);
		struct snti_xfer recv = message(in, SIZE, 3), send = message(out, SIZE, 3);

		assert_false(snti_is_past(deadline));
		do_recv(p, 0, &recv);
		do_send(p, 1, &send);
		while (recv.status == SNT_BUSY || send.status == SNT_BUSY) {
			turn(p);
			/* As long as nothing else is known, little is risked. */
			if (!explored && slow->asked_bytes)
				assert_in_range(explored = slow->asked_bytes, 1, 4096);
		}
		assert_filled(in, SIZE, 2);
		free(in);
		free(out);
	}
	assert_true(explored > 0);
}

static void all_rails_lost_is_told(void **state)
{
	struct pair *p = *state;
	uint32_t in[4];
	struct snti_xfer recv = message(in, sizeof in, 1);

	do_recv(p, 0, &recv);
	for (unsigned i = 0; i < 3; i++)
		lose(p, i, 1);
	until(p, recv.status != SNT_BUSY);
	assert_int_equal(recv.status, SNT_EPEER);
	assert_non_null(strstr(snt_error_text(), "any more: lo: "));
}

static int meet(void **state)
{
	int status = setup(state);

	until((struct pair *)*state, is_whole(*state));
	return status;
}

int main(void)
{
#define paired(test) cmocka_unit_test_setup_teardown(test, meet, teardown)
	const struct CMUnitTest tests[] = {
		paired(rail_without_its_chunks_conn), paired(rail_without_its_frames_conn), paired(silent_rails),
		paired(asking_is_not_moving), paired(rail_thought_slow_is_used_again),
		paired(all_rails_lost_is_told),
	};

	wire = &snti_rails_transport;
	setenv("SNT_LOG", "0", 0);
	setenv("SNT_RAILS", "lo,lo,lo", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
