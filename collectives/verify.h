/* SPDX-License-Identifier: BSD-3-Clause */
/* verify.h - dry run of the plans of all ranks: proof, and clock. */
#ifndef COLLECTIVES_VERIFY_H
#define COLLECTIVES_VERIFY_H

#include "collectives/plan.h"

/* Who sees each matched message, local step and round end of a dry run; every member may be NULL. */
struct snti_walk {
	void *arg;
	int  (*message)(void *arg, uint32_t from, const struct snti_step *send, uint32_t to, const struct snti_step *recv);
	int  (*local)(void *arg, uint32_t rank, const struct snti_step *step);
	void (*round_done)(void *arg, uint32_t rank);
};
/* Runs @size plans with no buffering at all (the strictest wire). 0; SNT_EINVAL: a step out of range or a
 * hazard within a round; SNT_ETIMEOUT: deadlock; or what a member of @walk returned. */
int snti_walk_plans(const struct snti_plan *plans, uint32_t size, const struct snti_walk *walk) SNT_CHECK_RESULT;

/* Proves that the plans keep the collective's promise: every contribution exactly once, in operand order that
 * all ranks share. @why (may be NULL) gets a sentence. 0, SNT_EINVAL, SNT_ENOMEM. */
int snti_verify(const struct snti_plan *plans, uint32_t size, char *why, size_t why_size) SNT_CHECK_RESULT;

/* Seconds per message, per byte sent, per byte folded. */
struct snti_cost { double alpha, beta, gamma; };
/* Seconds until the last rank has finished, for a vector of @bytes; negative on a plan that does not run. */
double snti_simulate(const struct snti_plan *plans, uint32_t size, double bytes, struct snti_cost cost);

/* Builds the plans of all ranks; NULL or a failure leaves nothing. */
int  snti_plans_build(const struct snti_algorithm *algorithm, const struct snti_plan_shape *shape, struct snti_plan **plans) SNT_CHECK_RESULT;
void snti_plans_free(struct snti_plan *plans, uint32_t size);

#endif
