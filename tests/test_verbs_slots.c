/* SPDX-License-Identifier: BSD-3-Clause */
/* test_verbs_slots.c - on the mock: requests in the slots of the sender's memory, from peers that lie and ones that change their mind. */
#include <arpa/inet.h>

#include "tests/conformance_parts.h"
#include "tests/mock_verbs/find.h"
#include "transport/verbs.h"

enum { LARGE = 3 << 20, NOBODY = VERBS_WORKS };

static struct mock_script *script;
static void (*reset)(void);

static int fresh(void **state)
{
	reset();
	return setup(state);
}

static int done_with(void **state)
{
	teardown(state);
	assert_int_equal(script->mrs + script->pds + script->qps + (int)script->locked, 0);
	assert_int_equal(script->rnr + script->overruns, 0);
	return 0;
}

static struct verbs_conn *conn(struct pair *p, int side)
{
	return (struct verbs_conn *)p->conn[side];
}

static uint64_t slot_of_peer(struct pair *p, unsigned slot)
{
	return (uintptr_t)conn(p, 1)->rails->slots + slot * VERBS_SLOT_BYTES;
}

/* What side 0 writes with an immediate on the queue pair of its frames. */
static void put(struct pair *p, uint64_t at, uint32_t key, uint32_t immediate, const void *bytes, uint32_t size)
{
	struct ibv_sge sge = { .addr = (uintptr_t)bytes, .length = size };
	struct ibv_send_wr *bad, wr = { .wr_id = NOBODY, .sg_list = &sge, .num_sge = size > 0, .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE, .imm_data = htonl(immediate), .wr.rdma = { at, key } };

	assert_int_equal(ibv_post_send(conn(p, 0)->rails->frames, &wr, &bad), 0);
}

/* A request that makes sense, for a message of 100 kB on lane 9. */
static struct verbs_message sensible(uint32_t immediate)
{
	return (struct verbs_message){ .frame = { .type = VERBS_REQUEST, .flags = VERBS_FIRST, .lane = 9, .size = 100000, .number = VERBS_NONE },
		.request = { .message = 7, .address = 4096, .length = 65536, .immediate = immediate, .parts = 1 } };
}

static void ask(struct pair *p, unsigned slot, uint32_t immediate, struct verbs_message message)
{
	verbs_frame_swap(&message.frame);
	verbs_request_swap(&message.request);
	put(p, slot_of_peer(p, slot), conn(p, 1)->rails->slots_mr->rkey, immediate, &message, sizeof(message));
}

static uint32_t immediate_of(unsigned slot, uint32_t generation)
{
	return slot | generation << 8;
}

static void goes_well(struct pair *p)
{
	for (int i = 0; i < 20; i++)
		turn(p);
	assert_int_equal(p->conn[1]->status, 0);
}

static void ends_with(struct pair *p, const char *text)
{
	until(p, p->conn[1]->status < 0);
	assert_int_equal(p->conn[1]->status, SNT_EPROTOCOL);
	expect_text(text);
	until(p, p->conn[0]->status < 0);
	assert_int_equal(p->conn[0]->status, SNT_EPEER);
}

/* ---- forged ------------------------------------------------------------- */

static void a_slot_that_there_is_not_ends_the_connection(void **state)
{
	struct pair *p = *state;

	talk(p, LARGE);
	ask(p, 0, immediate_of(VERBS_SLOTS, 1), sensible(immediate_of(VERBS_SLOTS, 1)));
	ends_with(p, "a slot that there is not");
}

/* The same again, although it would make sense. */
static void a_stale_slot_ends_the_connection(void **state)
{
	struct pair *p = *state;

	ask(p, 5, immediate_of(5, 1), sensible(immediate_of(5, 1)));
	goes_well(p);
	ask(p, 5, immediate_of(5, 1), sensible(immediate_of(5, 1)));
	ends_with(p, "not the slot's next");
}

static void a_generation_from_the_future_ends_the_connection(void **state)
{
	struct pair *p = *state;

	ask(p, 5, immediate_of(5, 2), sensible(immediate_of(5, 2)));
	ends_with(p, "not the slot's next");
}

