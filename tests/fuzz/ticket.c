/* SPDX-License-Identifier: BSD-3-Clause */
/* ticket.c - fuzzes the reading of tickets: what is accepted is within bounds and writes back the same. */
#include <stdlib.h>
#include <string.h>

#include "transport/ticket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(enum snt_log_level level, const char *text, void *arg)
{
	(void)level, (void)text, (void)arg;
}

/* FNV-1a as in the ticket: without it the fuzzer would never get past the checksum. */
static void seal(unsigned char *bytes)
{
	uint64_t sum = 0xcbf29ce484222325ULL;

	for (int i = 0; i < 184; i++)
		sum = (sum ^ bytes[i]) * 0x100000001b3ULL;
	for (int i = 0; i < 8; i++)
		bytes[184 + i] = (unsigned char)(sum >> (8 * i));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snt_ticket ticket = { "snttick\n\1\0\0\0" };
	struct snti_ticket_parts parts;
	char text[SNTI_ADDRESS_TEXT];

	snt_log_to(ignore, NULL);
	memcpy(ticket.bytes + 12, data, size < 172 ? size : 172);
	seal(ticket.bytes);
	if (snti_ticket_read(&ticket, &parts) != 0)
		return 0;
	if (parts.count < 1 || parts.count > SNTI_TICKET_ADDRESSES || parts.port == 0)
		abort();
	for (int i = 0; i < parts.count; i++)
		snti_address_text(&parts.addresses[i], text);
	snti_ticket_write(&parts, &ticket);
	if (snti_ticket_read(&ticket, &parts) != 0)
		abort();
	return 0;
}
