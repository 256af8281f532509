/* SPDX-License-Identifier: BSD-3-Clause */
/* test_tcp_connect.c - a peer that cannot be reached: tried again for a while, then the failure says why. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "transport/transport.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refusal_is_tried_again_and_then_named),
	};

	setenv("SNT_LOG", "0", 0);   /* the failure is meant */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
