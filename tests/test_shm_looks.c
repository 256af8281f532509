/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shm_looks.c - nobody looks at a cell that its writer still has to write, but where it may well be there. */
#include "tests/conformance_parts.h"
#include "transport/shm.h"

static const size_t sizes[] = { 8, SHM_INLINE, 1000 };

static void poll_once(struct pair *p)
{
	assert_true(p->port[1]->ops->poll(p->port[1]) >= 0);
}

static void post(struct pair *p, struct snti_xfer *recv, unsigned char *byte, size_t size)
{
	*recv = message(byte, size, 1);
	assert_int_equal(snti_recv(p->conn[1], recv), 0);
}

static void send_now(struct pair *p, size_t size)
{
	static unsigned char bytes[1000];
	struct snti_xfer send = message(bytes, size, 1);

	assert_int_equal(snti_send(p->conn[0], &send), 0);
	assert_int_equal(send.status, 0);
}

/* So that the next receives are posted without a look: one that looks in vain. */
static void look_in_vain(struct pair *p)
{
	struct snti_xfer recv;
	unsigned char byte;

	shm_conn_of(p->conn[1])->blind = 0;
	post(p, &recv, &byte, 1);
	assert_int_equal(recv.status, SNT_BUSY);
	send_now(p, 1);
	poll_once(p);
	assert_int_equal(recv.status, 0);
}

static void a_poll_takes_what_is_waited_for_and_does_not_look_behind_it(void **state)
{
	struct pair *p = *state;
	const struct shm_conn *receiver = shm_conn_of(p->conn[1]);
	unsigned char bytes[2][1000];
	struct snti_xfer recvs[2];

	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		uint64_t before;

		look_in_vain(p);
		before = receiver->received;
		post(p, &recvs[0], bytes[0], sizes[s]);
		send_now(p, sizes[s]);
		send_now(p, sizes[s]);
		poll_once(p);
		assert_int_equal(recvs[0].status, 0);
		assert_int_equal(receiver->received, before + 1);
		post(p, &recvs[1], bytes[1], sizes[s]);
		poll_once(p);
		assert_int_equal(recvs[1].status, 0);
		assert_int_equal(receiver->received, before + 2);
	}
}

static void after_a_look_in_vain_receives_are_posted_without_for_a_while(void **state)
{
	struct pair *p = *state;
	unsigned char bytes[1000];
	struct snti_xfer recv;

	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		look_in_vain(p);
		for (unsigned i = 0; i < SHM_BLIND; i++) {
			send_now(p, sizes[s]);
			post(p, &recv, bytes, sizes[s]);
			assert_int_equal(recv.status, SNT_BUSY);
			poll_once(p);
			assert_int_equal(recv.status, 0);
		}
		for (unsigned i = 0; i < 2 * SHM_BLIND; i++) {
			send_now(p, sizes[s]);
			post(p, &recv, bytes, sizes[s]);
			assert_int_equal(recv.status, 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_poll_takes_what_is_waited_for_and_does_not_look_behind_it, setup, teardown),
		cmocka_unit_test_setup_teardown(after_a_look_in_vain_receives_are_posted_without_for_a_while, setup, teardown),
	};

	wire = &snti_shm_transport;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
