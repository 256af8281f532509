/* SPDX-License-Identifier: BSD-3-Clause */
/* test_verbs_faults.c - on the mock: what goes wrong with devices ends in recovery or in an error that says what. */

#include "base/log.h"
#include "tests/conformance_parts.h"
#include "tests/mock_verbs/find.h"
#include "transport/shared.h"
#include "transport/verbs.h"

enum { MANY = 60, LARGE = 3 << 20 };

static struct mock_script *script;
static void (*reset)(void), (*tell)(enum ibv_event_type, struct ibv_qp *), (*break_qps)(void);

static const struct snti_port_options options = { .secret = (const unsigned char *)"the secret of these little faults", .local_only = 1 };

static void assert_nothing_left(void)
{
	assert_int_equal(script->contexts, 0);
	assert_int_equal(script->pds + script->mrs + script->cqs + script->channels + script->srqs + script->qps, 0);
	assert_int_equal(script->locked, 0);
	assert_int_equal(script->overruns, 0);
	assert_int_equal(script->rnr, 0);
}

static int fresh(void **state)
{
	reset();
	return setup(state);
}

static int done_with(void **state)
{
	teardown(state);
	assert_nothing_left();
	return 0;
}

static int plain(void **state)
{
	(void)state;
	reset();
	alarm(60);
	return 0;
}

static int plain_end(void **state)
{
	(void)state;
	assert_nothing_left();
	alarm(0);
	return 0;
}

/* A message from 0 to 1 that something goes wrong with: neither side waits for ever. */
static void talk_in_vain(struct pair *p, size_t size)
{
	unsigned char *out = filled(size, 1), *in = malloc(size + 1);
	struct snti_xfer send = message(out, size, 1), recv = message(in, size, 1);

	do_recv(p, 1, &recv);
	do_send(p, 0, &send);
	until(p, send.status != SNT_BUSY && recv.status != SNT_BUSY && p->conn[0]->status && p->conn[1]->status);
	if (recv.status == 0)
		assert_filled(in, size, 1);
	free(out);
	free(in);
}

/* ---- choice ------------------------------------------------------------- */

static void opens(int device, unsigned gid)
{
	struct snti_port *port;

	assert_int_equal(snti_port_open(wire, &options, &port), 0);
	assert_int_equal(((struct verbs_port *)port)->device.context->device->name[4], '0' + device);
	assert_int_equal(((struct verbs_port *)port)->device.gid_index, gid);
	snti_port_close(port);
}

static void the_best_port_and_address_are_chosen(void **state)
{
	(void)state;
	script->devices = 3;
	opens(0, 3);                            /* RoCE v2 over IPv4 */
	script->port[0].state = IBV_PORT_DOWN;
	opens(1, 3);
	script->port[1].gid_count = 2;          /* link-local only */
	opens(2, 3);
	script->port[2].state = IBV_PORT_DOWN;
	opens(1, 1);
	script->port[2].state = IBV_PORT_ACTIVE;
	script->port[0].state = IBV_PORT_ACTIVE;
	script->port[2].speed = 128;
	opens(2, 3);
}

static void refuses(int status, const char *text)
{
	struct snti_port *port;

	assert_int_equal(snti_port_open(wire, &options, &port), status);
	assert_null(port);
	expect_text(text);
}

static void what_cannot_be_opened_is_told(void **state)
{
	(void)state;
	script->devices = 0;
	refuses(SNT_EUNSUPPORTED, "no RDMA device");
	script->devices = 1;
	script->port[0].state = IBV_PORT_DOWN;
	refuses(SNT_EUNSUPPORTED, "active port");
	script->port[0].state = IBV_PORT_ACTIVE;
	script->iwarp = 1;
	refuses(SNT_EUNSUPPORTED, "none of 1 RDMA devices");
	script->iwarp = 0;
	script->port[0].gid_count = 0;
	refuses(SNT_EUNSUPPORTED, "GID");
}

