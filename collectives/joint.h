/* SPDX-License-Identifier: BSD-3-Clause */
/* joint.h - folds out of the senders' memory, and answers that go straight to where they belong. */
#ifndef COLLECTIVES_JOINT_H
#define COLLECTIVES_JOINT_H

#include "collectives/engine.h"

/* Carries on with the fold that ends this round at @end: 0 when it is done, else as snti_run_poll or SNTI_AGAIN. */
int  snti_joint_poll(struct snti_run *run, const struct snti_job *job, uint32_t end) SNT_CHECK_RESULT;
/* Lets the receiver of @act write the answer at once, if that lies where it can. */
void snti_joint_offer_room(const struct snti_run *run, const struct snti_act *act, struct snti_xfer *xfer);

/* The engine's, for messages that cannot be lent. */
int  snti_start_receive(const struct snti_run *run, const struct snti_job *job, const struct snti_act *act,
			struct snti_xfer *xfer) SNT_CHECK_RESULT;

#endif
