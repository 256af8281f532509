/* SPDX-License-Identifier: BSD-3-Clause */
/* alltoall.c - block j of rank i becomes block i of rank j. */
#include "collectives/pieces.h"

/* pairwise: in round k talk to the rank k to the right and the one k to the left.
 * P-1 rounds, (P-1)/P of the vector sent by each rank. In place what arrives waits in scratch. */
void snti_alltoall_pairwise(struct snti_plan *p)
{
	uint32_t me = p->rank, n = p->size;
	int to = p->in_place ? SNTI_TMP : SNTI_OUT;

	p->chunks = n;
	snti_plan_copy(p, SNTI_OUT, me, SNTI_IN, me, 1);
	for (uint32_t k = 1; k < n; k++, snti_plan_round(p)) {
		snti_plan_send(p, (me + k) % n, SNTI_IN, (me + k) % n, 1);
		snti_plan_recv(p, (me + n - k) % n, to, (me + n - k) % n, 1);
	}
	if (p->in_place) {
		snti_plan_copy(p, SNTI_OUT, 0, SNTI_TMP, 0, me);
		snti_plan_copy(p, SNTI_OUT, me + 1, SNTI_TMP, me + 1, n - me - 1);
	}
}

enum { BRUCK_HELD = SNTI_TMP, BRUCK_PACKED, BRUCK_ARRIVED };

/* The held blocks whose number has the bit @hop, to or from the front of a packed buffer. How many. */
static uint32_t pack(struct snti_plan *p, uint32_t hop, int unpack)
{
	uint32_t packed = 0;

	for (uint32_t i = hop; i < p->size; i += 2 * hop) {
		uint32_t run = i + hop < p->size ? hop : p->size - i;

		if (unpack)
			snti_plan_copy(p, BRUCK_HELD, i, BRUCK_ARRIVED, packed, run);
		else
			snti_plan_copy(p, BRUCK_PACKED, packed, BRUCK_HELD, i, run);
		packed += run;
	}
	snti_plan_round(p);
	return packed;
}

/* bruck: held block i still has to go i to the right; in the round of bit b all with that bit go 2^b.
 * ceil(log2 P) rounds, about log2(P)/2 vectors sent by each rank. Bruck 1997. */
void snti_alltoall_bruck(struct snti_plan *p)
{
	uint32_t me = p->rank, n = p->size;

	p->chunks = n;
	snti_plan_copy(p, BRUCK_HELD, 0, SNTI_IN, me, n - me);
	snti_plan_copy(p, BRUCK_HELD, n - me, SNTI_IN, 0, me);
	snti_plan_round(p);
	for (uint32_t hop = 1; hop < n; hop *= 2) {
		uint32_t packed = pack(p, hop, 0);

		snti_plan_send(p, (me + hop) % n, BRUCK_PACKED, 0, packed);
		snti_plan_recv(p, (me + n - hop) % n, BRUCK_ARRIVED, 0, packed);
		snti_plan_round(p);
		pack(p, hop, 1);
	}
	for (uint32_t i = 0; i < n; i++)   /* held block i has come i to the right */
		snti_plan_copy(p, SNTI_OUT, (me + n - i) % n, BRUCK_HELD, i, 1);
}
