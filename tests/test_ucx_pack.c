/* SPDX-License-Identifier: BSD-3-Clause */
/* test_ucx_pack.c - small messages over ucx that follow each other closely leave in few active messages, and none is left behind. */
#include "tests/conformance_parts.h"

#include <stdio.h>

#include "transport/ucx.h"

enum { ROW = 24, MOST = 300, LARGE = UCX_PACK_SMALL + 1, IDLE_POLLS = 100 };

/* Messages from side 0 to side 1. */
struct row {
	int count;
	struct snti_xfer send[MOST], recv[MOST];
	unsigned char out[MOST][LARGE], in[MOST][LARGE];
};

static struct row row;
static __typeof__(ucp_am_send_nbx) *real_send;
static int alone, packs;          /* active messages with one message, and with several */

static ucs_status_ptr_t count_send(ucp_ep_h ep, unsigned id, const void *header, size_t header_size, const void *data, size_t count,
				   const ucp_request_param_t *param)
{
	int is_cut = (param->op_attr_mask & UCP_OP_ATTR_FIELD_DATATYPE) != 0;
	const struct ucx_head *head = header_size ? header : is_cut ? ((const ucp_dt_iov_t *)data)->buffer : data;

	packs += head->type == UCX_PACK;
	alone += head->type == UCX_CHARGED || head->type == UCX_ANNOUNCED;
	return real_send(ep, id, header, header_size, data, count, param);
}

static void expect_left(int want_alone, int want_packs)
{
	if (alone != want_alone || packs != want_packs)
		fail_msg("%d left alone and %d packs, not %d and %d", alone, packs, want_alone, want_packs);
}

static struct snti_xfer *add(size_t size, uint64_t lane, uint32_t polled)
{
	int i = row.count++;

	fill(row.out[i], size, (uint64_t)i);
	row.send[i] = message(row.out[i], size, lane);
	row.send[i].polled = polled;
	row.recv[i] = message(row.in[i], size, lane);
	return &row.send[i];
}

static void offer(struct pair *p, int from)
{
	for (int i = from; i < row.count; i++)
		assert_int_equal(snti_send(p->conn[0], &row.send[i]), 0);
}

static void receive(struct pair *p)
{
	for (int i = 0; i < row.count; i++)
		do_recv(p, 1, &row.recv[i]);
	for (int i = 0; i < row.count; i++) {
		done(p, &row.recv[i]);
		done(p, &row.send[i]);
		assert_filled(row.in[i], row.send[i].size, (uint64_t)i);
	}
}

static void clear(void)
{
	alone = packs = row.count = 0;
}

static void send_row(struct pair *p, size_t size, uint32_t polled, int want_alone, int want_packs)
{
	clear();
	for (int i = 0; i < ROW; i++)
		add(size, 1, polled);
	offer(p, 0);
	receive(p);
	expect_left(want_alone, want_packs);
}

/* The first alone, two by the eight, and the last seven when a poll finds no more. */
static void those_of_one_who_polls_leave_by_the_eight(void **state)
{
	static const size_t sizes[] = { 0, 1, 8, 13, 900 };

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		send_row(*state, sizes[i], 1, 1, 3);
	send_row(*state, UCX_PACK_SMALL, 1, 1, 4);      /* seven fit */
}

static void others_leave_at_once(void **state)
{
	send_row(*state, 8, 0, ROW, 0);
	send_row(*state, UCX_PACK_SMALL + 1, 1, ROW, 0);
}

static void send_alone(struct pair *p, int side)
{
	unsigned char byte = 1, got = 0;
	struct snti_xfer send = message(&byte, 1, 1), recv = message(&got, 1, 1);

	do_recv(p, !side, &recv);
	send.polled = 1;
	assert_int_equal(snti_send(p->conn[side], &send), 0);
	assert_int_equal(send.status, 0);
	done(p, &recv);
}

static void whoever_takes_turns_waits_for_nobody(void **state)
{
	clear();
	for (int i = 0; i < 100; i++)
		send_alone(*state, i & 1);
	expect_left(100, 0);
}

/* Two processes: what one sends is nothing that the other one's thread has heard. */
static void whoever_sends_now_and_then_waits_for_nobody(void **state)
{
	struct pair *p = *state;

	clear();
	for (int i = 0; i < 10; i++) {
		assert_int_equal(snti_send(p->conn[0], add(8, 1, 1)), 0);
		assert_int_equal(row.send[i].status, 0);
		for (int k = 0; k < IDLE_POLLS; k++)
			assert_true(wire->poll(p->port[0]) >= 0);
	}
	expect_left(10, 0);
	receive(p);
}

static void a_large_one_takes_those_before_it_along(void **state)
{
	struct pair *p = *state;

	clear();
	for (int i = 0; i < 4; i++)
		add(8, 1, 1);
	add(LARGE, 1, 1);
	offer(p, 0);
	expect_left(2, 1);
	receive(p);
}

static void lanes_and_sizes_mix(void **state)
{
	clear();
	for (int i = 0; i < 2 * ROW; i++)
		add((size_t)(i * 111) % UCX_PACK_SMALL, (uint64_t)i % 3, 1);
	offer(*state, 0);
	receive(*state);
	expect_left(1, 6);
}

