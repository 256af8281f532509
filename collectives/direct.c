/* SPDX-License-Identifier: BSD-3-Clause */
/* direct.c - allreduce in two rounds: every rank sums its own share of all vectors and gives it to everybody. */
#include "collectives/pieces.h"
#include "base/log.h"

/* direct: everybody sends every share to its owner, who folds them all at once and sends the sum to everybody.
 * 2 rounds, 2 (P-1)/P vectors sent by each rank; at most 8 ranks. The shares are folded from the owner's rank on. */
void snti_allreduce_direct(struct snti_plan *p)
{
	uint32_t me = p->rank, n = p->size;

	if (n > SNTI_DIRECT_MOST) {
		p->error = snti_fail(SNT_EUNSUPPORTED, "allreduce direct serves at most %d ranks, not %u", SNTI_DIRECT_MOST, n);
		return;
	}
	p->chunks = n;
	if (n == 1)
		snti_plan_copy(p, SNTI_OUT, 0, SNTI_IN, 0, 1);
	for (uint32_t k = 1; k < n; k++)
		snti_plan_send(p, (me + k) % n, SNTI_IN, (me + k) % n, 1);
	for (uint32_t k = 1; k < n; k++)
		snti_plan_join(p, (me + k) % n, SNTI_OUT, SNTI_IN, me, 1);
	snti_plan_round(p);
	for (uint32_t k = 1; k < n; k++)
		snti_plan_send(p, (me + k) % n, SNTI_OUT, me, 1);
	for (uint32_t k = 1; k < n; k++)
		snti_plan_recv(p, (me + n - k) % n, SNTI_OUT, (me + n - k) % n, 1);
}
