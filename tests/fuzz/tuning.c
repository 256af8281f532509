/* SPDX-License-Identifier: BSD-3-Clause */
/* tuning.c - fuzzes the file of rules for NCCL's choice: what is accepted is within bounds, the rest names its line. */
#include <stdlib.h>
#include <string.h>

#include "plugins/nccl/nccl_tuner.h"
#include "plugins/nccl/tuner_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int is_within(int value, int least, int most)
{
	return value == SNTI_TUNING_ANY || (value >= least && value <= most);
}

static void check(const struct snti_tuning_rule *rule)
{
	if (rule->function < 0 || rule->function >= NCCL_TUNED || rule->algorithm < 0 || rule->algorithm >= NCCL_ALGORITHMS ||
	    rule->protocol < 0 || rule->protocol >= NCCL_PROTOCOLS || rule->least > rule->most ||
	    !is_within(rule->channels, 1, 64) || !is_within(rule->nodes, 1, INT32_MAX) ||
	    !is_within(rule->ranks, 1, INT32_MAX) || !is_within(rule->operations, 1, INT32_MAX) ||
	    !is_within(rule->is_registered, 0, 1))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct snti_tuning tuning;
	struct snti_tuning_question question = { .operations = 1, .nodes = 2, .ranks = 16, .bytes = size };
	char why[200] = "", *text = malloc(size ? size : 1);    /* as long as it is, so that reading on is noticed */

	if (!text)
		abort();
	memcpy(text, data, size);
	if (snti_tuning_parse(text, size, &tuning, why, sizeof why)) {
		if (strncmp(why, "line ", 5))
			abort();
	} else {
		for (int i = 0; i < tuning.count; i++)
			check(&tuning.rules[i]);
		for (question.function = 0; question.function < 6; question.function++)
			snti_tuning_find(&tuning, &question);
	}
	free(text);
	return 0;
}