static void other_networks_are_not_reached(void **state)
{
	struct snti_port *port[2];
	struct snti_address address;

	(void)state;
	assert_int_equal(snti_port_open(wire, &options, &port[0]), 0);
	script->port[0].gid_count = 2;
	assert_int_equal(snti_port_open(wire, &options, &port[1]), 0);
	assert_int_equal(wire->address(port[1], &address), 0);
	assert_int_equal(wire->reaches(port[0], &address), SNT_EUNSUPPORTED);
	assert_int_equal(wire->address(port[0], &address), 0);
	assert_int_equal(wire->reaches(port[0], &address), 0);
	snti_port_close(port[0]);
	snti_port_close(port[1]);
}

/* ---- memory ------------------------------------------------------------- */

static void little_locked_memory_is_told_or_made_do_with(void **state)
{
	struct pair p;

	(void)state;
	script->lock_most = 64 << 10;
	refuses(SNT_ELIMIT, "memlock");
	assert_nothing_left();
	memset(&p, 0, sizeof(p));
	for (int i = 0; i < 2; i++) {
		script->lock_most = script->locked + (2 << 20);
		assert_int_equal(snti_port_open(wire, &options, &p.port[i]), 0);
	}
	script->lock_most = script->locked + (1 << 20);
	begin(&p, 0, 1, 0);
	until(&p, is_up(&p));
	for (int i = 0; i < 2; i++)
		assert_true(((struct verbs_port *)p.port[i])->landing.count < VERBS_BLOCKS);
	talk(&p, 100);
	talk(&p, LARGE);
	shut(&p);
}

static void any_registration_may_fail(void **state)
{
	(void)state;
	for (int k = 1; k <= 12; k++) {
		struct snti_conn *failed = NULL;
		struct pair p;

		open_ports(&p);
		begin(&p, 0, 1, 0);
		script->fail_reg = k;
		until(&p, is_up(&p));
		for (int i = 0; i < 2; i++)
			if (p.conn[i]->status)
				failed = p.conn[i];
		if (!failed)
			talk(&p, LARGE);
		else
			until(&p, p.conn[0]->status < 0 && p.conn[1]->status < 0);
		script->fail_reg = 0;
		shut(&p);
		assert_nothing_left();
	}
}

static void freed_memory_is_not_taken_for_new(void **state)
{
	struct pair *p = *state;
	struct verbs_port *port = (struct verbs_port *)p->port[0];

	for (int i = 0; i < 20; i++) {
		unsigned char *out = snt_alloc(LARGE), *in = snt_alloc(LARGE);
		struct snti_xfer send = message(out, LARGE, 1), recv = message(in, LARGE, 1);

		for (int k = 0; k < 2; k++) {
			fill(out, LARGE, (uint64_t)(2 * i + k));
			do_recv(p, 1, &recv);
			do_send(p, 0, &send);
			done(p, &send);
			done(p, &recv);
			assert_filled(in, LARGE, (uint64_t)(2 * i + k));
		}
		assert_int_equal(port->region_count, 1);
		snt_free(out);
		snt_free(in);
	}
}

/* ---- queues ------------------------------------------------------------- */

static void a_full_queue_refuses_and_leaves_the_others_alone(void **state)
{
	struct pair p[MANY];
	struct snti_address address;
	int up = 0, refused = 0;

	(void)state;
	script->max_cqe = 4096;
	memset(p, 0, sizeof(p));
	open_ports(&p[0]);
	assert_int_equal(wire->address(p[0].port[0], &address), 0);
	for (int i = 0; i < MANY && !refused; i++) {
		memcpy(p[i].port, p[0].port, sizeof(p[i].port));
		begin(&p[i], i & 1, (uint64_t)i, 0);
		until(&p[i], p[i].conn[0]->status < 0 || p[i].conn[1]->status < 0 || is_up(&p[i]));
		refused = p[i].conn[0]->status || p[i].conn[1]->status;
		if (refused)
			expect_text("completion queue");
		up += !refused;
	}
	assert_true(refused && up > 10);
	for (int i = 0; i < up; i++)
		talk(&p[i], i & 1 ? 100 : 100000);
	for (int i = 0; i <= up; i++)
		for (int k = 0; k < 2; k++)
			snti_conn_close(p[i].conn[k]);
	for (int k = 0; k < 2; k++)
		snti_port_close(p[0].port[k]);
}

