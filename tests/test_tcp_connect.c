/* SPDX-License-Identifier: BSD-3-Clause */
/* test_tcp_connect.c - a peer that cannot be reached is tried again for a while, then the failure says why;
 * what is set on its sockets, and when epoll listens to them. */
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/settings.h"
#include "collectives/team.h"
#include "transport/tcp.h"

enum { AGAIN_AFTER_MS = 1000, SOON_MS = 6000 };

static const struct snti_port_options options = { .secret = (const unsigned char *)"the secret of this little program", .local_only = 1 };

/* An address at which nobody listens any more. */
static struct snti_address address_of_nobody(void)
{
	struct snti_address address;
	struct snti_port *port;

	assert_int_equal(snti_port_open(&snti_tcp_transport, &options, &port), 0);
	assert_int_equal(port->ops->address(port, &address), 0);
	snti_port_close(port);
	return address;
}

static void a_refusal_is_tried_again_and_then_named(void **state)
{
	struct snti_address address = address_of_nobody();
	uint64_t start = snti_now_ns(), deadline = snti_deadline_ms(SOON_MS);
	struct snti_port *port;
	struct snti_conn *conn;
	uint64_t took_ms;

	(void)state;
	assert_int_equal(snti_port_open(&snti_tcp_transport, &options, &port), 0);
	assert_int_equal(snti_conn_open(port, NULL, &address, 7, 3, &conn), 0);
	while (conn->status == SNT_BUSY && !snti_is_past(deadline)) {
		assert_true(port->ops->poll(port) >= 0);
		poll(NULL, 0, 1);
	}
	took_ms = (snti_now_ns() - start) / 1000000;
	assert_int_equal(conn->status, SNT_EPEER);
	assert_non_null(strstr(snt_error_text(), "rank 3"));
	assert_non_null(strstr(snt_error_text(), strerror(ECONNREFUSED)));
	assert_true(took_ms >= AGAIN_AFTER_MS);
	snti_conn_close(conn);
	snti_port_close(port);
}

static int user_timeout(const struct snti_conn *conn)
{
	int ms = -1;
	socklen_t size = sizeof(ms);

	assert_int_equal(getsockopt(((const struct tcp_conn *)conn)->sockets[0].fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &size), 0);
	return ms;
}

/* Two ports on loopback and the conn between them. Side 0 accepts. */
static void make_unlike_pair(const struct snti_port_options with[2], struct snti_port *port[2], struct snti_conn *conn[2])
{
	struct snti_address address;
	uint64_t deadline = snti_deadline_ms(SOON_MS);

	for (int i = 0; i < 2; i++)
		assert_int_equal(snti_port_open(&snti_tcp_transport, &with[i], &port[i]), 0);
	assert_int_equal(port[0]->ops->address(port[0], &address), 0);
	assert_int_equal(snti_conn_open(port[0], &address, NULL, 7, 1, &conn[0]), 0);
	assert_int_equal(snti_conn_open(port[1], NULL, &address, 7, 0, &conn[1]), 0);
	while ((conn[0]->status == SNT_BUSY || conn[1]->status == SNT_BUSY) && !snti_is_past(deadline))
		for (int i = 0; i < 2; i++)
			assert_true(port[i]->ops->poll(port[i]) >= 0);
	assert_int_equal(conn[0]->status | conn[1]->status, 0);
}

static void make_pair(const struct snti_port_options *with, struct snti_port *port[2], struct snti_conn *conn[2])
{
	make_unlike_pair((struct snti_port_options[]){ *with, *with }, port, conn);
}

static void end_pair(struct snti_port *port[2], struct snti_conn *conn[2])
{
	for (int i = 0; i < 2; i++)
		snti_conn_close(conn[i]);
	for (int i = 0; i < 2; i++)
		snti_port_close(port[i]);
}

/* A team may wait for longer than SNT_TIMEOUT, and its sockets are not to end before it. */
static void sockets_are_as_patient_as_the_port(void **state)
{
	struct snti_port_options patient = options;
	struct snti_port *port[2];
	struct snti_conn *conn[2];

	(void)state;
	patient.timeout_ms = 12345678;
	make_pair(&patient, port, conn);
	for (int i = 0; i < 2; i++)
		assert_int_equal(user_timeout(conn[i]), 12345678);
	end_pair(port, conn);
}

/* Whatever the system's choice is. */
static void sockets_within_the_host_do_not_pace(void **state)
{
	struct snti_port *port[2];
	struct snti_conn *conn[2];

	(void)state;
	make_pair(&options, port, conn);
	for (int i = 0; i < 2; i++) {
		char name[16] = "";
		socklen_t size = sizeof(name) - 1;
		int fd = ((struct tcp_conn *)conn[i])->sockets[0].fd;

		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &size), 0);
		assert_string_equal(name, "reno");
	}
	end_pair(port, conn);
}

static void turn(struct snti_port *port[2], int times)
{
	for (int i = 0; i < times; i++)
		for (int side = 0; side < 2; side++)
			assert_true(port[side]->ops->poll(port[side]) >= 0);
}

static struct snti_xfer message(char *bytes)
{
	return (struct snti_xfer){ .data = bytes, .size = 8, .lane = 1 };
}

