/* SPDX-License-Identifier: BSD-3-Clause */
/* test_ucx_class.c - the traffic class over UCX: what its contexts are told, on the side that knows the class and on the
 * one that learns it while it accepts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include <cmocka.h>

#include "base/clock.h"
#include "transport/ucx.h"

enum { WAIT_MS = 10000, LARGE = 3 << 20, CONTEXTS = 64 };

static const struct snti_port_options options = { .secret = (const unsigned char *)"the secret of this little program",
	.local_only = 1 };

/* ---- what UCX is told --------------------------------------------------------- */

static struct ucx_functions real;
static struct { ucp_context_h context; int class, level; } made[CONTEXTS];
static int made_count, fail_next;

static ucs_status_t read_config(const char *prefix, const char *file, ucp_config_t **config)
{
	assert_true(made_count < CONTEXTS);
	made[made_count].class = made[made_count].level = -1;
	return real.config_read(prefix, file, config);
}

static ucs_status_t modify(ucp_config_t *config, const char *name, const char *value)
{
	if (!strcmp(name, "IB_TRAFFIC_CLASS"))
		made[made_count].class = atoi(value);
	if (!strcmp(name, "IB_SL"))
		made[made_count].level = atoi(value);
	return real.config_modify(config, name, value);
}

static ucs_status_t init(unsigned major, unsigned minor, const ucp_params_t *params, const ucp_config_t *config,
			 ucp_context_h *context)
{
	ucs_status_t status = fail_next ? UCS_ERR_NO_MEMORY : real.init_version(major, minor, params, config, context);

	if (status == UCS_OK)
		made[made_count++].context = *context;
	fail_next = 0;
	return status;
}

/* Over what its state names: with tcp, UCX before 1.14 keeps the worker of who was connecting when the peer failed. */
static int setup(void **state)
{
	setenv("UCX_TLS", *state, 1);
	real = ucx;
	ucx.config_read = read_config;
	ucx.config_modify = modify;
	ucx.init_version = init;
	made_count = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ucx = real;
	return 0;
}

/* The worker's context was told @class (-1: nothing), and who sleeps is told of the worker. */
static void expect_class(struct snti_port *base, int class)
{
	struct ucx_port *port = (struct ucx_port *)base;
	struct epoll_event event = { .events = EPOLLIN };
	int i = made_count - 1;

	while (i >= 0 && made[i].context != port->worker.context)
		i--;
	assert_true(i >= 0);
	assert_int_equal(made[i].class, class);
	assert_int_equal(made[i].level, class <= 15 ? class : -1);
	assert_int_equal(epoll_ctl(port->epoll, EPOLL_CTL_ADD, port->worker.fd, &event), -1);
	assert_int_equal(errno, EEXIST);
}

static int lines;

static void count_line(enum snt_log_level level, const char *text, void *part)
{
	lines += level == SNT_LOG_WARN && strstr(text, part);
}

/* ---- connections -------------------------------------------------------------- */

static struct snti_port *marked_port(int class)
{
	struct snti_port_options with = options;
	struct snti_port *port;
	uint8_t byte = (uint8_t)class;

	with.traffic_class = class < 0 ? NULL : &byte;
	assert_int_equal(snti_port_open(&snti_ucx_transport, &with, &port), 0);
	return port;
}

static void turn(struct snti_port *const *ports, int count)
{
	for (int i = 0; i < count; i++)
		assert_true(ports[i]->ops->poll(ports[i]) >= 0);
}

/* Until none of them is BUSY. */
static void await(struct snti_port *const *ports, int count, const int *one, const int *other)
{
	uint64_t deadline = snti_deadline_ms(WAIT_MS);

	while (*one == SNT_BUSY || *other == SNT_BUSY) {
		assert_false(snti_is_past(deadline));
		turn(ports, count);
	}
}

/* Ports 0 and @other; conn[0] accepts. @late: after the other side's introduction has come. */
static void begin(struct snti_port *const *ports, int count, int other, int late, struct snti_conn *conn[2])
{
	struct snti_address address;
	uint64_t ident = (uint64_t)other;

	assert_int_equal(ports[0]->ops->address(ports[0], &address), 0);
	assert_int_equal(snti_conn_open(ports[other], NULL, &address, ident, 0, &conn[1]), 0);
	for (uint64_t until = snti_deadline_ms(50); late && !snti_is_past(until);)
		turn(ports, count);
	assert_int_equal(snti_conn_open(ports[0], &address, NULL, ident, other, &conn[0]), 0);
}

static void meet(struct snti_port *const *ports, int count, int other, int late, struct snti_conn *conn[2])
{
	begin(ports, count, other, late, conn);
	await(ports, count, &conn[0]->status, &conn[1]->status);
}

static void pass(struct snti_port *const *ports, int count, struct snti_conn *from, struct snti_conn *to, size_t size)
{
	static char bytes[2][LARGE];
	struct snti_xfer sent = { .data = bytes[0], .size = size, .lane = 3 }, got = { .data = bytes[1], .size = size, .lane = 3 };

	memset(bytes[0], (int)(size % 251), size);
	memset(bytes[1], 0, size);
	assert_int_equal(snti_recv(to, &got), 0);
	assert_int_equal(snti_send(from, &sent), 0);
	await(ports, count, &sent.status, &got.status);
	assert_int_equal(sent.status | got.status, 0);
	assert_memory_equal(bytes[0], bytes[1], size);
}