static void queues_grow_with_connections(void **state)
{
	static struct pair p[MANY];

	(void)state;
	memset(p, 0, sizeof(p));
	open_ports(&p[0]);
	for (int i = 0; i < MANY; i++) {
		memcpy(p[i].port, p[0].port, sizeof(p[i].port));
		begin(&p[i], i & 1, (uint64_t)i, 0);
		until(&p[i], is_up(&p[i]));
		assert_int_equal(p[i].conn[0]->status, 0);
	}
	assert_true(((struct verbs_port *)p[0].port[0])->cq_size > 2 * VERBS_WORKS);
	for (int i = 0; i < MANY; i++)
		talk(&p[i], 5000);
	for (int i = 0; i < MANY; i++)
		for (int k = 0; k < 2; k++)
			snti_conn_close(p[i].conn[k]);
	for (int k = 0; k < 2; k++)
		snti_port_close(p[0].port[k]);
}

static void a_shared_receive_queue_without_room_refuses(void **state)
{
	struct pair p[3];

	(void)state;
	script->max_srq_wr = 2 * VERBS_SLAB;
	memset(p, 0, sizeof(p));
	open_ports(&p[0]);
	for (int i = 0; i < 3; i++) {
		memcpy(p[i].port, p[0].port, sizeof(p[i].port));
		begin(&p[i], 0, (uint64_t)i, 0);
		until(&p[i], p[i].conn[0]->status < 0 || p[i].conn[1]->status < 0 || is_up(&p[i]));
		assert_int_equal(p[i].conn[0]->status < 0 || p[i].conn[1]->status < 0, i == 2);
	}
	expect_text("shared receive queue of mock0 holds 50 buffers");
	/* Whoever leaves makes room. */
	for (int k = 0; k < 2; k++) {
		snti_conn_close(p[2].conn[k]);
		snti_conn_close(p[1].conn[k]);
	}
	begin(&p[1], 0, 9, 0);
	until(&p[1], is_up(&p[1]));
	talk(&p[0], LARGE);
	talk(&p[1], LARGE);
	for (int k = 0; k < 2; k++)
		snti_conn_close(p[1].conn[k]);
	shut(&p[0]);
}

static void a_queue_pair_that_cannot_be_made_fails_both_sides(void **state)
{
	(void)state;
	for (int k = 1; k <= 14; k++) {
		struct pair p;

		open_ports(&p);
		begin(&p, k & 1, 1, 0);
		if (k <= 6)
			script->fail_qp = k;
		else
			script->fail_modify = k - 6;
		until(&p, is_up(&p));
		if (p.conn[0]->status || p.conn[1]->status)
			until(&p, p.conn[0]->status < 0 && p.conn[1]->status < 0);
		else    /* less inline than asked for the first time */
			talk(&p, 100);
		shut(&p);
		assert_nothing_left();
		reset();
	}
}

/* ---- completions -------------------------------------------------------- */

static void one_line_says_what_a_completion_means(void **state)
{
	static const struct { enum ibv_wc_status status; int becomes; } table[] = {
		{ IBV_WC_RETRY_EXC_ERR, SNT_EPEER }, { IBV_WC_RNR_RETRY_EXC_ERR, SNT_EPEER }, { IBV_WC_REM_ACCESS_ERR, SNT_EPEER },
		{ IBV_WC_LOC_PROT_ERR, SNT_EDEVICE }, { IBV_WC_LOC_QP_OP_ERR, SNT_EDEVICE }, { IBV_WC_FATAL_ERR, SNT_EDEVICE },
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(table) / sizeof(*table); i++) {
		void *pair;
		struct pair *p;
		char text[64];

		fresh(&pair);
		p = pair;
		script->status = table[i / 2].status;
		script->vendor = 0x1234;
		*(i & 1 ? &script->fail_write : &script->fail_send) = 1;
		snti_fail(SNT_EINVAL, "nothing yet");
		do {
			turn(p);
			if (p->conn[0]->status >= 0 && p->conn[1]->status >= 0)
				talk_in_vain(p, LARGE);
		} while (p->conn[0]->status >= 0 && p->conn[1]->status >= 0);
		assert_true(p->conn[0]->status == table[i / 2].becomes || p->conn[1]->status == table[i / 2].becomes);
		snprintf(text, sizeof(text), "(%d, vendor 0x1234)", (int)table[i / 2].status);
		assert_non_null(strstr(snt_error_text(), text) ? text : strstr(snt_error_text(), "hung up"));
		done_with(&pair);
	}
}