/* What stands there is from before: only the immediate is new. */
static void a_slot_that_was_not_written_ends_the_connection(void **state)
{
	struct pair *p = *state;

	talk(p, LARGE);
	put(p, 0, 0, immediate_of(0, 2), NULL, 0);
	ends_with(p, "not in its slot");
}

static void a_slot_that_another_is_named_for_ends_the_connection(void **state)
{
	struct pair *p = *state;

	ask(p, 6, immediate_of(5, 1), sensible(immediate_of(5, 1)));
	ends_with(p, "not in its slot");
}

static void a_slot_with_something_else_ends_the_connection(void **state)
{
	struct pair *p = *state;
	struct verbs_message message = sensible(immediate_of(5, 1));

	message.frame.type = VERBS_ANNOUNCE;
	ask(p, 5, immediate_of(5, 1), message);
	ends_with(p, "not in its slot");
}

static void a_request_that_is_sent_ends_the_connection(void **state)
{
	struct pair *p = *state;
	struct verbs_message message = sensible(immediate_of(5, 1));
	struct ibv_sge sge = { .addr = (uintptr_t)&message, .length = sizeof(message) };
	struct ibv_send_wr *bad, wr = { .wr_id = NOBODY, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE };

	verbs_frame_swap(&message.frame);
	verbs_request_swap(&message.request);
	assert_int_equal(ibv_post_send(conn(p, 0)->rails->frames, &wr, &bad), 0);
	ends_with(p, "a frame of no known type");
}

