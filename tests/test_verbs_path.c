/* SPDX-License-Identifier: BSD-3-Clause */
/* test_verbs_path.c - how a conn's packets travel: partitions, classes, rates, MTU and enhancements, on two unlike devices. */
#include <stdio.h>

#include "base/log.h"
#include "base/settings.h"
#include "tests/conformance_parts.h"
#include "tests/mock_verbs/find.h"
#include "transport/verbs.h"

enum { LARGE = 3 << 20 };   /* bytes that use all queue pairs */

static struct mock_script *script;
static void (*reset)(void), (*tell)(enum ibv_event_type, struct ibv_qp *);

static const struct snti_port_options options = { .secret = (const unsigned char *)"the secret of paths between ports", .local_only = 1 };

/* Both sides are of one process and have one set of settings; each is polled with its own. */
static struct snti_settings mine[2];
static const uint8_t *classes[2];       /* of this connection alone */
static int states[2];

static struct snti_settings *settings(void)
{
	return (struct snti_settings *)(uintptr_t)snti_settings();
}

static struct mock_qp *qp(struct pair *p, int side, unsigned index)
{
	struct verbs_link *link = ((struct verbs_conn *)p->conn[side])->rails;

	return (struct mock_qp *)(void *)(index ? link->data[index - 1] : link->frames);
}

static int fresh(void **state)
{
	(void)state;
	alarm(60);
	reset();
	script->devices = 2;
	script->port[1].speed = 16;
	mine[0] = mine[1] = *settings();
	return 0;
}

static int end(void **state)
{
	(void)state;
	*settings() = mine[0];
	settings()->verbs_pkey = "";
	settings()->verbs_class = settings()->verbs_level = settings()->verbs_rate = 0;
	settings()->verbs_ece = 1;
	assert_int_equal(script->contexts + script->mrs + script->qps, 0);
	alarm(0);
	return 0;
}

/* The acceptor on mock0, the other on mock1. */
static void open_both(struct pair *p)
{
	memset(p, 0, sizeof(*p));
	for (int i = 0; i < 2; i++) {
		struct snti_port_options with = options;

		*settings() = mine[i];
		with.traffic_class = classes[i];
		script->port[0].state = i ? IBV_PORT_DOWN : IBV_PORT_ACTIVE;
		assert_int_equal(snti_port_open(&snti_verbs_transport, &with, &p->port[i]), 0);
	}
	script->port[0].state = IBV_PORT_ACTIVE;
}

static void come_up(struct pair *p)
{
	uint64_t deadline = snti_deadline_ms(CONFORMANCE_WAIT_MS);

	begin(p, 0, 3, 0);
	while (!is_up(p)) {
		assert_false(snti_is_past(deadline));
		for (int i = 0; i < 2; i++) {
			*settings() = mine[i];
			assert_true(wire->poll(p->port[i]) >= 0);
		}
	}
	for (int i = 0; i < 2; i++)
		states[i] = p->conn[i]->status;
}

static void joined(struct pair *p)
{
	open_both(p);
	come_up(p);
	assert_int_equal(states[0], 0);
	assert_int_equal(states[1], 0);
}

static void give_keys(int device, int count, const uint16_t *keys)
{
	script->port[device].key_count = count;
	memcpy(script->port[device].keys, keys, (size_t)count * sizeof(*keys));
}
#define KEYS(device, ...) \
	give_keys(device, sizeof((uint16_t[]){ __VA_ARGS__ }) / sizeof(uint16_t), (uint16_t[]){ __VA_ARGS__ })

/* ---- partitions --------------------------------------------------------- */

static void choose(unsigned first, unsigned second)
{
	struct pair p;

	joined(&p);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(qp(&p, 0, i)->attr.pkey_index, first);
		assert_int_equal(qp(&p, 1, i)->attr.pkey_index, second);
	}
	talk(&p, LARGE);
	shut(&p);
}