static void the_line_names_everything(void **state)
{
	struct pair *p = *state;
	char in[8];
	struct snti_xfer send = message("12345678", 8, 1), recv = message(in, 8, 1);

	script->cut = 1;
	do_recv(p, 1, &recv);
	do_send(p, 0, &send);
	until(p, p->conn[0]->status < 0);
	assert_int_equal(p->conn[0]->status, SNT_EPEER);
	expect_text("rank 1");
	expect_text("mock0 port 1");
	expect_text("GID 10.0.0.1 to 10.0.0.1");
	expect_text("(12, vendor 0x81)");
	expect_text("transport retry counter exceeded");
	expect_text("look at link");
	until(p, p->conn[1]->status < 0 && recv.status != SNT_BUSY);
	assert_int_equal(recv.status, SNT_EPEER);
}

/* What a device does to a queue pair, or an administrator through it. */
static void break_by_hand(struct pair *p)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };

	for (int i = 0; i < 2; i++) {
		struct verbs_link *link = ((struct verbs_conn *)p->conn[i])->rails;

		assert_int_equal(verbs_calls.ibv_modify_qp(link->frames, &attr, IBV_QP_STATE), 0);
		for (unsigned k = 0; k < link->qps; k++)
			assert_int_equal(verbs_calls.ibv_modify_qp(link->data[k], &attr, IBV_QP_STATE), 0);
	}
}

static void queue_pairs_set_to_error_fail_what_waits(void **state)
{
	struct pair *p = *state;
	char in[8];
	struct snti_xfer recv = message(in, 8, 2);

	do_recv(p, 0, &recv);
	talk(p, LARGE);
	break_by_hand(p);
	talk_in_vain(p, LARGE);
	until(p, recv.status != SNT_BUSY);
	assert_true(recv.status < 0);
}

static void queue_pairs_in_error_fail_what_waits(void **state)
{
	struct pair *p = *state;
	char in[8];
	struct snti_xfer recv = message(in, 8, 2);

	do_recv(p, 0, &recv);
	talk(p, 1000);
	break_qps();
	talk_in_vain(p, 100);
	until(p, recv.status != SNT_BUSY);
	assert_true(recv.status < 0);
}

static void a_large_message_survives_no_broken_queue_pair(void **state)
{
	(void)state;
	for (int turns = 0; turns < 12; turns++) {
		unsigned char *out = filled(LARGE, 1), *in = malloc(LARGE);
		struct snti_xfer send = message(out, LARGE, 1), recv = message(in, LARGE, 1);
		void *pair;
		struct pair *p;

		fresh(&pair);
		p = pair;
		script->seed = 77 + (uint64_t)turns;
		do_recv(p, 1, &recv);
		do_send(p, 0, &send);
		for (int i = 0; i < turns * 2; i++)
			turn(p);
		break_qps();
		snti_conn_close(p->conn[0]);            /* its memory is the caller's again */
		p->conn[0] = NULL;
		memset(out, 0xee, LARGE);
		until(p, recv.status != SNT_BUSY);
		if (!recv.status)
			assert_filled(in, LARGE, 1);
		done_with(&pair);
		free(out);
		free(in);
	}
}

/* ---- events ------------------------------------------------------------- */

