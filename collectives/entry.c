/* SPDX-License-Identifier: BSD-3-Clause */
/* entry.c - the public calls on operations: what they are given is checked, and where a progress thread shares the team
 * they take their turn. */
#include "base/log.h"
#include "collectives/helper.h"

/* Not inlined, so that a team without a thread saves no registers for one. */
#define BESIDE static __attribute__((noinline)) int

int snt_op_create(struct snt_team *team, const struct snt_call *call, struct snt_op **op)
{
	int status;

	if (op)
		*op = NULL;
	if (!team || !call || !op)
		return snti_fail(SNT_EINVAL, "a NULL team, call or place for the operation");
	if (!team->helper)
		return snti_op_create(team, call, op);
	snti_helper_enter(team->helper);
	status = snti_op_create(team, call, op);
	snti_helper_leave(team->helper);
	return status;
}

BESIDE start_beside(struct snti_helper *helper, struct snt_op *op)
{
	int status;

	snti_helper_enter(helper);
	status = snti_op_start(op);
	if (op->status == SNT_BUSY)
		snti_helper_engage(helper, (uint64_t)op->layout.extents[SNTI_TMP].count * op->layout.width);
	snti_helper_leave(helper);
	return status;
}

int snt_op_start(struct snt_op *op)
{
	if (!op)
		return snti_fail(SNT_EINVAL, "a NULL operation");
	return op->team->helper ? start_beside(op->team->helper, op) : snti_op_start(op);
}

/* What failed is returned from inside only: then the text is there, and the thread is through with ending the rest. */
BESIDE test_beside(struct snti_helper *helper, struct snt_op *op, int status)
{
	if (status != SNT_BUSY)
		snti_helper_enter(helper);
	else if (!snti_helper_try(helper))
		return SNT_BUSY;
	status = snti_op_test(op);
	snti_helper_leave(helper);
	return status;
}

int snt_op_test(struct snt_op *op)
{
	int status;

	if (!op)
		return snti_fail(SNT_EINVAL, "a NULL operation");
	/* Pairs with the store of who finished it: then the result is seen, too. */
	status = __atomic_load_n(&op->status, __ATOMIC_ACQUIRE);
	if (!status)
		return 0;
	return op->team->helper ? test_beside(op->team->helper, op, status) : snti_op_test(op);
}

BESIDE wait_beside(struct snti_helper *helper, struct snt_op *op)
{
	int status;

	snti_helper_enter(helper);
	status = snti_op_wait(op);
	snti_helper_leave(helper);
	return status;
}

int snt_op_wait(struct snt_op *op)
{
	if (!op)
		return snti_fail(SNT_EINVAL, "a NULL operation");
	if (!__atomic_load_n(&op->status, __ATOMIC_ACQUIRE))
		return 0;
	return op->team->helper ? wait_beside(op->team->helper, op) : snti_op_wait(op);
}

void snt_op_free(struct snt_op *op)
{
	struct snti_helper *helper = op ? op->team->helper : NULL;

	if (helper)
		snti_helper_enter(helper);
	if (op)
		snti_op_free(op);
	if (helper)
		snti_helper_leave(helper);
}

int snt_team_progress(struct snt_team *team)
{
	int moved, status;

	if (!team)
		return snti_fail(SNT_EINVAL, "a NULL team");
	if (team->helper)
		snti_helper_enter(team->helper);
	status = snti_team_move(team, &moved);
	if (!status)
		status = snti_team_hear(team);
	if (team->helper)
		snti_helper_leave(team->helper);
	return status;
}
