/* SPDX-License-Identifier: BSD-3-Clause */
/* test_verbs_opcodes.c - on the mock: what messages are made of. */
#include "tests/conformance_parts.h"
#include "tests/mock_verbs/find.h"
#include "transport/verbs.h"

enum { LARGE = 3 << 20 };

static struct mock_script *script;
static void (*reset)(void);

static int fresh(void **state)
{
	reset();
	return setup(state);
}

/* What a message of @size each way takes: requests and data written with immediate, other writes; and sends, at most. */
static void takes(struct pair *p, size_t size, unsigned requests, unsigned immediates, unsigned writes, unsigned sends)
{
	struct mock_script before = *script;

	talk(p, size);
	assert_int_equal(script->requests - before.requests, 2 * requests);
	assert_int_equal(script->immediates - before.immediates, 2 * immediates);
	assert_int_equal(script->writes - before.writes, 2 * writes);
	if (script->sends - before.sends > 2 * sends)
		fail_msg("%zu bytes each way took %u sends, not %u at most", size, script->sends - before.sends, 2 * sends);
}

/* Small ones are one send. Larger ones are announced by one; each piece is asked for by a write into a slot, and written
 * with an immediate at its end: a block, or a queue pair's part of what is registered. */
static void large_messages_are_written_with_immediate(void **state)
{
	struct pair *p = *state;

	talk(p, 8);
	takes(p, 8, 0, 0, 0, 1);
	takes(p, 8 << 10, 0, 0, 0, 1);
	takes(p, (8 << 10) + 1, 1, 1, 0, 2);    /* an announcement, and once in a while credit */
	takes(p, 200 << 10, 4, 4, 0, 2);
	takes(p, LARGE, 1, 2, 0, 2);
}

/* Where nobody has asked for anything: the kind, the credit, lane and fingerprint. */
static void a_small_message_has_a_short_header(void **state)
{
	struct pair *p = *state;

	for (int i = 0; i < 3; i++) {
		uint64_t before = script->carried[0];

		talk(p, 8);
		assert_int_equal(script->carried[0] - before, 2 * (24 + 8));
	}
}

/* Where routes adapt, the data goes first, and the immediate behind it carries none. */
static void the_immediate_goes_behind_where_routes_adapt(void **state)
{
	struct pair *p = *state;

	for (int i = 0; i < 2; i++)
		((struct verbs_port *)p->port[i])->device.unordered = 1;
	takes(p, LARGE, 1, 2, 2, 2);
}

int main(void)
{
#define paired(test) cmocka_unit_test_setup_teardown(test, fresh, teardown)
	const struct CMUnitTest tests[] = {
		paired(large_messages_are_written_with_immediate),
		paired(a_small_message_has_a_short_header),
		paired(the_immediate_goes_behind_where_routes_adapt),
	};

	setenv("SNT_LOG", "0", 0);
	wire = &snti_verbs_transport;
	script = mock_find(&reset);
	return script ? cmocka_run_group_tests_name("verbs opcodes", tests, NULL, NULL) : 1;
}
