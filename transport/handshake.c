/* SPDX-License-Identifier: BSD-3-Clause */
/* handshake.c - mutual proof of the job's secret by HMAC-SHA256 over both sides' nonces. */
#include "transport/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "base/random.h"
#include "include/sennit.h"

/* HELLO: magic 8, version 4, kind 4, number 4, zero 4, ident 8, ticket 8, nonce 16, zero 8.
 * PROOF: server nonce 16, HMAC 32, zero 16. All numbers little endian. */
enum { VERSION = 1, OFF_VERSION = 8, OFF_KIND = 12, OFF_NUMBER = 16, OFF_GAP = 20, OFF_IDENT = 24,
       OFF_TICKET = 32, OFF_NONCE = 40, OFF_PAD = 56, MAC_BYTES = 32 };
static const unsigned char magic[8] = { 's', 'e', 'n', 'n', 'i', 't', 0x0d, 0x0a };

static void put(unsigned char *out, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		out[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t take(const unsigned char *in, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64_t)in[i] << (8 * i);
	return value;
}

static int is_zero(const unsigned char *bytes, size_t size)
{
	unsigned char seen = 0;

	for (size_t i = 0; i < size; i++)
		seen |= bytes[i];
	return seen == 0;
}

static int hmac(const unsigned char *secret, const void *bytes, size_t size, unsigned char out[MAC_BYTES])
{
	unsigned int length = MAC_BYTES;

	if (HMAC(EVP_sha256(), secret, SNTI_SECRET_BYTES, bytes, size, out, &length) == NULL || length != MAC_BYTES)
		return SNT_EDEVICE;
	return 0;
}

static void want_write(const struct snti_want *want, unsigned char *hello)
{
	put(hello + OFF_KIND, want->kind, 4);
	put(hello + OFF_NUMBER, want->number, 4);
	put(hello + OFF_IDENT, want->ident, 8);
	put(hello + OFF_TICKET, want->ticket, 8);
}

/* The side's name goes into the HMAC so that nobody can send a proof back as an answer. */
static int side_mac(const struct snti_handshake *h, const char side[8], unsigned char out[MAC_BYTES])
{
	unsigned char text[8 + SNTI_HELLO_BYTES + SNTI_NONCE_BYTES] = { 0 };
	unsigned char *hello = text + 8;

	memcpy(text, side, 8);
	memcpy(hello, magic, sizeof(magic));
	put(hello + OFF_VERSION, VERSION, 4);
	want_write(&h->want, hello);
	memcpy(hello + OFF_NONCE, h->client_nonce, SNTI_NONCE_BYTES);
	memcpy(hello + SNTI_HELLO_BYTES, h->server_nonce, SNTI_NONCE_BYTES);
	return hmac(h->secret, text, sizeof(text), out);
}

int snti_hello_write(struct snti_handshake *h, const unsigned char *secret, const struct snti_want *want,
		     unsigned char out[SNTI_HELLO_BYTES])
{
	memset(h, 0, sizeof(*h));
	memcpy(h->secret, secret, SNTI_SECRET_BYTES);
	h->want = *want;
	if (snti_random(h->client_nonce, SNTI_NONCE_BYTES) != 0)
		return SNT_EDEVICE;
	memset(out, 0, SNTI_HELLO_BYTES);
	memcpy(out, magic, sizeof(magic));
	put(out + OFF_VERSION, VERSION, 4);
	want_write(want, out);
	memcpy(out + OFF_NONCE, h->client_nonce, SNTI_NONCE_BYTES);
	return 0;
}

int snti_hello_read(struct snti_handshake *h, const unsigned char *secret, const unsigned char in[SNTI_HELLO_BYTES])
{
	memset(h, 0, sizeof(*h));
	if (memcmp(in, magic, sizeof(magic)) != 0)
		return SNT_EPROTOCOL;
	if (take(in + OFF_VERSION, 4) != VERSION)
		return SNT_EUNSUPPORTED;
	if (!is_zero(in + OFF_GAP, 4) || !is_zero(in + OFF_PAD, SNTI_HELLO_BYTES - OFF_PAD))
		return SNT_EPROTOCOL;
	memcpy(h->secret, secret, SNTI_SECRET_BYTES);
	memcpy(h->client_nonce, in + OFF_NONCE, SNTI_NONCE_BYTES);
	h->want.kind = (uint32_t)take(in + OFF_KIND, 4);
	h->want.number = (uint32_t)take(in + OFF_NUMBER, 4);
	h->want.ident = take(in + OFF_IDENT, 8);
	h->want.ticket = take(in + OFF_TICKET, 8);
	return 0;
}

int snti_proof_write(struct snti_handshake *h, unsigned char out[SNTI_PROOF_BYTES])
{
	if (snti_random(h->server_nonce, SNTI_NONCE_BYTES) != 0)
		return SNT_EDEVICE;
	memset(out, 0, SNTI_PROOF_BYTES);
	memcpy(out, h->server_nonce, SNTI_NONCE_BYTES);
	return side_mac(h, "server:", out + SNTI_NONCE_BYTES);
}

int snti_proof_read(struct snti_handshake *h, const unsigned char in[SNTI_PROOF_BYTES])
{
	unsigned char mac[MAC_BYTES];

	memcpy(h->server_nonce, in, SNTI_NONCE_BYTES);
	if (side_mac(h, "server:", mac) != 0 || CRYPTO_memcmp(mac, in + SNTI_NONCE_BYTES, MAC_BYTES) != 0)
		return SNT_EREFUSED;
	return is_zero(in + SNTI_NONCE_BYTES + MAC_BYTES, SNTI_PROOF_BYTES - SNTI_NONCE_BYTES - MAC_BYTES) ? 0 : SNT_EREFUSED;
}

int snti_answer_write(struct snti_handshake *h, unsigned char out[SNTI_ANSWER_BYTES])
{
	return side_mac(h, "client:", out);
}

int snti_answer_read(struct snti_handshake *h, const unsigned char in[SNTI_ANSWER_BYTES])
{
	unsigned char mac[MAC_BYTES];

	if (side_mac(h, "client:", mac) != 0)
		return SNT_EREFUSED;
	return CRYPTO_memcmp(mac, in, MAC_BYTES) == 0 ? 0 : SNT_EREFUSED;
}

int snti_derive(const unsigned char *secret, const char *purpose, unsigned char out[SNTI_SECRET_BYTES])
{
	return hmac(secret, purpose, strlen(purpose), out);
}
