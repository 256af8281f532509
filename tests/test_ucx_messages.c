/* SPDX-License-Identifier: BSD-3-Clause */
/* test_ucx_messages.c - active messages as no sennit would send them, or not in order: straight into the handler. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "transport/ucx.h"

#define WAIT_MS 10000

/* Side 0 accepts; what the tests make up comes from side 1. */
static struct snti_port *port[2];
static struct snti_conn *conn[2];

static void turn(void)
{
	for (int i = 0; i < 2; i++)
		assert_true(snti_ucx_transport.poll(port[i]) >= 0);
}

static int setup(void **state)
{
	struct snti_port_options options = { .secret = (const unsigned char *)"the secret of this little program", .local_only = 1 };
	uint64_t deadline = snti_deadline_ms(WAIT_MS);
	struct snti_address address;

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(snti_port_open(&snti_ucx_transport, &options, &port[i]), 0);
	assert_int_equal(snti_ucx_transport.address(port[0], &address), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(snti_conn_open(port[i], i ? NULL : &address, i ? &address : NULL, 7, !i, &conn[i]), 0);
	while (conn[0]->status || conn[1]->status) {
		assert_false(snti_is_past(deadline));
		turn();
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++)
		snti_conn_close(conn[i]);
	for (int i = 0; i < 2; i++)
		snti_port_close(port[i]);
	return 0;
}

static uint64_t token(void)
{
	return ((struct ucx_conn *)conn[0])->wire->token;
}

static void arrive(const struct ucx_head *head, size_t head_size, const void *data, size_t size)
{
	ucp_am_recv_param_t param = { .recv_attr = 0 };

	assert_int_equal(ucx_arrived(port[0], head, head_size, (void *)(uintptr_t)data, size, &param), UCS_OK);
}

/* The head in front of the data instead of beside it. */
static void arrive_packed(const struct ucx_head *head, size_t head_size, const void *data, size_t size)
{
	char *bytes = malloc(head_size + size + 1);     /* of its own, so that reading past it is seen */

	memcpy(bytes, head, head_size);
	memcpy(bytes + head_size, data, size);
	arrive(NULL, 0, bytes, head_size + size);
	free(bytes);
}

static void strangers_are_not_heard(void **state)
{
	struct ucx_head head;

	(void)state;
	srand(5);
	for (int round = 0; round < 10000; round++) {
		for (size_t i = 0; i < sizeof head; i++)
			((unsigned char *)&head)[i] = (unsigned char)rand();
		head.type %= 9;
		if (round & 1)
			head.token = (token() & 0xffff) | (head.token & ~(uint64_t)0xffff);
		arrive(&head, sizeof head, "stranger", 8);
		arrive_packed(&head, sizeof head, "stranger", 8);
	}
	head = (struct ucx_head){ .token = token(), .type = UCX_BYE };
	for (size_t size = 0; size < sizeof head; size++) {
		arrive(&head, size, NULL, 0);
		arrive_packed(&head, size, "", 0);
	}
	for (int i = 0; i < 100; i++)
		turn();
	assert_int_equal(conn[0]->status, 0);
	assert_false(((struct ucx_conn *)conn[0])->over);
}

static void nonsense_ends_the_connection(void **state)
{
	static const struct ucx_head heads[] = {
		{ .type = UCX_GREET, .lane = 1, .fingerprint = 1 },             /* once is enough */
		{ .type = 0 },
		{ .type = UCX_PACK + 1 },
		{ .type = UCX_CHARGED, .number = 100000 },
		{ .type = UCX_ANNOUNCED, .number = UINT32_MAX },
		{ .type = UCX_MATCHED, .lane = 1 },
		{ .type = UCX_MATCHED, .fingerprint = UINT64_MAX },
		{ .type = UCX_REJECT, .number = 0 },
		{ .type = UCX_REJECT, .number = 3, .fingerprint = 1 },
	};

	for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
		struct ucx_head head = heads[i];
		struct snti_xfer recv = { .lane = 1 };

		setup(state);
		assert_int_equal(snti_recv(conn[0], &recv), 0);
		head.token = token();
		arrive(&head, sizeof head, NULL, 0);
		if (conn[0]->status != SNT_EPROTOCOL || recv.status != SNT_EPROTOCOL)
			fail_msg("message %zu: %s, %s", i, snt_status_name(conn[0]->status), snt_status_name(recv.status));
		teardown(state);
	}
}

