/* SPDX-License-Identifier: BSD-3-Clause */
/* test_verbs_cm.c - queue pairs connected through librdmacm: for whom, what goes wrong, and who is turned away. */
#include <stdio.h>

#include <rdma/rdma_cma.h>

#include "base/settings.h"
#include "tests/conformance_parts.h"
#include "tests/mock_verbs/find.h"
#include "transport/verbs.h"

enum { LARGE = 3 << 20 };   /* bytes that use all queue pairs */

static struct mock_script *script;
static void (*reset)(void), (*knock)(const void *, size_t);

static struct snti_settings *settings(void)
{
	return (struct snti_settings *)(uintptr_t)snti_settings();
}

static int fresh(void **state)
{
	(void)state;
	alarm(60);
	reset();
	settings()->verbs_connect = "cm";
	return 0;
}

static int end(void **state)
{
	(void)state;
	settings()->verbs_class = 0;
	assert_int_equal(script->contexts + script->pds + script->mrs + script->cqs + script->channels + script->srqs + script->qps, 0);
	assert_int_equal(script->cm_ids, 0);
	assert_true(script->frame_reach <= VERBS_SLOTS * VERBS_SLOT_BYTES);
	alarm(0);
	return 0;
}

static void queue_pairs_are_connected_through_it(void **state)
{
	struct pair p;

	(void)state;
	settings()->verbs_class = 104;
	open_ports(&p);
	assert_int_equal(script->cm_ids, 2);
	begin(&p, 0, 1, 0);
	until(&p, is_up(&p));
	assert_int_equal(p.conn[0]->status | p.conn[1]->status, 0);
	assert_int_equal(script->cm_ids, 2 + 6);
	for (int side = 0; side < 2; side++) {
		struct verbs_link *link = ((struct verbs_conn *)p.conn[side])->rails;

		for (unsigned i = 0; i < link->qps; i++) {
			const struct mock_qp *qp = (struct mock_qp *)(void *)link->data[i];

			assert_int_equal(qp->attr.ah_attr.grh.traffic_class, 104);
			assert_int_equal(qp->attr.qp_access_flags, IBV_ACCESS_REMOTE_WRITE);
			assert_true(qp->attr.sq_psn > 700 && qp->attr.sq_psn < 10000);  /* the mock's */
		}
	}
	talk(&p, LARGE);
	shut(&p);
}

/* What happened instead ends both sides in time, with a line that names it. */
static void whatever_fails_is_told(void **state)
{
	static const struct { int of, becomes; const char *text; } table[] = {
		{ RDMA_CM_EVENT_ADDR_RESOLVED, RDMA_CM_EVENT_ADDR_ERROR, "look at routes" },
		{ RDMA_CM_EVENT_ROUTE_RESOLVED, RDMA_CM_EVENT_ROUTE_ERROR, "look at routes" },
		{ RDMA_CM_EVENT_CONNECT_RESPONSE, RDMA_CM_EVENT_UNREACHABLE, "unreachable" },
		{ RDMA_CM_EVENT_CONNECT_RESPONSE, RDMA_CM_EVENT_REJECTED, "rejected" },
		{ RDMA_CM_EVENT_ADDR_RESOLVED, RDMA_CM_EVENT_DEVICE_REMOVAL, "is being removed" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct pair p;

		script->cm_instead_of = table[i].of;
		script->cm_instead = table[i].becomes;
		open_ports(&p);
		begin(&p, (int)i & 1, 1, 0);
		until(&p, p.conn[1]->status < 0);
		expect_text(table[i].text);
		until(&p, p.conn[0]->status < 0);
		shut(&p);
	}
}

static void a_request_for_another_queue_pair_is_refused(void **state)
{
	(void)state;
	for (int k = 1; k <= 3; k++) {
		struct pair p;

		script->cm_wrong = k;
		open_ports(&p);
		begin(&p, 0, 1, 0);
		until(&p, p.conn[0]->status < 0 && p.conn[1]->status < 0);
		shut(&p);
	}
}

/* Whoever does not know the cookie of a connection that is being made gets nothing. */
static void strangers_are_turned_away(void **state)
{
	static const unsigned char guess[20] = "let me in, it is me";
	struct pair p;

	(void)state;
	open_ports(&p);
	knock(guess, sizeof(guess));
	knock(guess, 3);
	begin(&p, 0, 1, 0);
	for (int i = 0; i < 20; i++) {
		knock(guess, sizeof(guess));
		turn(&p);
	}
	until(&p, is_up(&p));
	assert_int_equal(p.conn[0]->status | p.conn[1]->status, 0);
	knock(guess, sizeof(guess));
	for (int i = 0; i < 600; i++)
		turn(&p);
	assert_int_equal(script->cm_rejected, 2 * 23);
	assert_int_equal(script->cm_ids, 2 + 6);
	talk(&p, LARGE);
	shut(&p);
}

static void one_side_alone_connects_directly(void **state)
{
	static const struct snti_port_options options = { .secret = (const unsigned char *)"the secret of connection managers", .local_only = 1 };
	struct pair p;

	(void)state;
	memset(&p, 0, sizeof(p));
	assert_int_equal(snti_port_open(wire, &options, &p.port[0]), 0);
	settings()->verbs_connect = "direct";
	assert_int_equal(snti_port_open(wire, &options, &p.port[1]), 0);
	begin(&p, 0, 1, 0);
	until(&p, is_up(&p));
	assert_int_equal(p.conn[0]->status | p.conn[1]->status, 0);
	assert_int_equal(script->cm_ids, 1);
	talk(&p, LARGE);
	shut(&p);
}

static void ports_without_an_address_are_refused(void **state)
{
	static const struct snti_port_options options = { .secret = (const unsigned char *)"the secret of connection managers", .local_only = 1 };
	struct snti_port *port;

	(void)state;
	script->port[0].gid_count = 2;          /* link-local only */
	assert_int_equal(snti_port_open(wire, &options, &port), SNT_EUNSUPPORTED);
	expect_text("has no IP address");
	settings()->verbs_connect = "carrier pigeon";
	assert_int_equal(snti_port_open(wire, &options, &port), SNT_EINVAL);
	expect_text("not direct or cm");
}

static int find_mock(void)
{
	void *manager = dlopen("tests/mock_verbs/.libs/librdmacm.so.1", RTLD_NOW | RTLD_LOCAL);

	script = mock_find(&reset);
	if (manager)
		*(void **)&knock = dlsym(manager, "mock_cm_knock");
	if (!knock)
		printf("no mock of librdmacm: %s\n", dlerror());
	return script && knock;
}

int main(void)
{
#define managed(test) cmocka_unit_test_setup_teardown(test, fresh, end)
	const struct CMUnitTest tests[] = {
		managed(queue_pairs_are_connected_through_it),
		managed(whatever_fails_is_told),
		managed(a_request_for_another_queue_pair_is_refused),
		managed(strangers_are_turned_away),
		managed(one_side_alone_connects_directly),
		managed(ports_without_an_address_are_refused),
	};

	setenv("SNT_LOG", "0", 0);
	wire = &snti_verbs_transport;
	return find_mock() ? cmocka_run_group_tests_name("verbs through librdmacm", tests, NULL, NULL) : 1;
}
