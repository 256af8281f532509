/* SPDX-License-Identifier: BSD-3-Clause */
/* test_rails_verbs.c - rails over two of the mock's RDMA ports: the conformance tests, and ports that go down while messages
 * move and come back with another address.
 */
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "tests/conformance.h"
#include "tests/conformance_parts.h"
#include "tests/flow.h"
#include "tests/mock_verbs/find.h"
#include "transport/rails.h"
#include "transport/verbs.h"

enum { PORTS = 2, ROUNDS = 6 };

static struct mock_script *script;
static void (*reset)(void), (*tell)(int device, enum ibv_event_type type);

static const struct variant { const char *name, *settings[4]; uint64_t seed; } variants[] = {
	{ .name = "at once" },
	{ .name = "at random, four queue pairs", .seed = 7919,
	  .settings = { "SNT_VERBS_ADAPTIVE=1", "SNT_VERBS_QPS=4", "SNT_VERBS_SPLIT=16K" } },
};

static int is_clean(void)
{
	int left = script->contexts + script->pds + script->mrs + script->cqs + script->channels + script->srqs + script->qps;

	if (left || script->locked || script->rnr || script->overruns)
		printf("# %d things left, %u sends without a buffer, %u overruns\n", left, script->rnr, script->overruns);
	return !left && !script->locked && !script->rnr && !script->overruns;
}

static int conforms(const struct variant *variant)
{
	int failed;

	for (int i = 0; variant->settings[i]; i++)
		putenv((char *)(uintptr_t)variant->settings[i]);
	script->devices = PORTS;
	script->seed = variant->seed;
	printf("# %s\n", variant->name);
	fflush(stdout);
	failed = conformance_run(&snti_rails_verbs_transport);
	if (!script->carried[0] || !script->carried[1])
		printf("# only one port carries anything\n");
	return failed || !is_clean() || !script->carried[0] || !script->carried[1];
}

/* ---- faults ------------------------------------------------------------- */

static struct rails_conn *rails_of(struct pair *p, int side)
{
	return (struct rails_conn *)p->conn[side];
}

static unsigned count_live(struct pair *p)
{
	unsigned live = 0;

	for (int side = 0; side < 2; side++)
		for (unsigned i = 0; i < rails_of(p, side)->count; i++)
			live += rails_of(p, side)->rails[i].phase == RAILS_LIVE;
	return live;
}

static int meet(void **state)
{
	int status;

	reset();
	script->devices = PORTS;
	status = setup(state);
	until((struct pair *)*state, count_live(*state) == 2 * PORTS);
	return status;
}

static int part(void **state)
{
	teardown(state);
	return !is_clean();
}

static void go_down(int device)
{
	script->port[device].state = IBV_PORT_DOWN;
	tell(device, IBV_EVENT_PORT_ERR);
}

/* First without an address that may be used, then with one that nobody has seen. */
static void come_back(struct pair *p, int device, int round)
{
	struct mock_port *port = &script->port[device];

	port->gid_count = 0;
	port->state = IBV_PORT_ACTIVE;
	tell(device, IBV_EVENT_PORT_ACTIVE);
	for (int i = 0; i < 600; i++)
		turn(p);
	for (int i = 2; i < 4; i++)
		port->gids[i].gid.raw[13] = (unsigned char)(round + 1);
	port->gid_count = 4;
	tell(device, IBV_EVENT_GID_CHANGE);
	until(p, count_live(p) == 2 * PORTS);
}

/* Messages over both. Shares go by what was measured, which in a test that waits for others is anything: it is forgotten. */
static void both_carry(struct pair *p)
{
	uint64_t before[PORTS] = { script->carried[0], script->carried[1] };
	int carry = 0;

	for (int i = 0; i < 20 && carry < PORTS; i++) {
		for (int k = 0; k < 2 * PORTS; k++)
			rails_of(p, k % 2)->rails[k / 2].rate = 0;
		carry = 0;
		flow_end(p, flow_begin(p));
		for (int k = 0; k < PORTS; k++)
			carry += script->carried[k] - before[k] > 512 << 10;
	}
	assert_int_equal(carry, PORTS);
}

static void a_port_that_goes_down_loses_nothing(void **state)
{
	struct pair *p = *state;

	for (int round = 0; round < ROUNDS; round++) {
		struct flow *f = flow_begin(p);
		int device = round % PORTS;

		script->seed = round & 2 ? 99 + (uint64_t)round : 0;
		for (int i = 0; i < 6 * round; i++)
			turn(p);
		go_down(device);
		flow_end(p, f);
		until(p, count_live(p) == PORTS);
		flow_end(p, flow_begin(p));
		assert_int_equal(count_live(p), PORTS);
		come_back(p, device, round);
		both_carry(p);
	}
}

