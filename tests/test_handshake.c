/* SPDX-License-Identifier: BSD-3-Clause */
/* test_handshake.c - who knows the secret gets through; every flipped bit, replay and reflection does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "include/sennit.h"
#include "transport/handshake.h"

struct talk {
	struct snti_handshake client, server;
	unsigned char hello[SNTI_HELLO_BYTES], proof[SNTI_PROOF_BYTES], answer[SNTI_ANSWER_BYTES];
};

static const unsigned char secret[SNTI_SECRET_BYTES] = "a secret of thirty-two bytes...";
static const struct snti_want want = { .kind = 2, .number = 7, .ident = 0x1122334455667788ULL, .ticket = 99 };

static void talk_all(struct talk *talk)
{
	assert_int_equal(snti_hello_write(&talk->client, secret, &want, talk->hello), 0);
	assert_int_equal(snti_hello_read(&talk->server, secret, talk->hello), 0);
	assert_int_equal(snti_proof_write(&talk->server, talk->proof), 0);
	assert_int_equal(snti_proof_read(&talk->client, talk->proof), 0);
	assert_int_equal(snti_answer_write(&talk->client, talk->answer), 0);
	assert_int_equal(snti_answer_read(&talk->server, talk->answer), 0);
}

static void test_good(void **state)
{
	struct talk talk;

	(void)state;
	talk_all(&talk);
	assert_int_equal(talk.server.want.kind, want.kind);
	assert_int_equal(talk.server.want.number, want.number);
	assert_true(talk.server.want.ident == want.ident);
	assert_true(talk.server.want.ticket == want.ticket);
}

static void test_wrong_secret(void **state)
{
	unsigned char other[SNTI_SECRET_BYTES];
	struct talk talk;

	(void)state;
	memcpy(other, secret, sizeof(other));
	other[31] ^= 1;
	assert_int_equal(snti_hello_write(&talk.client, other, &want, talk.hello), 0);
	assert_int_equal(snti_hello_read(&talk.server, secret, talk.hello), 0);
	assert_int_equal(snti_proof_write(&talk.server, talk.proof), 0);
	assert_int_equal(snti_proof_read(&talk.client, talk.proof), SNT_EREFUSED);
	assert_int_equal(snti_answer_write(&talk.client, talk.answer), 0);
	assert_int_equal(snti_answer_read(&talk.server, talk.answer), SNT_EREFUSED);
}

/* Every bit of every message counts: a flipped one stops the handshake at the latest at the answer. */
static void test_every_bit_counts(void **state)
{
	(void)state;
	for (int bit = 0; bit < 8 * SNTI_HELLO_BYTES; bit++) {
		struct talk talk;

		assert_int_equal(snti_hello_write(&talk.client, secret, &want, talk.hello), 0);
		talk.hello[bit / 8] ^= (unsigned char)(1 << bit % 8);
		if (snti_hello_read(&talk.server, secret, talk.hello) != 0)
			continue;
		assert_int_equal(snti_proof_write(&talk.server, talk.proof), 0);
		assert_int_equal(snti_proof_read(&talk.client, talk.proof), SNT_EREFUSED);
		assert_int_equal(snti_answer_write(&talk.client, talk.answer), 0);
		assert_int_equal(snti_answer_read(&talk.server, talk.answer), SNT_EREFUSED);
	}
	for (int bit = 0; bit < 8 * SNTI_PROOF_BYTES; bit++) {
		struct talk talk;

		talk_all(&talk);
		talk.proof[bit / 8] ^= (unsigned char)(1 << bit % 8);
		assert_int_equal(snti_proof_read(&talk.client, talk.proof), SNT_EREFUSED);
		talk.answer[bit / 8 % SNTI_ANSWER_BYTES] ^= (unsigned char)(1 << bit % 8);
		assert_int_equal(snti_answer_read(&talk.server, talk.answer), SNT_EREFUSED);
	}
}

static void test_versions(void **state)
{
	struct talk talk;

	(void)state;
	assert_int_equal(snti_hello_write(&talk.client, secret, &want, talk.hello), 0);
	talk.hello[8] = 9;
	assert_int_equal(snti_hello_read(&talk.server, secret, talk.hello), SNT_EUNSUPPORTED);
	talk.hello[0] = 'G';
	assert_int_equal(snti_hello_read(&talk.server, secret, talk.hello), SNT_EPROTOCOL);
}

/* A recorded answer does not fit a new server nonce; a proof sent back is no answer. */
static void test_replay_and_reflection(void **state)
{
	struct talk talk;

	(void)state;
	talk_all(&talk);
	assert_int_equal(snti_answer_read(&talk.server, talk.proof + SNTI_NONCE_BYTES), SNT_EREFUSED);
	assert_int_equal(snti_hello_read(&talk.server, secret, talk.hello), 0);
	assert_int_equal(snti_proof_write(&talk.server, talk.proof), 0);
	assert_int_equal(snti_answer_read(&talk.server, talk.answer), SNT_EREFUSED);
}

static void test_derive(void **state)
{
	unsigned char one[SNTI_SECRET_BYTES], two[SNTI_SECRET_BYTES];

	(void)state;
	assert_int_equal(snti_derive(secret, "one", one), 0);
	assert_int_equal(snti_derive(secret, "two", two), 0);
	assert_memory_not_equal(one, two, sizeof(one));
	assert_int_equal(snti_derive(secret, "one", two), 0);
	assert_memory_equal(one, two, sizeof(one));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good), cmocka_unit_test(test_wrong_secret), cmocka_unit_test(test_every_bit_counts),
		cmocka_unit_test(test_versions), cmocka_unit_test(test_replay_and_reflection), cmocka_unit_test(test_derive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
