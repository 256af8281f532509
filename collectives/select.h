/* SPDX-License-Identifier: BSD-3-Clause */
/* select.h - which algorithm, in how many slices, for which call. */
#ifndef COLLECTIVES_SELECT_H
#define COLLECTIVES_SELECT_H

#include "collectives/plan.h"

struct snti_question {
	enum snt_collective collective;
	uint32_t size, node_size;       /* ranks; ranks per host (== size: one host; 0 uneven) */
	uint64_t bytes;                 /* of the whole vector */
	int unequal_blocks;
	uint64_t slice;                 /* of the slowest wire between them, see struct snti_transport; 0: shared memory's */
};

struct snti_choice {
	const struct snti_algorithm *algorithm;
	uint32_t slices;                /* at least 1 */
	uint32_t window;                /* how many run at once */
};

/* @overrides in the grammar of SNT_ALGORITHMS: 'collective[:from-to]:name[/slices=N]', joined by commas, sizes as 4K;
 * the first that fits wins; "" leaves all to the table. A pure function of its arguments, so all ranks agree.
 * SNT_EINVAL with the part that is wrong. */
int snti_select(const struct snti_question *question, const char *overrides, struct snti_choice *choice) SNT_CHECK_RESULT;
/* Checks a whole override text without a question: 0 or SNT_EINVAL. */
int snti_select_check(const char *overrides) SNT_CHECK_RESULT;

#endif
