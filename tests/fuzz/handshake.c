/* SPDX-License-Identifier: BSD-3-Clause */
/* handshake.c - fuzzes both sides of the handshake: bytes nobody proved must never get through. */
#include <stdlib.h>
#include <string.h>

#include "transport/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned char secret[SNTI_SECRET_BYTES] = { 1, 2, 3 };
	const struct snti_want want = { .kind = 1 };
	unsigned char in[SNTI_HELLO_BYTES + SNTI_PROOF_BYTES + SNTI_ANSWER_BYTES] = { 0 }, out[SNTI_HELLO_BYTES];
	struct snti_handshake server, client;

	memcpy(in, data, size < sizeof(in) ? size : sizeof(in));
	if (snti_hello_read(&server, secret, in) == 0) {
		if (snti_proof_write(&server, out) != 0 ||
		    snti_answer_read(&server, in + SNTI_HELLO_BYTES + SNTI_PROOF_BYTES) == 0)
			abort();
	}
	if (snti_hello_write(&client, secret, &want, out) != 0 || snti_proof_read(&client, in + SNTI_HELLO_BYTES) == 0)
		abort();
	return 0;
}
