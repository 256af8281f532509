/* SPDX-License-Identifier: BSD-3-Clause */
/* conformance_lent.c - messages that stay in their sender's memory, and answers written there. */
#include "tests/conformance_parts.h"

#include "transport/shared.h"

enum { SIZE = 100000 };

/* One message in memory of snt_alloc, with room for an answer, and who borrows it. */
struct loan {
	unsigned char *data, *room;
	struct snti_xfer send, taken;
};

static void lend(struct pair *p, struct loan *loan)
{
	if (!wire->borrow)
		skip();
	assert_true(wire->write && wire->give_back);
	loan->data = snt_alloc(SIZE);
	loan->room = snt_alloc(SIZE);
	assert_true(loan->data && loan->room);
	fill(loan->data, SIZE, 3);
	memset(loan->room, 0, SIZE);
	loan->send = message(loan->data, SIZE, 1);
	loan->send.memory = snti_shared_find(loan->data, SIZE);
	loan->send.room = loan->room;
	loan->send.room_memory = snti_shared_find(loan->room, SIZE);
	loan->send.answer = 7;
	loan->taken = message(NULL, SIZE, 1);
	assert_int_equal(wire->borrow(p->conn[1], &loan->taken), SNTI_AGAIN);
	do_send(p, 0, &loan->send);
	until(p, wire->borrow(p->conn[1], &loan->taken) == 0);
	assert_filled((const unsigned char *)loan->taken.lent, SIZE, 3);
	assert_non_null(loan->taken.room);
	assert_int_equal(loan->taken.answer, 7);
}

static void end(struct loan *loan)
{
	snt_free(loan->data);
	snt_free(loan->room);
}

static void answer(struct pair *p, struct loan *loan, uint64_t salt)
{
	unsigned char *bytes = filled(SIZE, salt);

	assert_int_equal(wire->write(p->conn[1], 1), 0);
	snti_stream(loan->taken.room, bytes, SIZE);
	assert_int_equal(wire->write(p->conn[1], 0), 0);
	free(bytes);
}

void a_lent_message_stays_where_it_is_until_it_is_given_back(void **state)
{
	struct pair *p = *state;
	struct loan loan;

	for (int answered = 0; answered < 2; answered++) {
		lend(p, &loan);
		for (int i = 0; i < 100; i++)
			turn(p);
		assert_int_equal(loan.send.status, SNT_BUSY);
		if (answered)
			answer(p, &loan, 4);
		assert_int_equal(wire->give_back(p->conn[1], &loan.taken, answered), 0);
		done(p, &loan.send);
		assert_int_equal(loan.send.answered, answered);
		if (answered)
			assert_filled(loan.room, SIZE, 4);
		talk(p, 1000);
		end(&loan);
	}
}

/* What is not lent is received as ever, whatever was asked before; so is what does not fit. */
void private_memory_is_not_lent(void **state)
{
	struct pair *p = *state;
	struct snti_xfer send, taken;
	unsigned char *bytes, *to;

	if (!wire->borrow)
		skip();
	bytes = filled(SIZE, 5);
	to = calloc(1, SIZE);
	send = message(bytes, SIZE, 1);
	taken = message(to, SIZE, 1);
	do_send(p, 0, &send);
	until(p, wire->borrow(p->conn[1], &taken) == SNTI_UNLENT);
	assert_int_equal(wire->borrow(p->conn[1], &taken), SNTI_UNLENT);
	do_recv(p, 1, &taken);
	done(p, &send);
	done(p, &taken);
	assert_filled(to, SIZE, 5);
	free(bytes);
	free(to);
}

void a_sender_that_hangs_up_takes_back_what_it_lent(void **state)
{
	struct pair *p = *state;
	struct loan loan;

	lend(p, &loan);
	snti_conn_close(p->conn[0]);
	p->conn[0] = NULL;
	assert_int_equal(loan.send.status, SNT_ECANCELED);
	assert_true(wire->write(p->conn[1], 1) < 0);
	assert_true(wire->give_back(p->conn[1], &loan.taken, 1) < 0);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(loan.room[i], 0);
	end(&loan);
}
