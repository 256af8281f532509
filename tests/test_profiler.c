/* SPDX-License-Identifier: BSD-3-Clause */
/* test_profiler.c - the NCCL profiler's arithmetic by a clock of the test's own, and the tuner's rules. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "plugins/nccl/core.h"
#include "plugins/nccl/network_event.h"
#include "plugins/nccl/nccl_tuner.h"
#include "plugins/nccl/profiler.h"
#include "plugins/nccl/tuner_rules.h"

/* The plugin's device 0, without its transports. */
const struct snti_nccl_device *snti_nccl_device(int device)
{
	static const struct snti_nccl_device first = { .name = "eth0" };

	return device == 0 ? &first : NULL;
}

static struct snti_profile_comm *comm;
static uint64_t now;

static int begin(void **state)
{
	(void)state;
	now = 1000000000;
	if (snti_profile_prepare())
		return -1;
	comm = snti_profile_begin(42, "test", now);
	return comm ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	snti_profile_end(comm, now);
	return 0;
}

static void *op(int peer, int is_send)
{
	struct nccl_event_v6 event = { .type = NCCL_EVENT_PROXY_OP,
		.proxy_op = { .pid = getpid(), .peer = peer, .is_send = is_send } };

	return snti_profile_start(comm, &event, now);
}

static void *step(void *parent, int number)
{
	struct nccl_event_v6 event = { .type = NCCL_EVENT_PROXY_STEP, .parent = parent, .proxy_step = { number } };

	return snti_profile_start(comm, &event, now);
}

static void in_state(void *handle, int state, uint64_t at, size_t size)
{
	union nccl_event_arguments arguments = { .proxy_step = { size } };

	now = at;
	snti_profile_record(handle, state, &arguments, now);
}

static void done(void *handle, uint64_t at)
{
	now = at;
	snti_profile_stop(handle, now);
}

struct sum { int rows; uint64_t counts[SNTI_PROFILE_COUNTS]; };

static void add_row(struct snti_profile_row *row, void *argument)
{
	struct sum *sum = argument;

	sum->rows++;
	for (int i = 0; i < SNTI_PROFILE_COUNTS; i++)
		sum->counts[i] += atomic_load(&row->counts[i]);
}

static struct sum counted(void)
{
	struct sum sum = { .rows = 0 };

	snti_profile_each(comm, add_row, &sum);
	return sum;
}

/* ---- waits -------------------------------------------------------------------------- */

enum { START = 1000000000 };

/* 80 for the GPU, 10 for the peer, 10 for the wire, twice, one after another. */
static void waits_of_one_step_after_another_add_up(void **state)
{
	void *all = op(1, 1), *one;
	struct sum sum;
	uint64_t at = START;

	(void)state;
	for (int i = 0; i < 2; i++, at += 100) {
		now = at;
		one = step(all, i);
		in_state(one, NCCL_STATE_SEND_GPU_WAIT, at, 0);
		in_state(one, NCCL_STATE_SEND_PEER_WAIT, at + 80, 99);
		in_state(one, NCCL_STATE_SEND_PEER_WAIT, at + 85, 99);
		in_state(one, NCCL_STATE_SEND_WAIT, at + 90, 4096);
		done(one, at + 100);
	}
	done(all, at);
	sum = counted();
	assert_int_equal(sum.rows, 1);
	assert_int_equal(sum.counts[SNTI_PROFILE_MESSAGES], 2);
	assert_int_equal(sum.counts[SNTI_PROFILE_BYTES], 8192);
	assert_int_equal(sum.counts[SNTI_PROFILE_GPU], 160);
	assert_int_equal(sum.counts[SNTI_PROFILE_PEER], 20);
	assert_int_equal(sum.counts[SNTI_PROFILE_WIRE], 20);
	assert_int_equal(sum.counts[SNTI_PROFILE_TRANSFER], 20);
	assert_string_equal(snti_profile_verdict(sum.counts), "gpu-late");
}

/* Eight steps are posted and the GPU has filled them all; the peer takes one each 100, the wire needs 5. */
static void steps_behind_a_late_peer_do_not_count_for_the_gpu(void **state)
{
	void *all = op(1, 1), *steps[8];
	struct sum sum;

	(void)state;
	for (int i = 0; i < 8; i++) {
		steps[i] = step(all, i);
		in_state(steps[i], NCCL_STATE_SEND_GPU_WAIT, START, 0);
	}
	for (int i = 0; i < 8; i++) {
		in_state(steps[i], NCCL_STATE_SEND_PEER_WAIT, START + 100ull * (unsigned)i + 5, 0);
		in_state(steps[i], NCCL_STATE_SEND_WAIT, START + 100ull * (unsigned)i + 100, 1);
		done(steps[i], START + 100ull * (unsigned)i + 105);
	}
	done(all, now);
	sum = counted();
	assert_int_equal(sum.counts[SNTI_PROFILE_GPU], 5);
	assert_int_equal(sum.counts[SNTI_PROFILE_PEER], 8 * 95);
	assert_int_equal(sum.counts[SNTI_PROFILE_WIRE], 8 * 5);
	assert_string_equal(snti_profile_verdict(sum.counts), "peer-late");
}