static void more_than_the_credit_ends_the_connection(void **state)
{
	struct ucx_head head = { .token = token(), .type = UCX_CHARGED };
	size_t size = ((struct ucx_conn *)conn[0])->eager + (2 * UCX_MESSAGES + 2) * UCX_CHUNK;
	char *data = calloc(1, size);

	(void)state;
	arrive(&head, sizeof head, data, size);
	assert_int_equal(conn[0]->status, SNT_EPROTOCOL);
	free(data);
}

static void more_messages_than_the_credit_end_the_connection(void **state)
{
	struct ucx_head head = { .token = token(), .type = UCX_CHARGED };

	(void)state;
	for (; head.number < 10 * UCX_MESSAGES && !conn[0]->status; head.number++)
		arrive(&head, sizeof head, "12345678", 8);
	assert_int_equal(conn[0]->status, SNT_EPROTOCOL);
	assert_true(head.number <= 2 * UCX_MESSAGES + 2);
}

static void messages_out_of_order_are_received_in_order(void **state)
{
	static const uint32_t numbers[] = { 3, 1, 5, 0, 2, 4 };
	struct snti_xfer recv[6];
	uint64_t got[6];

	(void)state;
	for (int i = 0; i < 6; i++)
		recv[i] = (struct snti_xfer){ .data = &got[i], .size = 8, .lane = 9 };
	for (int i = 0; i < 3; i++)
		assert_int_equal(snti_recv(conn[0], &recv[i]), 0);
	for (int i = 0; i < 6; i++) {
		struct ucx_head head = { .token = token(), .type = UCX_CHARGED, .lane = 9, .number = numbers[i] };
		uint64_t word = numbers[i];

		(i & 1 ? arrive : arrive_packed)(&head, sizeof head, &word, 8);
	}
	for (int i = 3; i < 6; i++)
		assert_int_equal(snti_recv(conn[0], &recv[i]), 0);
	for (uint64_t i = 0; i < 6; i++) {
		assert_int_equal(recv[i].status, 0);
		assert_int_equal(got[i], i);
	}
}

/* ---- packs ------------------------------------------------------------------ */

/* As a sender writes it, with or without a lane of its own; how much it takes. */
static size_t add_part(char *to, size_t size, uint64_t word, int has_others)
{
	struct ucx_part part = { .size = (uint32_t)size, .has_others = (uint32_t)has_others };
	struct ucx_others others = { .lane = 9 };
	char *at = to;

	memcpy(at, &part, sizeof part);
	at += sizeof part;
	if (has_others) {
		memcpy(at, &others, sizeof others);
		at += sizeof others;
	}
	memset(at, 0, ucx_part_room(size));
	memcpy(at, &word, size < sizeof word ? size : sizeof word);
	return (size_t)(at - to) + ucx_part_room(size);
}

static void packs_out_of_order_are_received_in_order(void **state)
{
	struct ucx_head head = { .token = token(), .type = UCX_PACK, .number = 1 };
	struct snti_xfer recv[4];
	uint64_t got[4] = { 0 };
	char parts[200];
	size_t used = add_part(parts, 8, 1, 1);

	(void)state;
	used += add_part(parts + used, 3, 2, 0);
	for (int i = 0; i < 4; i++)
		recv[i] = (struct snti_xfer){ .data = &got[i], .size = i == 2 ? 3 : 8, .lane = 9 };
	for (int i = 0; i < 2; i++)
		assert_int_equal(snti_recv(conn[0], &recv[i]), 0);
	arrive_packed(&head, sizeof head, parts, used);
	head.number = 0;
	head.lane = 9;
	arrive(&head, sizeof head, parts, add_part(parts, 8, 0, 0));
	head.number = 3;
	head.lane = 4;
	arrive_packed(&head, sizeof head, parts, add_part(parts, 8, 3, 1));
	for (int i = 2; i < 4; i++)
		assert_int_equal(snti_recv(conn[0], &recv[i]), 0);
	for (uint64_t i = 0; i < 4; i++) {
		assert_int_equal(recv[i].status, 0);
		assert_int_equal(got[i], i);
	}
}