static void exchange(struct snti_port *const *ports, int count, struct snti_conn *const conn[2])
{
	static const size_t sizes[] = { 8, 5000, LARGE };

	assert_int_equal(conn[0]->status | conn[1]->status, 0);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		pass(ports, count, conn[0], conn[1], sizes[i]);
		pass(ports, count, conn[1], conn[0], sizes[i]);
	}
}

/* -1: not named. */
static void mark(int accepting, int connecting, int expect_accepting, int late)
{
	struct snti_port *ports[2] = { marked_port(accepting), marked_port(connecting) };
	struct snti_conn *conn[2];

	meet(ports, 2, 1, late, conn);
	expect_class(ports[0], expect_accepting);
	expect_class(ports[1], connecting);
	exchange(ports, 2, conn);
	for (int i = 0; i < 2; i++)
		snti_conn_close(conn[i]);
	for (int i = 0; i < 2; i++)
		snti_port_close(ports[i]);
}

/* What a side names itself comes first, then what the one that connects names. */
static void what_comes_back_is_marked_as_the_data(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		mark(-1, -1, -1, late);
		mark(-1, 104, 104, late);
		mark(-1, 3, 3, late);
		mark(-1, 0, 0, late);
		mark(184, 104, 184, late);
		mark(184, -1, 184, late);
	}
}

static void a_worker_in_use_keeps_its_class_and_that_is_said(void **state)
{
	struct snti_port *ports[3] = { marked_port(-1), marked_port(104), marked_port(184) };
	struct snti_conn *first[2], *second[2];

	(void)state;
	lines = 0;
	snt_log_to(count_line, "traffic class 184");
	meet(ports, 3, 1, 0, first);
	meet(ports, 3, 2, 0, second);
	snt_log_to(NULL, NULL);
	assert_int_equal(lines, 1);
	expect_class(ports[0], 104);
	exchange(ports, 3, first);
	exchange(ports, 3, second);
	for (int i = 0; i < 2; i++) {
		snti_conn_close(first[i]);
		snti_conn_close(second[i]);
	}
	for (int i = 0; i < 3; i++)
		snti_port_close(ports[i]);
}

/* The port is as it was, and the next connection may do better. */
static void without_a_worker_of_the_class_the_connection_fails(void **state)
{
	struct snti_port *ports[2] = { marked_port(-1), marked_port(104) };
	struct snti_conn *conn[2];

	(void)state;
	snt_log_to(count_line, "");
	fail_next = 1;
	begin(ports, 2, 1, 0, conn);
	await(ports, 2, &conn[0]->status, &conn[0]->status);
	assert_int_equal(conn[0]->status, SNT_EDEVICE);
	expect_class(ports[0], -1);
	snti_conn_close(conn[0]);
	await(ports, 2, &conn[1]->status, &conn[1]->status);
	assert_int_equal(conn[1]->status, SNT_EPEER);
	snti_conn_close(conn[1]);
	snt_log_to(NULL, NULL);
	meet(ports, 2, 1, 0, conn);
	expect_class(ports[0], 104);
	exchange(ports, 2, conn);
	for (int i = 0; i < 2; i++)
		snti_conn_close(conn[i]);
	for (int i = 0; i < 2; i++)
		snti_port_close(ports[i]);
}

static void that_tcp_is_not_marked_is_said_once(void **state)
{
	static const uint8_t class = 104;
	struct snti_port_options between = { .secret = options.secret, .device = "lo", .interface = "lo" };
	struct snti_port *port;

	(void)state;
	lines = 0;
	snt_log_to(count_line, "traffic class 104 has no effect");
	assert_int_equal(snti_port_open(&snti_ucx_transport, &between, &port), 0);
	snti_port_close(port);
	snti_port_close(marked_port(104));
	assert_int_equal(lines, 0);
	between.traffic_class = &class;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(snti_port_open(&snti_ucx_transport, &between, &port), 0);
		snti_port_close(port);
	}
	snt_log_to(NULL, NULL);
	assert_int_equal(lines, 1);
}

int main(void)
{
	static char tcp[] = "tcp,self", shared[] = "posix,self";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate_setup_teardown(what_comes_back_is_marked_as_the_data, setup, teardown, tcp),
		cmocka_unit_test_prestate_setup_teardown(what_comes_back_is_marked_as_the_data, setup, teardown, shared),
		cmocka_unit_test_prestate_setup_teardown(a_worker_in_use_keeps_its_class_and_that_is_said, setup, teardown, tcp),
		cmocka_unit_test_prestate_setup_teardown(without_a_worker_of_the_class_the_connection_fails, setup, teardown, shared),
		cmocka_unit_test_prestate_setup_teardown(that_tcp_is_not_marked_is_said_once, setup, teardown, tcp),
	};
	char text[200];

	if (getenv("NO_UCX") || snti_ucx_transport.library(text, sizeof text)) {
		printf("skipped: %s\n", getenv("NO_UCX") ? "NO_UCX is set" : text);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