static void a_port_that_flaps_does_no_harm(void **state)
{
	struct pair *p = *state;
	struct pair again = { .port = { p->port[0], p->port[1] } };

	talk(p, LARGE);
	tell(IBV_EVENT_PORT_ERR, NULL);
	for (int i = 0; i < 600; i++)
		turn(p);
	/* The address comes back in another place of the table. */
	script->port[0].gids[4] = script->port[0].gids[3];
	script->port[0].gids[4].gid_index = 4;
	memset(&script->port[0].gids[3].gid, 0, 16);
	script->port[0].gid_count = 5;
	tell(IBV_EVENT_PORT_ACTIVE, NULL);
	tell(IBV_EVENT_GID_CHANGE, NULL);
	for (int i = 0; i < 600; i++)
		turn(p);
	assert_int_equal(((struct verbs_port *)p->port[0])->device.gid_index, 4);
	begin(&again, 0, 5, 0);
	until(p, is_up(&again));
	talk(&again, LARGE);
	for (int i = 0; i < 2; i++)
		snti_conn_close(again.conn[i]);
}

static void a_port_that_stays_down_fails(void **state)
{
	struct pair *p = *state;
	char in[8];
	struct snti_xfer recv = message(in, 8, 1);
	int failed = 0;

	do_recv(p, 1, &recv);
	script->port[0].state = IBV_PORT_DOWN;
	tell(IBV_EVENT_PORT_ERR, NULL);
	for (int i = 0; i < 600; i++)
		turn(p);
	assert_int_equal(recv.status, SNT_BUSY);
	((struct verbs_port *)p->port[1])->down_until = 1;      /* as if 5 s had passed */
	for (int i = 0; i < 2000 && !failed; i++)
		failed = wire->poll(p->port[1]) < 0;
	assert_true(failed);
	assert_int_equal(recv.status, SNT_EDEVICE);
	expect_text("is down");
	for (int i = 0; i < 2000 && p->conn[0]->status >= 0; i++)
		wire->poll(p->port[0]);
	assert_int_equal(p->conn[0]->status, SNT_EPEER);
}

/* Port 1 fails with all that waits on it, and says which device; the other side learns that its peer is gone. */
static void fails_port(struct pair *p, struct snti_xfer *waits, const char *text)
{
	int failed = 0;

	for (int i = 0; i < 2000 && !failed; i++)
		failed = wire->poll(p->port[1]) < 0;
	assert_true(failed);
	assert_int_equal(waits->status, SNT_EDEVICE);
	assert_int_equal(p->conn[1]->status, SNT_EDEVICE);
	expect_text("mock0");
	expect_text(text);
	for (int i = 0; i < 2000 && p->conn[0]->status >= 0; i++)
		wire->poll(p->port[0]);
	assert_true(p->conn[0]->status < 0);
}

static void a_device_that_breaks_fails_its_port(void **state)
{
	static const enum ibv_event_type types[] = { IBV_EVENT_DEVICE_FATAL, IBV_EVENT_CQ_ERR, IBV_EVENT_SRQ_ERR };

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		unsigned char *in = malloc(LARGE);
		struct snti_xfer recv = message(in, LARGE, 1);
		void *pair;

		fresh(&pair);
		do_recv(pair, 1, &recv);
		tell(types[i], NULL);
		fails_port(pair, &recv, "event of the mock");
		done_with(&pair);
		free(in);
	}
}

/* Some devices tell nothing: reading the queue just fails. */
static void a_queue_that_overran_fails_its_port(void **state)
{
	struct pair *p = *state;
	char in[8];
	struct snti_xfer recv = message(in, 8, 1);

	do_recv(p, 1, &recv);
	((struct mock_cq *)(void *)((struct verbs_port *)p->port[1])->cq)->broken = 1;
	fails_port(p, &recv, "completion queue");
}

/* Down and up again while large messages are on their way, many times: nothing is lost. */
static void a_port_that_flaps_under_load_loses_nothing(void **state)
{
	struct pair *p = *state;
	unsigned char *out = filled(LARGE, 9), *in = malloc(LARGE);

	script->seed = 4242;
	for (int i = 0; i < 12; i++) {
		struct snti_xfer send = message(out, LARGE, 1), recv = message(in, LARGE, 1);

		do_recv(p, 1, &recv);
		do_send(p, 0, &send);
		for (int k = 0; k < 7 * i; k++)
			turn(p);
		tell(IBV_EVENT_PORT_ERR, NULL);
		for (int k = 0; k < 300; k++)
			turn(p);
		tell(IBV_EVENT_PORT_ACTIVE, NULL);
		tell(IBV_EVENT_SM_CHANGE, NULL);
		done(p, &send);
		done(p, &recv);
		assert_filled(in, LARGE, 9);
		memset(in, 0, LARGE);
	}
	until(p, !((struct verbs_port *)p->port[0])->down_until && !((struct verbs_port *)p->port[1])->down_until);
	free(out);
	free(in);
}

