/* SPDX-License-Identifier: BSD-3-Clause */
/* barrier.c - nobody leaves before everybody has come. */
#include "collectives/pieces.h"

/* dissemination: after round k each rank has heard, directly or not, from the 2^k - 1 ranks to its left.
 * ceil(log2 P) rounds, as many messages of no bytes sent by each rank. Hensgen, Finkel, Manber 1988. Where P is a power of
 * two it is done in pairs (the butterfly of Brooks 1986): what answers a message acknowledges it on the wire, too. */
void snti_barrier_dissemination(struct snti_plan *p)
{
	int pairs = (p->size & (p->size - 1)) == 0;

	for (uint32_t hop = 1; hop < p->size; hop *= 2, snti_plan_round(p)) {
		snti_plan_send(p, pairs ? p->rank ^ hop : (p->rank + hop) % p->size, SNTI_IN, 0, 1);
		snti_plan_recv(p, pairs ? p->rank ^ hop : (p->rank + p->size - hop) % p->size, SNTI_TMP, 0, 1);
	}
}