/* As if the five seconds had passed for which verbs waits: the port has failed then, and comes back all the same. */
static void a_port_that_is_down_for_long_comes_back(void **state)
{
	struct pair *p = *state;

	go_down(1);
	until(p, count_live(p) == PORTS);
	for (int side = 0; side < 2; side++) {
		struct verbs_port *port = (struct verbs_port *)((struct rails_port *)p->port[side])->ports[1];

		port->down_until = 1;
		until(p, port->failed);
		/* It keeps nobody awake. */
		until(p, !wire->arm(p->port[side]));
	}
	flow_end(p, flow_begin(p));
	come_back(p, 1, 7);
	both_carry(p);
}

/* The device says nothing: the queue pairs' retries end, or the silence is noticed before. */
static void a_queue_pair_that_breaks_is_made_again(void **state)
{
	struct pair *p = *state;

	for (int round = 0; round < ROUNDS; round++) {
		struct flow *f = flow_begin(p);

		for (int i = 0; i < 4 * round; i++)
			turn(p);
		script->status = IBV_WC_RETRY_EXC_ERR;
		*(round & 1 ? &script->fail_write : &script->fail_send) = 1 + round;
		flow_end(p, f);
		script->fail_write = script->fail_send = 0;
		until(p, count_live(p) == 2 * PORTS);
	}
	both_carry(p);
}

static void all_ports_down_is_told(void **state)
{
	struct pair *p = *state;
	char in[4];
	struct snti_xfer recv = message(in, sizeof in, 1);
	int failed = 0;

	do_recv(p, 0, &recv);
	for (int i = 0; i < PORTS; i++)
		go_down(i);
	for (int i = 0; i < 600; i++)
		turn(p);
	/* A flap of both is waited for. */
	assert_int_equal(recv.status, SNT_BUSY);
	for (int side = 0; side < 2; side++)
		for (int i = 0; i < PORTS; i++)
			((struct verbs_port *)((struct rails_port *)p->port[side])->ports[i])->down_until = 1;
	for (int i = 0; i < 5000 && !failed; i++)
		failed = wire->poll(p->port[0]) < 0;
	assert_true(failed);
	assert_int_equal(recv.status, SNT_EDEVICE);
	assert_non_null(strstr(snt_error_text(), "is down"));
}

/* By all or by none; of GPUs it is refused. */
static void memory_is_pinned_by_every_port(void **state)
{
	static char memory[1 << 16];
	struct snti_port *port = ((struct pair *)*state)->port[0];
	struct snti_memory all = { .base = memory, .size = sizeof memory, .fd = -1, .dmabuf = -1, .id = 7 };
	struct snti_memory gpu = all;
	int before = script->mrs;

	gpu.is_gpu = 1;
	snti_fail_quietly(1);
	assert_int_equal(wire->pin(port, &gpu), SNT_EUNSUPPORTED);
	script->fail_reg = 2;
	assert_int_not_equal(wire->pin(port, &all), 0);
	script->fail_reg = 0;
	snti_fail_quietly(0);
	assert_int_equal(script->mrs, before);
	assert_int_equal(wire->pin(port, &all), 0);
	assert_int_equal(script->mrs, before + PORTS);
	wire->unpin(port, &all);
	assert_int_equal(script->mrs, before);
}

/* What is left of an address where there is little room. */
static void an_address_is_made_whole_again(void **state)
{
	struct snti_address whole, lead, made;
	struct pair *p = *state;

	assert_int_equal(wire->address(p->port[0], &whole), 0);
	snti_rails_wrap(wire, snti_rails_unwrap(&whole, &lead), &lead, &made);
	assert_memory_equal(&whole, &made, sizeof whole);
	go_down(0);
	until(p, rails_is_down(&snti_verbs_transport, ((struct rails_port *)p->port[0])->ports[0]));
	assert_int_equal(wire->address(p->port[0], &whole), 0);
	assert_int_equal(snti_rails_unwrap(&whole, &lead), 1);
	assert_int_equal(wire->reaches(p->port[1], &whole), 0);
}

/* ---- who meets whom ----------------------------------------------------- */

static void make_infiniband(int device, unsigned char subnet)
{
	struct mock_port *port = &script->port[device];

	port->link_layer = IBV_LINK_LAYER_INFINIBAND;
	port->gid_count = 1;
	port->gids[0].gid_type = IBV_GID_TYPE_IB;
	memset(port->gids[0].gid.raw, 0, 16);
	port->gids[0].gid.raw[0] = 0xfe;
	port->gids[0].gid.raw[7] = subnet;
	port->gids[0].gid.raw[15] = (unsigned char)(10 + device);
}

/* RoCE's networks are those of the interface that has the address; of two, the first one is used. */
static void make_roce(int device, int is_known)
{
	struct mock_port *port = &script->port[device];

	for (unsigned i = 2; i < 6; i++) {
		port->gids[i] = port->gids[i % 2];
		port->gids[i].gid_index = i;
		memset(&port->gids[i].gid, 0, sizeof port->gids[i].gid);
		port->gids[i].gid.raw[10] = port->gids[i].gid.raw[11] = 0xff;
		port->gids[i].gid.raw[12] = is_known == (i < 4) ? 127 : 10;
		port->gids[i].gid.raw[15] = 1;
	}
	port->gid_count = 6;
}