/* Who spins reads by itself what nobody waits for; who sleeps is woken again. */
static void epoll_listens_for_sleepers_alone(void **state)
{
	char bytes[2][9] = { "abcdefgh", "" };
	struct snti_xfer sent = message(bytes[0]), again = message(bytes[0]), got = message(bytes[1]);
	struct snti_port *port[2];
	struct snti_conn *conn[2];
	struct pollfd wake;

	(void)state;
	make_pair(&options, port, conn);
	turn(port, 1000);
	assert_int_equal(((struct tcp_conn *)conn[1])->sockets[0].interest, 0);
	assert_int_equal(snti_send(conn[0], &sent), 0);
	turn(port, 1000);
	assert_int_equal(snti_recv(conn[1], &got), 0);
	assert_int_equal(got.status, 0);
	assert_string_equal(bytes[1], "abcdefgh");

	wake = (struct pollfd){ .fd = port[1]->wake_fd, .events = POLLIN };
	assert_int_equal(port[1]->ops->arm(port[1]), 0);
	assert_int_equal(poll(&wake, 1, 0), 0);
	assert_int_equal(snti_send(conn[0], &again), 0);
	assert_int_equal(poll(&wake, 1, SOON_MS), 1);
	turn(port, 1000);
	snti_conn_close(conn[0]);
	conn[0] = NULL;
	turn(port, 1000);
	assert_int_equal(((struct tcp_conn *)conn[1])->over, 1);
	end_pair(port, conn);
}

/* Sockets get ready one by one, and the first may have data before there is memory to read it to. */
static void who_spins_waits_until_a_conn_is_up(void **state)
{
	char bytes[2][9] = { "abcdefgh", "" };
	struct snti_xfer sent = message(bytes[0]), got = message(bytes[1]);
	struct snti_port *port[2];
	struct snti_conn *conn[2];
	struct tcp_conn *late;
	char *in;

	(void)state;
	make_pair(&options, port, conn);
	turn(port, 1000);
	late = (struct tcp_conn *)conn[0];
	in = late->sockets[0].in;
	late->sockets[0].in = NULL;
	conn[0]->status = SNT_BUSY;
	assert_int_equal(snti_send(conn[1], &sent), 0);
	turn(port, 1000);
	assert_int_equal(conn[0]->status, SNT_BUSY);
	late->sockets[0].in = in;
	conn[0]->status = 0;
	turn(port, 1000);
	assert_int_equal(snti_recv(conn[0], &got), 0);
	assert_int_equal(got.status, 0);
	assert_string_equal(bytes[1], "abcdefgh");
	end_pair(port, conn);
}

static void expect_class(const struct snti_conn *conn, int class)
{
	const struct tcp_conn *tcp = (const struct tcp_conn *)conn;
	int is = -1;
	socklen_t size = sizeof(is);

	assert_true(tcp->socket_count >= 1);
	for (unsigned i = 0; i < tcp->socket_count; i++) {
		assert_int_equal(getsockopt(tcp->sockets[i].fd, IPPROTO_IP, IP_TOS, &is, &size), 0);
		assert_int_equal(is, class);
	}
}

/* -1: not named. */
static void mark(int accepting, int connecting, int expect_accepting, int expect_connecting)
{
	uint8_t class[2] = { (uint8_t)accepting, (uint8_t)connecting };
	struct snti_port_options with[2] = { options, options };
	struct snti_port *port[2];
	struct snti_conn *conn[2];

	with[0].traffic_class = accepting < 0 ? NULL : &class[0];
	with[1].traffic_class = connecting < 0 ? NULL : &class[1];
	make_unlike_pair(with, port, conn);
	expect_class(conn[0], expect_accepting);
	expect_class(conn[1], expect_connecting);
	end_pair(port, conn);
}

/* What a side names itself comes first, then what the one that connects names, then the settings. */
static void acknowledgements_are_marked_as_the_data(void **state)
{
	struct snti_settings *settings = (struct snti_settings *)(uintptr_t)snti_settings();

	(void)state;
	mark(-1, -1, 0, 0);
	mark(-1, 104, 104, 104);
	mark(184, 104, 184, 104);
	settings->tcp_class = 32;
	mark(-1, -1, 32, 32);
	mark(-1, 104, 104, 104);
	mark(-1, 0, 0, 0);
	mark(184, -1, 184, 32);
	settings->tcp_class = 0;
}

static void a_port_is_as_patient_as_its_team(void **state)
{
	struct snt_team_options one = SNT_TEAM_OPTIONS;
	struct snt_team *team;

	(void)state;
	one.ranks = 1;
	one.transports = "tcp";
	one.timeout_ms = 12345678;
	assert_int_equal(snt_team_create(&one, &team), 0);
	/* Before it come rails, which one host does not open. */
	assert_int_equal(((struct tcp_port *)team->ports[team->preferred[1]])->timeout_ms, 12345678);
	snt_team_destroy(team);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refusal_is_tried_again_and_then_named),
		cmocka_unit_test(sockets_are_as_patient_as_the_port),
		cmocka_unit_test(sockets_within_the_host_do_not_pace),
		cmocka_unit_test(epoll_listens_for_sleepers_alone),
		cmocka_unit_test(who_spins_waits_until_a_conn_is_up),
		cmocka_unit_test(acknowledgements_are_marked_as_the_data),
		cmocka_unit_test(a_port_is_as_patient_as_its_team),
	};

	setenv("SNT_LOG", "0", 0);   /* the failure is meant */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