/* All eight are with the network at once, which brings one each 100. */
static void steps_on_a_slow_wire_count_each_moment_once(void **state)
{
	void *all = op(1, 1), *steps[8];
	struct sum sum;

	(void)state;
	for (int i = 0; i < 8; i++) {
		steps[i] = step(all, i);
		in_state(steps[i], NCCL_STATE_SEND_GPU_WAIT, START, 0);
	}
	for (int i = 0; i < 8; i++) {
		in_state(steps[i], NCCL_STATE_SEND_PEER_WAIT, START + 10 + (unsigned)i, 0);
		in_state(steps[i], NCCL_STATE_SEND_WAIT, START + 10 + (unsigned)i, 1);
	}
	for (int i = 0; i < 8; i++)
		done(steps[i], START + 110 + 100 * (unsigned)i);
	done(all, now);
	sum = counted();
	assert_int_equal(sum.counts[SNTI_PROFILE_GPU], 10);
	assert_int_equal(sum.counts[SNTI_PROFILE_PEER], 0);
	assert_int_equal(sum.counts[SNTI_PROFILE_WIRE], 800);
	assert_string_equal(snti_profile_verdict(sum.counts), "wire-slow");
}

/* Four receives are posted; all data is there after 100; then the GPU takes one each 1000. */
static void receives_wait_for_data_then_for_the_gpu(void **state)
{
	void *all = op(1, 0), *steps[4];
	struct sum sum;

	(void)state;
	for (int i = 0; i < 4; i++) {
		steps[i] = step(all, i);
		in_state(steps[i], NCCL_STATE_RECV_WAIT, START, 0);
	}
	for (int i = 0; i < 4; i++)
		in_state(steps[i], NCCL_STATE_RECV_FLUSH_WAIT, START + 100, 1000);
	for (int i = 0; i < 4; i++)
		in_state(steps[i], NCCL_STATE_RECV_GPU_WAIT, START + 110, 0);
	for (int i = 0; i < 4; i++)
		done(steps[i], START + 1110 + 1000 * (unsigned)i);
	done(all, now);
	sum = counted();
	assert_int_equal(sum.counts[SNTI_PROFILE_BYTES], 4000);
	assert_int_equal(sum.counts[SNTI_PROFILE_DATA], 100);
	assert_int_equal(sum.counts[SNTI_PROFILE_FLUSH], 10);
	assert_int_equal(sum.counts[SNTI_PROFILE_GPU], 4000);
	assert_int_equal(sum.counts[SNTI_PROFILE_TRANSFER], 400);
	assert_string_equal(snti_profile_verdict(sum.counts), "gpu-late");
}

static void verdicts_need_half(void **state)
{
	uint64_t counts[SNTI_PROFILE_COUNTS] = { 0 };

	(void)state;
	assert_string_equal(snti_profile_verdict(counts), "none");
	counts[SNTI_PROFILE_GPU] = 40;
	counts[SNTI_PROFILE_PEER] = 30;
	counts[SNTI_PROFILE_WIRE] = 30;
	assert_string_equal(snti_profile_verdict(counts), "mixed");
	counts[SNTI_PROFILE_WIRE] = 70;
	assert_string_equal(snti_profile_verdict(counts), "wire-slow");
	counts[SNTI_PROFILE_DATA] = 140;
	assert_string_equal(snti_profile_verdict(counts), "data-late");
}

/* ---- where it counts ---------------------------------------------------------------- */

static void send_one(void *all, int number, uint64_t takes)
{
	void *one = step(all, number);

	in_state(one, NCCL_STATE_SEND_GPU_WAIT, now, 0);
	in_state(one, NCCL_STATE_SEND_WAIT, now, 10);
	done(one, now + takes);
}

static void times_fall_into_their_buckets(void **state)
{
	static const struct { uint64_t ns; int bucket; } cases[] = { { 0, 0 }, { 1000, 0 }, { 1001, 1 }, { 2000, 1 }, { 2001, 2 },
		{ 4000, 2 }, { 1000000, 10 }, { 1024000, 10 }, { 8388608000, 23 }, { 8388608001, 24 }, { 99999999999, 24 } };
	uint64_t want[SNTI_PROFILE_BUCKETS] = { 0 };
	void *all = op(1, 1);
	struct sum sum;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		send_one(all, (int)i, cases[i].ns);
		want[cases[i].bucket]++;
	}
	sum = counted();
	assert_memory_equal(sum.counts + SNTI_PROFILE_BUCKET, want, sizeof want);
	done(all, now);
}