static void a_partition_that_both_are_in_is_chosen(void **state)
{
	(void)state;
	choose(0, 0);
	KEYS(0, 0xffff, 0x8001);
	KEYS(1, 0, 0x8001);
	choose(1, 1);
	KEYS(0, 0x7fff, 0x8002, 0x8001);        /* a limited member of the first */
	KEYS(1, 0x7fff, 0x8001, 0x8002);
	choose(2, 1);                           /* in the order of the side that calls */
	KEYS(0, 0x7fff);
	KEYS(1, 0x0005, 0xffff);                /* a limited and a full member */
	choose(0, 1);
}

static void a_partition_can_be_named(void **state)
{
	(void)state;
	KEYS(0, 0xffff, 0x8001);
	KEYS(1, 0xffff, 0x8003, 0x8001);
	mine[0].verbs_pkey = mine[1].verbs_pkey = "0x8001";
	choose(1, 2);
	mine[0].verbs_pkey = "1";               /* an index */
	mine[1].verbs_pkey = "0x0001";          /* without the bit of full members */
	choose(1, 2);
	mine[1].verbs_pkey = "";
	choose(1, 2);
}

static void sides_without_a_common_partition_say_so(void **state)
{
	struct pair p;

	(void)state;
	KEYS(0, 0x8001);
	KEYS(1, 0x8002);
	open_both(&p);
	come_up(&p);
	assert_true(states[0] < 0 && states[1] < 0);
	expect_text("P_Key");
	shut(&p);
	KEYS(0, 0x0001);
	KEYS(1, 0x0001);
	open_both(&p);
	come_up(&p);
	assert_true(states[0] < 0 && states[1] < 0);
	shut(&p);
}

static void a_partition_that_is_not_there_is_refused(void **state)
{
	struct snti_port *port;

	(void)state;
	*settings() = mine[0];
	settings()->verbs_pkey = "0x9000";
	assert_int_equal(snti_port_open(&snti_verbs_transport, &options, &port), SNT_EINVAL);
	expect_text("has no P_Key 0x9000");
}

static void new_partitions_count_for_new_connections(void **state)
{
	struct pair p;

	(void)state;
	joined(&p);
	KEYS(0, 0x8007, 0xffff);
	KEYS(1, 0x8007, 0xffff);
	tell(IBV_EVENT_PKEY_CHANGE, NULL);
	for (int i = 0; i < 600; i++)
		turn(&p);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(((struct verbs_port *)p.port[i])->device.key[0], 0x8007);
		snti_conn_close(p.conn[i]);
	}
	come_up(&p);
	assert_int_equal(states[0] | states[1], 0);
	talk(&p, LARGE);
	shut(&p);
}

/* ---- classes ------------------------------------------------------------ */

static void expect_class(unsigned level, unsigned traffic)
{
	struct pair p;

	joined(&p);
	for (int side = 0; side < 2; side++)
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(qp(&p, side, i)->attr.ah_attr.sl, level);
			assert_int_equal(qp(&p, side, i)->attr.ah_attr.grh.traffic_class, traffic);
		}
	shut(&p);
}

static void both_directions_have_the_class_that_one_side_names(void **state)
{
	(void)state;
	expect_class(0, 0);
	mine[0].verbs_class = 104;
	expect_class(0, 104);
	mine[1].verbs_level = 3;
	expect_class(3, 104);
}

static void each_side_marks_as_it_is_told(void **state)
{
	struct pair p;

	(void)state;
	mine[0].verbs_class = 104;
	mine[1].verbs_class = 184;
	joined(&p);
	assert_int_equal(qp(&p, 0, 1)->attr.ah_attr.grh.traffic_class, 104);
	assert_int_equal(qp(&p, 1, 1)->attr.ah_attr.grh.traffic_class, 184);
	shut(&p);
}

/* What is named for the connection comes before what either side's settings say, on the side that does not know of it, too. */
static void the_class_of_a_connection_is_of_both_directions(void **state)
{
	static const uint8_t some = 104, none = 0;

	(void)state;
	for (int side = 0; side < 2; side++) {
		classes[0] = classes[1] = NULL;
		classes[side] = &some;
		mine[0].verbs_class = mine[1].verbs_class = 0;
		expect_class(0, 104);
		mine[0].verbs_class = 32;
		mine[1].verbs_class = 184;
		expect_class(0, 104);
		classes[side] = &none;
		expect_class(0, 0);
	}
	mine[0].verbs_class = mine[1].verbs_class = 0;
	script->port[0].link_layer = script->port[1].link_layer = IBV_LINK_LAYER_INFINIBAND;
	mine[0].verbs_level = 3;
	classes[0] = NULL;
	classes[1] = &some;
	expect_class(104 & 15, 0);
	classes[1] = NULL;
}

