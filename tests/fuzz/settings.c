/* SPDX-License-Identifier: BSD-3-Clause */
/* settings.c - fuzzes sizes and the choice of algorithms: checked once, a text means the same for every call. */
#include <stdlib.h>
#include <string.h>

#include "base/settings.h"
#include "collectives/select.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_size(const char *text)
{
	uint64_t bytes = 1;
	size_t digits = strspn(text, "0123456789");

	if (snti_parse_size(text, &bytes) == 0 && (!digits || strlen(text) > digits + 1))
		abort();
}

static void try_choice(const char *text, const uint8_t *data, size_t size)
{
	struct snti_question question = { .collective = size ? data[0] % SNT_COLLECTIVE_COUNT : 0,
		.size = size > 1 ? data[1] + 1u : 1, .bytes = size > 2 ? (uint64_t)1 << data[2] % 64 : 0,
		.unequal_blocks = size > 3 ? data[3] & 1 : 0 };
	struct snti_choice choice = { .algorithm = NULL };
	int checked = snti_select_check(text), status;

	question.node_size = question.size;
	if (checked != 0 && checked != SNT_EINVAL)
		abort();
	status = snti_select(&question, text, &choice);
	if (checked ? status != checked : status != 0 && question.collective != SNT_SEND && question.collective != SNT_RECV)
		abort();
	if (status == 0 && (!choice.algorithm || choice.algorithm->collective != question.collective ||
			    choice.slices < 1 || choice.window < 1 || choice.window > choice.slices))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);   /* as long as it is, so that reading on is noticed */

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = 0;
	try_size(text);
	try_choice(text, data, size);
	/* The question from the first bytes, the text behind them. */
	if (size > 4)
		try_choice(text + 4, data, size);
	free(text);
	return 0;
}