static void the_network_says_which_nic(void **state)
{
	struct snti_nccl_event ours = { .device = 0 };
	struct nccl_network_ib_v1 ib = { .queue_pair = { .device = 3 } };
	struct nccl_event_v6 event = { .type = NCCL_EVENT_NETWORK };
	void *all = op(1, 1);
	char name[40];

	(void)state;
	event.parent = step(all, 0);
	event.network = (struct nccl_event_network){ SNTI_NCCL_EVENT_PLUGIN, &ours };
	assert_null(snti_profile_start(comm, &event, now));
	in_state(event.parent, NCCL_STATE_SEND_WAIT, now, 1);
	done(event.parent, now);
	event.parent = step(all, 1);
	event.network = (struct nccl_event_network){ (int64_t)1 << 16 | 1, &ib };
	assert_null(snti_profile_start(comm, &event, now));
	event.network = (struct nccl_event_network){ (int64_t)2 << 16 | 1, &ib };
	assert_null(snti_profile_start(comm, &event, now));
	event.network = (struct nccl_event_network){ SNTI_NCCL_EVENT_PLUGIN, NULL };
	assert_null(snti_profile_start(comm, &event, now));
	in_state(event.parent, NCCL_STATE_SEND_WAIT, now, 1);
	done(event.parent, now);
	assert_int_equal(counted().rows, 2);
	done(all, now);
	assert_string_equal(snti_profile_nic_name(0, name, sizeof name), "eth0");
	assert_string_equal(snti_profile_nic_name(5, name, sizeof name), "5");
	assert_string_equal(snti_profile_nic_name(SNTI_PROFILE_IB_NIC + 3, name, sizeof name), "IB/3");
	assert_string_equal(snti_profile_nic_name(SNTI_PROFILE_NO_NIC, name, sizeof name), "unknown");
}

/* A handle of an operation that is over is nobody's, although its place has a new tenant. */
static void handles_do_not_outlive_their_operation(void **state)
{
	void *first = op(1, 1), *old = step(first, 0), *second, *one;

	(void)state;
	in_state(old, NCCL_STATE_SEND_WAIT, now, 1);
	done(first, now);
	second = op(2, 1);
	assert_ptr_not_equal(first, second);
	one = step(second, 0);
	in_state(one, NCCL_STATE_SEND_WAIT, now, 1);
	done(old, now);
	done(first, now);
	done(one, now + 5);
	assert_int_equal(counted().counts[SNTI_PROFILE_MESSAGES], 1);
	assert_int_equal(counted().counts[SNTI_PROFILE_WIRE], 5);
	done(second, now);
}

enum { THREADS = 4, ROUNDS = 1500, PEERS = 2, HELD = 40 };

/* Takes many operations and gives them back in another order, as several proxies at once do. */
static void *send_to_all(void *unused)
{
	struct nccl_event_v6 of_op = { .type = NCCL_EVENT_PROXY_OP, .proxy_op = { .pid = getpid(), .is_send = 1 } };
	struct nccl_event_v6 of_step = { .type = NCCL_EVENT_PROXY_STEP };
	const union nccl_event_arguments arguments = { .proxy_step = { 3 } };

	(void)unused;
	for (int round = 0; round < ROUNDS; round++) {
		void *ops[HELD], *one;

		for (int i = 0; i < HELD; i++) {
			of_op.proxy_op.peer = (round + i) % PEERS;
			ops[i] = snti_profile_start(comm, &of_op, 1);
		}
		for (int i = 0; i < HELD; i++) {
			of_step.parent = ops[i * 7 % HELD];
			one = snti_profile_start(comm, &of_step, 1);
			snti_profile_record(one, NCCL_STATE_SEND_WAIT, &arguments, 2);
			snti_profile_stop(one, 4);
			snti_profile_stop(of_step.parent, 5);
		}
	}
	return NULL;
}

static void threads_lose_nothing_and_count_nothing_twice(void **state)
{
	pthread_t threads[THREADS];
	struct sum sum;

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, send_to_all, NULL), 0);
	for (int i = 0; i < 100; i++)
		counted();
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	sum = counted();
	assert_int_equal(sum.rows, PEERS);
	assert_int_equal(sum.counts[SNTI_PROFILE_MESSAGES], THREADS * ROUNDS * HELD);
	assert_int_equal(sum.counts[SNTI_PROFILE_BYTES], 3 * THREADS * ROUNDS * HELD);
	assert_int_equal(sum.counts[SNTI_PROFILE_WIRE], 2 * THREADS * ROUNDS * HELD);
	assert_int_equal(atomic_load(&comm->lost_ops), 0);
}