/* Two good parts, cut where neither ends. */
static void a_pack_that_is_cut_ends_the_connection(void **state)
{
	char parts[200];
	size_t first = add_part(parts, 8, 1, 0), all = first + add_part(parts + first, 12, 2, 1);

	for (size_t size = 0; size < all; size++) {
		struct ucx_head head = { .type = UCX_PACK };
		struct snti_xfer recv = { .lane = 1 };

		if (size == first)
			continue;
		setup(state);
		head.token = token();
		assert_int_equal(snti_recv(conn[0], &recv), 0);
		arrive_packed(&head, sizeof head, parts, size);
		if (conn[0]->status != SNT_EPROTOCOL || recv.status != SNT_EPROTOCOL || !strstr(snt_error_text(), "pack"))
			fail_msg("%zu bytes: %s, %s", size, snt_status_name(conn[0]->status), snt_error_text());
		teardown(state);
	}
}

static void a_part_beyond_its_pack_ends_the_connection(void **state)
{
	static const uint32_t sizes[] = { 9, 17, 1 << 20, 1u << 31, UINT32_MAX - 6, UINT32_MAX };

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct ucx_head head = { .type = UCX_PACK };
		struct ucx_part part = { .size = sizes[i] };
		char parts[40] = { 0 };

		setup(state);
		head.token = token();
		memcpy(parts, &part, sizeof part);
		arrive_packed(&head, sizeof head, parts, sizeof part + 8);
		if (conn[0]->status != SNT_EPROTOCOL || !strstr(snt_error_text(), "pack"))
			fail_msg("size %u: %s, %s", sizes[i], snt_status_name(conn[0]->status), snt_error_text());
		teardown(state);
	}
}

static void a_pack_that_would_be_fetched_ends_the_connection(void **state)
{
	ucp_am_recv_param_t param = { .recv_attr = UCP_AM_RECV_ATTR_FLAG_RNDV };
	struct ucx_head head = { .token = token(), .type = UCX_PACK };

	(void)state;
	assert_int_equal(ucx_arrived(port[0], &head, sizeof head, NULL, 64, &param), UCS_ERR_CANCELED);
	assert_int_equal(conn[0]->status, SNT_EPROTOCOL);
}

static void packs_beyond_the_credit_end_the_connection(void **state)
{
	struct ucx_head head = { .token = token(), .type = UCX_PACK };
	char parts[3 * (sizeof(struct ucx_part) + 8)];
	size_t used = 0;

	(void)state;
	for (uint64_t i = 0; i < 3; i++)
		used += add_part(parts + used, 8, i, 0);
	for (; head.number < 10 * UCX_MESSAGES && !conn[0]->status; head.number += 3)
		arrive_packed(&head, sizeof head, parts, used);
	assert_int_equal(conn[0]->status, SNT_EPROTOCOL);
	assert_true(head.number <= 2 * UCX_MESSAGES + 4);
}

/* Whatever lies in it: taken for messages or refused, and never read beyond. */
static void random_packs_do_no_harm(void **state)
{
	struct ucx_head head = { .token = token(), .type = UCX_PACK };

	srand(7);
	for (int round = 0; round < 300; round++) {
		uint32_t words[80];

		for (size_t i = 0; i < sizeof words / sizeof *words; i++)
			words[i] = (uint32_t)rand() % (rand() % 3 ? 2 : rand() % 8 ? 24 : 200);
		arrive_packed(&head, sizeof head, words, (size_t)rand() % sizeof words);
		if (!conn[0]->status) {
			head.number = ((struct ucx_conn *)conn[0])->expected;
			continue;
		}
		assert_int_equal(conn[0]->status, SNT_EPROTOCOL);
		teardown(state);
		setup(state);
		head.token = token();
		head.number = 0;
	}
}