/* Events that concern nobody, and those of queue pairs that are gone. */
static void other_events_do_no_harm(void **state)
{
	struct pair *p = *state;

	for (int type = IBV_EVENT_CQ_ERR; type <= IBV_EVENT_WQ_FATAL; type++)
		if (type != IBV_EVENT_CQ_ERR && type != IBV_EVENT_SRQ_ERR && type != IBV_EVENT_DEVICE_FATAL && type != IBV_EVENT_QP_FATAL &&
		    type != IBV_EVENT_QP_REQ_ERR && type != IBV_EVENT_QP_ACCESS_ERR && type != IBV_EVENT_PORT_ERR)
			tell((enum ibv_event_type)type, NULL);
	for (int i = 0; i < 600; i++)
		turn(p);
	talk(p, LARGE);
}

static void an_event_of_a_queue_pair_fails_its_connection(void **state)
{
	struct pair *p = *state;
	char in[8];
	struct snti_xfer recv = message(in, 8, 1);

	do_recv(p, 1, &recv);
	tell(IBV_EVENT_QP_ACCESS_ERR, ((struct verbs_conn *)p->conn[1])->rails->data[0]);
	until(p, recv.status != SNT_BUSY);
	assert_int_equal(recv.status, SNT_EDEVICE);
	until(p, p->conn[0]->status < 0);
	assert_int_equal(p->conn[0]->status, SNT_EPEER);
}

static int find_mock(void)
{
	script = mock_find(&reset);
	*(void **)&tell = dlsym(mock_library(), "mock_event");
	*(void **)&break_qps = dlsym(mock_library(), "mock_break_qps");
	return script && tell && break_qps;
}

/* "device" uses the system's libibverbs and what devices there are, for what can be done to those. */
int main(int argc, char **argv)
{
	const struct CMUnitTest on_devices[] = {
		cmocka_unit_test_setup_teardown(queue_pairs_set_to_error_fail_what_waits, setup, teardown),
	};
#define alone(test) cmocka_unit_test_setup_teardown(test, plain, plain_end)
#define paired(test) cmocka_unit_test_setup_teardown(test, fresh, done_with)
	const struct CMUnitTest tests[] = {
		alone(the_best_port_and_address_are_chosen),
		alone(what_cannot_be_opened_is_told),
		alone(other_networks_are_not_reached),
		alone(little_locked_memory_is_told_or_made_do_with),
		alone(any_registration_may_fail),
		paired(freed_memory_is_not_taken_for_new),
		alone(a_full_queue_refuses_and_leaves_the_others_alone),
		alone(queues_grow_with_connections),
		alone(a_shared_receive_queue_without_room_refuses),
		alone(a_queue_pair_that_cannot_be_made_fails_both_sides),
		alone(one_line_says_what_a_completion_means),
		paired(the_line_names_everything),
		paired(queue_pairs_in_error_fail_what_waits),
		paired(queue_pairs_set_to_error_fail_what_waits),
		alone(a_large_message_survives_no_broken_queue_pair),
		paired(a_port_that_flaps_does_no_harm),
		paired(a_port_that_stays_down_fails),
		alone(a_device_that_breaks_fails_its_port),
		paired(a_queue_that_overran_fails_its_port),
		paired(a_port_that_flaps_under_load_loses_nothing),
		paired(other_events_do_no_harm),
		paired(an_event_of_a_queue_pair_fails_its_connection),
	};

	setenv("SNT_LOG", "0", 0);
	wire = &snti_verbs_transport;
	if (argc > 1 && !strcmp(argv[1], "device"))
		return cmocka_run_group_tests_name("verbs faults on devices", on_devices, NULL, NULL);
	return find_mock() ? cmocka_run_group_tests_name("verbs faults", tests, NULL, NULL) : 1;
}