/* ---- rules ------------------------------------------------------------------------------ */

static struct snti_tuning rules;

static const char *complaint(const char *text)
{
	static char why[300];

	why[0] = 0;
	return snti_tuning_parse(text, strlen(text), &rules, why, sizeof why) ? why : NULL;
}

static int line_for(int function, uint64_t bytes, int nodes, int ranks)
{
	struct snti_tuning_question question = { .function = function, .bytes = bytes, .nodes = nodes, .ranks = ranks,
		.operations = 1 };
	struct snti_tuning_rule *rule = snti_tuning_find(&rules, &question);

	return rule ? rule->line : 0;
}

static void the_first_rule_that_fits_counts(void **state)
{
	uint64_t print;

	(void)state;
	assert_null(complaint("# none\n\n \t\r\n"));
	assert_int_equal(rules.count, 0);
	assert_null(complaint("allreduce,1K,4K,ring,ll128,-1,2,-1\nallreduce,0,-1,pat,simple,64,-1,16,1,0\n"));
	assert_int_equal(rules.count, 2);
	assert_int_equal(rules.rules[1].channels, 64);
	assert_int_equal(line_for(NCCL_ALLREDUCE, 1024, 2, 4), 1);
	assert_int_equal(line_for(NCCL_ALLREDUCE, 4096, 2, 16), 1);
	assert_int_equal(line_for(NCCL_ALLREDUCE, 4097, 2, 16), 2);
	assert_int_equal(line_for(NCCL_ALLREDUCE, 4096, 3, 16), 2);
	assert_int_equal(line_for(NCCL_ALLREDUCE, 4096, 3, 17), 0);
	assert_int_equal(line_for(NCCL_ALLGATHER, 4096, 2, 16), 0);
	/* The fingerprint is of what is said, not of how. */
	print = rules.fingerprint;
	assert_null(complaint("#\nallreduce, 1024,4096 ,ring,ll128,-1,2,-1,-1\n\nallreduce,-1,-1,pat,simple,64,-1,16,1,0"));
	assert_true(rules.fingerprint == print);
	assert_null(complaint("allreduce,1K,4K,ring,ll128,-1,2,-1\nallreduce,0,-1,pat,simple,63,-1,16,1,0\n"));
	assert_true(rules.fingerprint != print);
}

static void mistakes_are_named_with_their_line(void **state)
{
	char many[SNTI_TUNING_RULES * 40], *to = many;

	(void)state;
	assert_string_equal(complaint("allreduce,0,1,ring,ll,1,1,1\nallreduce,0,1,ring,xx,1,1,1"),
			    "line 2: protocol 'xx', expected ll, ll128, simple");
	assert_string_equal(complaint("allreduce,x,1,ring,ll,1,1,1"),
			    "line 1: min 'x', expected bytes such as 65536 or 64K, or -1 for no limit");
	assert_string_equal(complaint("allreduce,0,1,ring,ll,65,1,1"), "line 1: channels '65', expected 1 to 64, or -1 for any");
	assert_string_equal(complaint("allreduce,0,1,ring,ll,1,1,1,1,2"), "line 1: registered '2', expected 0 to 1, or -1 for any");
	assert_non_null(complaint("allreduce,0,99999999999999999999,ring,ll,1,1,1"));
	assert_non_null(complaint("allreduce,0,1,ring,ll,1,1,9999999999"));
	assert_non_null(complaint("allreduce"));
	assert_non_null(complaint("AllReduce,0,1,ring,ll,1,1,1"));
	for (int i = 0; i <= SNTI_TUNING_RULES; i++)
		to += sprintf(to, "reduce,0,1,ring,ll,1,1,1\n");
	assert_string_equal(complaint(many), "line 1025: more than 1024 rules");
}

int main(void)
{
#define WITH_COMM(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		WITH_COMM(waits_of_one_step_after_another_add_up),
		WITH_COMM(steps_behind_a_late_peer_do_not_count_for_the_gpu),
		WITH_COMM(steps_on_a_slow_wire_count_each_moment_once),
		WITH_COMM(receives_wait_for_data_then_for_the_gpu),
		cmocka_unit_test(verdicts_need_half),
		WITH_COMM(times_fall_into_their_buckets),
		WITH_COMM(the_network_says_which_nic),
		WITH_COMM(handles_do_not_outlive_their_operation),
		WITH_COMM(threads_lose_nothing_and_count_nothing_twice),
		cmocka_unit_test(the_first_rule_that_fits_counts),
		cmocka_unit_test(mistakes_are_named_with_their_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
