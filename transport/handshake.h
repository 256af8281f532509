/* SPDX-License-Identifier: BSD-3-Clause */
/* handshake.h - two sides prove to each other that they know the job's secret.
 *
 * No input or output here: bytes in, bytes out, so that tests and fuzzers drive it.
 * The client speaks first. HELLO (client nonce, what it wants), PROOF (server nonce,
 * server's HMAC-SHA256 over both nonces and the want), ANSWER (client's HMAC). Every message
 * has a fixed size, is checked whole, and nothing else is read before.
 */
#ifndef TRANSPORT_HANDSHAKE_H
#define TRANSPORT_HANDSHAKE_H

#include <stddef.h>
#include <stdint.h>

#define SNTI_SECRET_BYTES 32
#define SNTI_NONCE_BYTES 16
#define SNTI_HELLO_BYTES 64      /* magic, version, kind, ident, ticket, nonce, padding zero */
#define SNTI_PROOF_BYTES 64
#define SNTI_ANSWER_BYTES 32

/* What a client wants: which service, which listener, who it is. */
struct snti_want {
	uint32_t kind;           /* 1: the start-up store, 2: a tcp connection */
	uint32_t number;         /* store: the rank; tcp: which socket of the connection */
	uint64_t ident;          /* store: the number of ranks; tcp: the conn's ident */
	uint64_t ticket;         /* store: 0; tcp: the listener's */
};

struct snti_handshake {
	unsigned char secret[SNTI_SECRET_BYTES];
	unsigned char client_nonce[SNTI_NONCE_BYTES], server_nonce[SNTI_NONCE_BYTES];
	struct snti_want want;
};

/* 0, or SNT_EDEVICE without random bytes or HMAC. */
int snti_hello_write(struct snti_handshake *h, const unsigned char *secret, const struct snti_want *want,
		     unsigned char out[SNTI_HELLO_BYTES]);
/* Server: 0, SNT_EPROTOCOL (not sennit), SNT_EUNSUPPORTED (another version). h->want is what it asks for. */
int snti_hello_read(struct snti_handshake *h, const unsigned char *secret, const unsigned char in[SNTI_HELLO_BYTES]);
int snti_proof_write(struct snti_handshake *h, unsigned char out[SNTI_PROOF_BYTES]);
/* Client: 0 or SNT_EREFUSED: the server does not know the secret. */
int snti_proof_read(struct snti_handshake *h, const unsigned char in[SNTI_PROOF_BYTES]);
int snti_answer_write(struct snti_handshake *h, unsigned char out[SNTI_ANSWER_BYTES]);
/* Server: 0 or SNT_EREFUSED. */
int snti_answer_read(struct snti_handshake *h, const unsigned char in[SNTI_ANSWER_BYTES]);
/* A key derived from the job's secret by HMAC, for one purpose. */
int snti_derive(const unsigned char *secret, const char *purpose, unsigned char out[SNTI_SECRET_BYTES]);

#endif