static void await(const struct snti_xfer *xfer)
{
	uint64_t deadline = snti_deadline_ms(WAIT_MS);

	while (xfer->status == SNT_BUSY) {
		assert_false(snti_is_past(deadline));
		turn();
	}
	assert_int_equal(xfer->status, 0);
}

/* Sends that nobody receives take the credit; then a send is not taken for a while, and announced in the end. */
static void credit_is_awaited_but_not_for_ever(void **state)
{
	static char bytes[64];
	struct ucx_conn *sender = (struct ucx_conn *)conn[1];
	struct snti_xfer stalled[UCX_MESSAGES], other = { .data = bytes, .size = 8, .lane = 2 }, recv = other;
	int refused = 0;

	(void)state;
	for (int i = 0; i < UCX_MESSAGES; i++) {
		stalled[i] = (struct snti_xfer){ .data = bytes, .size = 8, .lane = 1 };
		assert_int_equal(snti_send(conn[1], &stalled[i]), 0);
	}
	assert_int_equal(sender->credit_messages, 0);
	assert_int_equal(snti_recv(conn[0], &recv), 0);
	while (snti_send(conn[1], &other) == SNTI_AGAIN) {
		assert_true(++refused < 1000);
		turn();
	}
	assert_true(refused > 0);
	assert_int_equal(sender->announcing, 1);
	await(&recv);
	/* One that is received returns credit, and the next send goes as before. */
	for (int i = 0; i < UCX_MESSAGES; i++) {
		recv = (struct snti_xfer){ .data = bytes, .size = 8, .lane = 1 };
		assert_int_equal(snti_recv(conn[0], &recv), 0);
		await(&recv);
	}
	for (int i = 0; i < 100; i++)
		turn();
	assert_int_equal(snti_send(conn[1], &stalled[0]), 0);
	assert_true(sender->credit_messages > 0);
}

/* Side 0 is told nonsense by side 1 while it holds messages back. */
static void what_is_held_fails_with_the_connection(void **state)
{
	struct ucx_head head = { .token = token(), .type = 0 };
	struct snti_xfer sends[3];
	uint64_t word = 1;

	(void)state;
	for (int i = 0; i < 3; i++) {
		sends[i] = (struct snti_xfer){ .data = &word, .size = 8, .polled = 1 };
		assert_int_equal(snti_send(conn[0], &sends[i]), 0);
	}
	assert_int_equal(sends[0].status, 0);
	assert_int_equal(sends[1].status, SNT_BUSY);
	arrive(&head, sizeof head, NULL, 0);
	for (int i = 1; i < 3; i++)
		assert_int_equal(sends[i].status, SNT_EPROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(strangers_are_not_heard, setup, teardown),
		cmocka_unit_test(nonsense_ends_the_connection),
		cmocka_unit_test_setup_teardown(more_than_the_credit_ends_the_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(more_messages_than_the_credit_end_the_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(messages_out_of_order_are_received_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(packs_out_of_order_are_received_in_order, setup, teardown),
		cmocka_unit_test(a_pack_that_is_cut_ends_the_connection),
		cmocka_unit_test(a_part_beyond_its_pack_ends_the_connection),
		cmocka_unit_test_setup_teardown(a_pack_that_would_be_fetched_ends_the_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(packs_beyond_the_credit_end_the_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(random_packs_do_no_harm, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_held_fails_with_the_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(credit_is_awaited_but_not_for_ever, setup, teardown),
	};
	char text[200];

	if (getenv("NO_UCX") || snti_ucx_transport.library(text, sizeof text)) {
		printf("skipped: %s\n", getenv("NO_UCX") ? "NO_UCX is set" : text);
		return 77;
	}
	setenv("SNT_LOG", "0", 0);
	setenv("UCX_TLS", "posix,self", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