/* ---- rates and MTU ------------------------------------------------------ */

static void expect_rates(int first, int second)
{
	struct pair p;

	joined(&p);
	assert_int_equal(qp(&p, 0, 1)->attr.ah_attr.static_rate, first);
	assert_int_equal(qp(&p, 1, 1)->attr.ah_attr.static_rate, second);
	talk(&p, LARGE);
	shut(&p);
}

/* mock0 has 100 Gbit/s, mock1 56. */
static void a_fast_port_is_no_faster_than_a_slow_one(void **state)
{
	(void)state;
	expect_rates(IBV_RATE_MAX, IBV_RATE_MAX);       /* Ethernet */
	script->port[0].link_layer = script->port[1].link_layer = IBV_LINK_LAYER_INFINIBAND;
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < script->port[i].gid_count; k++)
			script->port[i].gids[k].gid_type = IBV_GID_TYPE_IB;
	expect_rates(IBV_RATE_56_GBPS, IBV_RATE_MAX);
	mine[1].verbs_rate = 25;
	expect_rates(IBV_RATE_56_GBPS, IBV_RATE_25_GBPS);
}

static void a_rate_can_be_set_and_may_be_refused(void **state)
{
	(void)state;
	mine[0].verbs_rate = 45;
	expect_rates(IBV_RATE_40_GBPS, IBV_RATE_MAX);
	script->port[0].no_rates = 1;
	expect_rates(IBV_RATE_MAX, IBV_RATE_MAX);
}

static void packets_fit_both_ports(void **state)
{
	struct pair p;

	(void)state;
	script->port[1].mtu = IBV_MTU_1024;
	joined(&p);
	for (int i = 0; i < 2; i++)
		assert_int_equal(qp(&p, i, 2)->attr.path_mtu, IBV_MTU_1024);
	talk(&p, LARGE);
	shut(&p);
}

/* ---- enhancements ------------------------------------------------------- */

static void expect_ece(uint32_t wanted)
{
	struct pair p;

	joined(&p);
	for (int side = 0; side < 2; side++)
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(qp(&p, side, i)->ece, wanted);
	talk(&p, LARGE);
	shut(&p);
}

static void enhancements_are_those_that_both_can(void **state)
{
	(void)state;
	expect_ece(0);
	script->port[0].ece = 0x0f;
	expect_ece(0);
	script->port[1].ece = 0x3c;
	expect_ece(0x0c);
	script->port[0].ece_never = 0x08;       /* only the side that accepts knows */
	expect_ece(0x04);
	mine[0].verbs_ece = 0;
	expect_ece(0);
	mine[0].verbs_ece = 1;
	mine[1].verbs_ece = 0;
	expect_ece(0);
}

static int find_mock(void)
{
	script = mock_find(&reset);
	*(void **)&tell = dlsym(mock_library(), "mock_event");
	return script && tell;
}

int main(void)
{
#define path(test) cmocka_unit_test_setup_teardown(test, fresh, end)
	const struct CMUnitTest tests[] = {
		path(a_partition_that_both_are_in_is_chosen),
		path(a_partition_can_be_named),
		path(sides_without_a_common_partition_say_so),
		path(a_partition_that_is_not_there_is_refused),
		path(new_partitions_count_for_new_connections),
		path(both_directions_have_the_class_that_one_side_names),
		path(each_side_marks_as_it_is_told),
		path(the_class_of_a_connection_is_of_both_directions),
		path(a_fast_port_is_no_faster_than_a_slow_one),
		path(a_rate_can_be_set_and_may_be_refused),
		path(packets_fit_both_ports),
		path(enhancements_are_those_that_both_can),
	};

	setenv("SNT_LOG", "0", 0);
	wire = &snti_verbs_transport;
	return find_mock() ? cmocka_run_group_tests_name("verbs paths", tests, NULL, NULL) : 1;
}