/* The second side sees the subnets the other way round. */
static void ports_of_one_subnet_meet(void **state)
{
	(void)state;
	for (int kind = 0; kind < 2; kind++) {
		struct snti_port_options options = { .secret = (const unsigned char *)"the secret of the same subnets...", .local_only = 1 };
		struct pair p = { .port = { NULL } };

		alarm(60);
		reset();
		script->devices = PORTS;
		for (int side = 0; side < 2; side++) {
			for (int i = 0; i < PORTS; i++)
				if (kind)
					make_infiniband(i, i == side);
				else
					make_roce(i, i == side);
			assert_int_equal(snti_port_open(wire, &options, &p.port[side]), 0);
		}
		begin(&p, 0, 3, 0);
		until(&p, is_up(&p));
		for (int side = 0; side < 2; side++) {
			assert_int_equal(rails_of(&p, side)->count, PORTS);
			for (unsigned i = 0; i < PORTS; i++)
				assert_int_not_equal(rails_of(&p, side)->rails[i].mine, rails_of(&p, side)->rails[i].theirs);
		}
		shut(&p);
		assert_true(is_clean());
	}
}

static void choice_is(const char *names, unsigned count)
{
	struct rails_choice choice;
	int status;

	snti_fail_quietly(1);
	status = rails_choose(&snti_rails_verbs_transport, names, 0, &choice);
	snti_fail_quietly(0);
	if ((status == 0) != (count > 0) || (!status && choice.count != count))
		fail_msg("'%s' chooses %u: %d", names, choice.count, status);
}

static void the_ports_are_chosen(void **state)
{
	(void)state;
	reset();
	choice_is("auto", 0);
	script->devices = 3;
	choice_is("auto", 3);
	choice_is("mock0:1,mock2", 2);
	choice_is("eth0,eth1", 0);
	choice_is("off", 0);
	script->port[1].gid_count = 2;          /* link-local only */
	choice_is("auto", 2);
	choice_is("mock0,mock1", 2);
	script->port[2].speed = 1;              /* a tenth */
	choice_is("mock0,mock2", 2);
	script->port[1].gid_count = 4;
	choice_is("auto", 2);
	script->port[1].state = IBV_PORT_DOWN;
	choice_is("auto", 0);
	choice_is("mock0,mock1", 1);            /* with a line about the other */
	choice_is("mock1", 0);
}

static int run_faults(void)
{
#define alone(test) cmocka_unit_test(test)
#define paired(test) cmocka_unit_test_setup_teardown(test, meet, part)
	const struct CMUnitTest tests[] = {
		alone(the_ports_are_chosen),
		alone(ports_of_one_subnet_meet),
		paired(memory_is_pinned_by_every_port),
		paired(an_address_is_made_whole_again),
		paired(a_port_that_goes_down_loses_nothing),
		paired(a_port_that_is_down_for_long_comes_back),
		paired(a_queue_pair_that_breaks_is_made_again),
		paired(all_ports_down_is_told),
	};

	wire = &snti_rails_verbs_transport;
	return cmocka_run_group_tests_name("rails over verbs: faults", tests, NULL, NULL);
}

/* ---- in processes of their own, as settings are read once ---------------- */

static int run(size_t which)
{
	return which < sizeof variants / sizeof *variants ? conforms(&variants[which]) : run_faults();
}

static int run_apart(size_t which)
{
	int ended = -1;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child)
		exit(run(which) != 0);
	return waitpid(child, &ended, 0) != child || ended != 0;
}

/* A folder like /sys/class/infiniband, as names are looked up there. */
static int make_folder(char *folder, int add)
{
	char path[64];
	int failed = 0;

	for (int i = 0; i < MOCK_DEVICES; i++) {
		snprintf(path, sizeof path, "%s/mock%d", folder, i);
		failed |= add ? mkdir(path, 0700) : rmdir(path);
	}
	return failed;
}

int main(int argc, char **argv)
{
	static char folder[] = "/tmp/sennit-rdma-XXXXXX";
	int failed = 0;

	script = mock_find(&reset);
	*(void **)&tell = dlsym(mock_library(), "mock_device_event");
	if (!script || !tell || !mkdtemp(folder) || make_folder(folder, 1))
		return 1;
	snti_rdma_folder = folder;
	setenv("SNT_LOG", "0", 0);
	setenv("SNT_RAILS", "mock0,mock1", 1);
	for (size_t i = 0; i <= sizeof variants / sizeof *variants; i++)
		if (argc < 2 || (size_t)atoi(argv[1]) == i)
			failed += argc < 2 ? run_apart(i) : run(i);
	make_folder(folder, 0);
	rmdir(folder);
	return failed != 0;
}