/* ---- none is left behind ---------------------------------------------------- */

static void hold_three(struct pair *p)
{
	clear();
	for (int i = 0; i < 4; i++)
		add(8, 1, 1);
	offer(p, 0);
	expect_left(1, 0);
	for (int i = 1; i < 4; i++)
		assert_int_equal(row.send[i].status, SNT_BUSY);
}

static void flush_and_arm_let_them_go(void **state)
{
	struct pair *p = *state;

	hold_three(p);
	until(p, wire->flush(p->conn[0]) == 0);
	expect_left(1, 1);
	receive(p);
	hold_three(p);
	assert_int_equal(wire->arm(p->port[0]), SNTI_AGAIN);
	expect_left(1, 1);
	receive(p);
}

static void the_second_poll_lets_them_go(void **state)
{
	struct pair *p = *state;

	hold_three(p);
	assert_true(wire->poll(p->port[0]) > 0);
	expect_left(1, 0);
	assert_true(wire->poll(p->port[0]) > 0);
	expect_left(1, 1);
	receive(p);
}

static void those_held_arrive_after_hang_up(void **state)
{
	struct pair *p = *state;

	hold_three(p);
	snti_conn_close(p->conn[0]);
	p->conn[0] = NULL;
	expect_left(1, 1);
	receive(p);
}

/* UCX's queue is full of what nobody takes: packs wait there, and when they are used up messages wait alone. */
static void those_that_wait_in_UCX_keep_their_order(void **state)
{
	struct pair *p = *state;
	int busy = 0;

	clear();
	for (int i = 0; i < UCX_MESSAGES; i++)
		add(8, 1, i >= 70);
	offer(p, 0);
	for (int i = 0; i < UCX_MESSAGES; i++)
		busy += row.send[i].status == SNT_BUSY;
	if (strstr(getenv("UCX_TLS"), "posix") && (packs != UCX_PACKS || busy < UCX_MESSAGES / 2))
		fail_msg("%d packs, %d wait", packs, busy);
	receive(p);
}

static void those_that_wait_in_UCX_are_cancelled(void **state)
{
	struct pair *p = *state;

	clear();
	for (int i = 0; i < UCX_MESSAGES; i++)
		add(8, 1, i >= 70);
	offer(p, 0);
	snti_conn_close(p->conn[0]);
	p->conn[0] = NULL;
	for (int i = 0; i < UCX_MESSAGES; i++)
		assert_true(row.send[i].status == 0 || row.send[i].status == SNT_ECANCELED);
}

static void one_of_another_operation_fails_both_sides(void **state)
{
	struct pair *p = *state;

	hold_three(p);
	row.recv[2].fingerprint = 8;
	for (int i = 0; i < 4; i++)
		do_recv(p, 1, &row.recv[i]);
	until(p, p->conn[0]->status < 0 && p->conn[1]->status < 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(row.recv[i].status, i < 2 ? 0 : SNT_EMISMATCH);
	for (int i = 0; i < 2; i++)
		assert_int_equal(p->conn[i]->status, SNT_EMISMATCH);
}

static void those_held_fail_when_the_peer_goes(void **state)
{
	struct pair *p = *state;

	hold_three(p);
	snti_conn_close(p->conn[1]);
	p->conn[1] = NULL;
	until(p, row.send[3].status != SNT_BUSY);
	for (int i = 1; i < 4; i++)
		assert_true(row.send[i].status == 0 || row.send[i].status == SNT_EPEER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(those_of_one_who_polls_leave_by_the_eight, setup, teardown),
		cmocka_unit_test_setup_teardown(others_leave_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(whoever_takes_turns_waits_for_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(whoever_sends_now_and_then_waits_for_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(a_large_one_takes_those_before_it_along, setup, teardown),
		cmocka_unit_test_setup_teardown(lanes_and_sizes_mix, setup, teardown),
		cmocka_unit_test_setup_teardown(flush_and_arm_let_them_go, setup, teardown),
		cmocka_unit_test_setup_teardown(the_second_poll_lets_them_go, setup, teardown),
		cmocka_unit_test_setup_teardown(those_held_arrive_after_hang_up, setup, teardown),
		cmocka_unit_test_setup_teardown(those_that_wait_in_UCX_keep_their_order, setup, teardown),
		cmocka_unit_test_setup_teardown(those_that_wait_in_UCX_are_cancelled, setup, teardown),
		cmocka_unit_test_setup_teardown(one_of_another_operation_fails_both_sides, setup, teardown),
		cmocka_unit_test_setup_teardown(those_held_fail_when_the_peer_goes, setup, teardown),
	};
	static const char *const sets[] = { "posix,self", "tcp,self" };
	char text[200];
	int failed = 0;

	if (getenv("NO_UCX") || snti_ucx_transport.library(text, sizeof text)) {
		printf("skipped: %s\n", getenv("NO_UCX") ? "NO_UCX is set" : text);
		return 77;
	}
	setenv("SNT_LOG", "0", 0);
	wire = &snti_ucx_transport;
	real_send = ucx.am_send_nbx;
	ucx.am_send_nbx = count_send;
	for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
		setenv("UCX_TLS", sets[i], 1);
		failed += cmocka_run_group_tests_name(sets[i], tests, NULL, NULL);
	}
	return failed;
}
