/* SPDX-License-Identifier: BSD-3-Clause */
/* conformance_parts.h - what the files of the conformance tests share: a pair of ports and messages between them. */
#ifndef TESTS_CONFORMANCE_PARTS_H
#define TESTS_CONFORMANCE_PARTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "transport/transport.h"

#define CONFORMANCE_WAIT_MS conformance_wait_ms()
#define BEYOND ((size_t)32 << 20)  /* bytes of a message that no transport takes before there is a receive for it */

/* Two ports and one conn between them: side 0 accepts, side 1 connects. */
struct pair {
	struct snti_port *port[2];
	struct snti_conn *conn[2];
};

extern const struct snti_transport *wire;       /* the one being tested */
extern uint64_t seed;

int turn(struct pair *p);                       /* polls both once; how much happened */
void open_ports(struct pair *p);
void begin(struct pair *p, int first, uint64_t ident, int polls_between);
int is_up(struct pair *p);
void shut(struct pair *p);
int setup(void **state);
int teardown(void **state);

uint64_t next_random(void);
void fill(unsigned char *bytes, size_t size, uint64_t salt);
unsigned char *filled(size_t size, uint64_t salt);
void assert_filled(const unsigned char *bytes, size_t size, uint64_t salt);
struct snti_xfer message(void *data, size_t size, uint64_t lane);
void do_send(struct pair *p, int side, struct snti_xfer *xfer);
void do_recv(struct pair *p, int side, struct snti_xfer *xfer);
void done(struct pair *p, struct snti_xfer *xfer);
void talk(struct pair *p, size_t size);         /* a message of so many bytes each way */
void expect_text(const char *what);             /* is part of the last error's */

uint64_t conformance_wait_ms(void);     /* longer where machines are emulated: the variable CONFORMANCE_WAIT_MS */

#define until(p, condition) \
	do { \
		uint64_t deadline_ = snti_deadline_ms(CONFORMANCE_WAIT_MS); \
		/* The condition may do something: it is looked at once a turn. */ \
		while (!(condition)) { \
			assert_false(snti_is_past(deadline_)); \
			turn(p); \
		} \
	} while (0)

/* conformance_failures.c */
void another_size_fails_both_sides(void **state);
void another_fingerprint_fails_both_sides(void **state);
void hang_up_cancels_what_is_pending(void **state);
void peer_that_hangs_up_fails_what_is_pending(void **state);
void what_send_completed_arrives_after_hang_up(void **state);
void an_unasked_message_arrives_after_hang_up(void **state);
void large_send_arrives_after_hang_up(void **state);
void nothing_takes_the_place_of_a_lost_message(void **state);
void what_a_sender_abandoned_is_never_taken_for_a_message(void **state);
void closing_half_open_conns_leaks_nothing(void **state);
void armed_port_wakes_on_arrival(void **state);
void sleeping_moves_a_large_message(void **state);
void garbage_address_is_refused(void **state);
void shared_memory_is_a_source(void **state);
/* conformance_lent.c */
void a_lent_message_stays_where_it_is_until_it_is_given_back(void **state);
void private_memory_is_not_lent(void **state);
void a_sender_that_hangs_up_takes_back_what_it_lent(void **state);

#endif
