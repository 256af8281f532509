/* SPDX-License-Identifier: BSD-3-Clause */
/* test_tcp_pack.c - small messages over tcp that follow each other closely leave in few system calls, and none is left behind. */
#include "tests/conformance_parts.h"

#include <dlfcn.h>
#include <sys/socket.h>

enum { COUNT = 24, ENOUGH = 4, TRIES = 2000 };       /* the first one alone, the others by the eight */

static int calls;

ssize_t sendmsg(int fd, const struct msghdr *head, int flags)
{
	ssize_t (*real)(int, const struct msghdr *, int) = (ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");

	calls++;
	return real(fd, head, flags);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
	ssize_t (*real)(int, const void *, size_t, int) = (ssize_t (*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");

	calls++;
	return real(fd, bytes, size, flags);
}

/* So many messages in a row, received in order: how many calls the sending took. */
static int send_row(struct pair *p, uint32_t polled, size_t size)
{
	struct snti_xfer sends[COUNT], recvs[COUNT];
	unsigned char out[COUNT][512], in[COUNT][512];

	for (int i = 0; i < COUNT; i++) {
		fill(out[i], size, (uint64_t)i);
		sends[i] = message(out[i], size, 1);
		sends[i].polled = polled;
		recvs[i] = message(in[i], size, 1);
		do_recv(p, 1, &recvs[i]);
	}
	calls = 0;
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(snti_send(p->conn[0], &sends[i]), 0);
	for (int i = 0; i < COUNT; i++) {
		done(p, &sends[i]);
		done(p, &recvs[i]);
		assert_filled(in[i], size, (uint64_t)i);
	}
	return calls;
}

/* Whoever loses the processor between two sends is in no streak: so the best of many tries. */
static int fewest_calls(struct pair *p, uint32_t polled, size_t size)
{
	int fewest = COUNT;

	for (int i = 0; i < TRIES && fewest > ENOUGH; i++) {
		int now = send_row(p, polled, size);

		if (now < fewest)
			fewest = now;
	}
	return fewest;
}

static void those_of_one_who_polls_leave_by_the_eight(void **state)
{
	assert_true(fewest_calls(*state, 1, 8) <= ENOUGH);
	assert_true(fewest_calls(*state, 1, 448) <= ENOUGH);
}

static void others_leave_at_once(void **state)
{
	assert_int_equal(send_row(*state, 0, 8), COUNT);
	assert_int_equal(send_row(*state, 1, 449), COUNT);
}

/* The first is gone before any poll: nobody who sends now and then waits for a poll. */
static void a_single_one_leaves_at_once(void **state)
{
	struct pair *p = *state;
	unsigned char byte = 1, got = 0;

	for (int i = 0; i < 3; i++) {
		struct snti_xfer send = message(&byte, 1, 1), recv = message(&got, 1, 1);

		do_recv(p, 1, &recv);
		usleep(1000);
		send.polled = 1;
		assert_int_equal(snti_send(p->conn[0], &send), 0);
		assert_int_equal(send.status, 0);
		done(p, &recv);
	}
}

static void a_large_one_takes_those_before_it_along(void **state)
{
	struct pair *p = *state;
	static unsigned char out[3][1000], in[3][1000];
	struct snti_xfer sends[3], recvs[3];
	const size_t sizes[] = { 8, 8, 1000 };

	for (int i = 0; i < 3; i++) {
		fill(out[i], sizes[i], (uint64_t)i);
		sends[i] = message(out[i], sizes[i], 1);
		sends[i].polled = 1;
		recvs[i] = message(in[i], sizes[i], 1);
		do_recv(p, 1, &recvs[i]);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(snti_send(p->conn[0], &sends[i]), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(sends[i].status, 0);
	for (int i = 0; i < 3; i++) {
		done(p, &recvs[i]);
		assert_filled(in[i], sizes[i], (uint64_t)i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(those_of_one_who_polls_leave_by_the_eight, setup, teardown),
		cmocka_unit_test_setup_teardown(others_leave_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_single_one_leaves_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_large_one_takes_those_before_it_along, setup, teardown),
	};

	wire = &snti_tcp_transport;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