/* A short header promises what comes, and only a small message may have it. */
static void a_short_header_is_checked(void **state)
{
	static const struct { uint8_t type; uint32_t size; const char *text; } wrong[] = {
		{ VERBS_EAGER, 23, "too short" }, { VERBS_EAGER, 1, "too short" }, { VERBS_ANNOUNCE, 55, "too short" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct verbs_frame frame = { .type = wrong[i].type, .flags = VERBS_SHORT, .lane = 3 };
		struct ibv_sge sge = { .addr = (uintptr_t)&frame, .length = wrong[i].size };
		struct ibv_send_wr *bad, wr = { .wr_id = NOBODY, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND,
			.send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE };
		void *pair;

		fresh(&pair);
		verbs_frame_swap(&frame);
		assert_int_equal(ibv_post_send(conn(pair, 0)->rails->frames, &wr, &bad), 0);
		ends_with(pair, wrong[i].text);
		done_with(&pair);
	}
}

/* ---- out of range ------------------------------------------------------- */

static void what_a_slot_says_is_checked(void **state)
{
	static const struct { size_t at; uint64_t value; const char *text; } wrong[] = {
		{ offsetof(struct verbs_message, request.length), 100001, "makes no sense" },
		{ offsetof(struct verbs_message, request.length), UINT64_MAX, "makes no sense" },
		{ offsetof(struct verbs_message, request.offset), 34465, "makes no sense" },
		{ offsetof(struct verbs_message, request.offset), UINT64_MAX, "makes no sense" },
		{ offsetof(struct verbs_message, frame.requests), 1000, "more requests than it got" },
		{ offsetof(struct verbs_message, frame.number), 3, "what was not announced" },
	};

	(void)state;
	for (size_t i = 0; i < 3 + sizeof(wrong) / sizeof(*wrong); i++) {
		struct verbs_message message = sensible(immediate_of(5, 1));
		const char *text = "makes no sense";
		void *pair;

		fresh(&pair);
		if (i == 0)
			message.request.parts = 0;
		else if (i == 1)
			message.request.parts = 3;      /* a part for each of two queue pairs */
		else if (i == 2)
			message.request.qp = 2;
		else {
			memcpy((char *)&message + wrong[i - 3].at, &wrong[i - 3].value, 8);
			text = wrong[i - 3].text;
		}
		ask(pair, 5, immediate_of(5, 1), message);
		ends_with(pair, text);
		done_with(&pair);
	}
}

/* The device refuses it; nothing is written, and both sides hear of it. */
static void refused(struct pair *p, uint64_t at, uint32_t key, const char *memory)
{
	static const char bytes[VERBS_SLOT_BYTES] = "what must not be anywhere";
	char before = *memory;

	put(p, at, key, immediate_of(5, 1), bytes, sizeof(bytes));
	until(p, p->conn[1]->status < 0 && p->conn[0]->status < 0);
	assert_int_equal(*memory, before);
	assert_true(script->frame_reach <= VERBS_SLOTS * VERBS_SLOT_BYTES);
}

static void nothing_is_written_behind_the_slots(void **state)
{
	struct pair *p = *state;

	talk(p, LARGE);
	refused(p, slot_of_peer(p, VERBS_SLOTS) - 64, conn(p, 1)->rails->slots_mr->rkey, conn(p, 1)->rails->slots + VERBS_SLOTS * VERBS_SLOT_BYTES - 64);
}

/* With the right key, which the peer has got to write data there: not over this queue pair. */
static void requests_are_not_written_where_data_is(void **state)
{
	struct pair *p = *state;
	const struct verbs_blocks *landing = &((struct verbs_port *)p->port[1])->landing;

	refused(p, (uintptr_t)landing->base, landing->mr->rkey, landing->base);
}

/* ---- given up ----------------------------------------------------------- */

/* A receive that has asked meets a message of another size. What it has written stays until the sender has read it, although the
 * slots are wanted; then they are free again. */
static void a_slot_is_not_written_again_before_it_was_read(void **state)
{
	struct pair *p = *state;
	struct verbs_conn *asks = conn(p, 0), *reads = conn(p, 1);
	unsigned char *out = filled(LARGE, 1), *in = malloc(LARGE);
	struct snti_xfer other = message(out, 200000, 1), wrong = message(in, 100000, 1), early = message(in, LARGE, 2);
	char before[VERBS_SLOTS * VERBS_SLOT_BYTES];

	do_recv(p, 0, &wrong);
	memcpy(before, reads->rails->slots, sizeof(before));
	do_send(p, 1, &other);
	while (wrong.status == SNT_BUSY)
		wire->poll(p->port[0]);
	assert_int_equal(wrong.status, SNT_EMISMATCH);
	assert_int_equal(asks->slots_held, 2);          /* a block each */
	assert_int_equal(asks->slots_open, 2);
	do_recv(p, 0, &early);
	wire->poll(p->port[0]);
	assert_memory_equal(before, reads->rails->slots, 2 * VERBS_SLOT_BYTES);
	assert_memory_not_equal(before, reads->rails->slots, sizeof(before));
	until(p, other.status != SNT_BUSY);
	assert_int_equal(other.status, SNT_EMISMATCH);
	other = message(out, LARGE, 2);
	do_send(p, 1, &other);
	done(p, &other);
	done(p, &early);
	assert_filled(in, LARGE, 1);
	assert_int_equal(asks->slots_held + asks->slots_open, 0);
	free(out);
	free(in);
}

int main(void)
{
#define paired(test) cmocka_unit_test_setup_teardown(test, fresh, done_with)
	const struct CMUnitTest tests[] = {
		paired(a_slot_that_there_is_not_ends_the_connection),
		paired(a_stale_slot_ends_the_connection),
		paired(a_generation_from_the_future_ends_the_connection),
		paired(a_slot_that_was_not_written_ends_the_connection),
		paired(a_slot_that_another_is_named_for_ends_the_connection),
		paired(a_slot_with_something_else_ends_the_connection),
		paired(a_request_that_is_sent_ends_the_connection),
		cmocka_unit_test(a_short_header_is_checked),
		cmocka_unit_test(what_a_slot_says_is_checked),
		paired(nothing_is_written_behind_the_slots),
		paired(requests_are_not_written_where_data_is),
		paired(a_slot_is_not_written_again_before_it_was_read),
	};

	setenv("SNT_LOG", "0", 0);
	wire = &snti_verbs_transport;
	script = mock_find(&reset);
	return script ? cmocka_run_group_tests_name("verbs slots", tests, NULL, NULL) : 1;
}
