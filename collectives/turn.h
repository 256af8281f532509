/* SPDX-License-Identifier: BSD-3-Clause */
/* turn.h - a lock for two: the owner of a team, who goes first, and its progress thread.
 *
 * One word, free, taken, or taken and wanted by the other; the kernel is asked only when it is wanted. The thread hands
 * it over when the owner wants it, so that it cannot take it again before the owner wakes. The owner lets go without
 * handing over: it may be back before the thread is awake. Who wants it is told apart: the thread may want it again
 * before the owner has seen that it was handed over.
 */
#ifndef COLLECTIVES_TURN_H
#define COLLECTIVES_TURN_H

#include <stdint.h>

struct snti_turn { uint32_t word; };    /* 0: free */

int  snti_turn_try(struct snti_turn *turn);      /* either side: whether it has it now */
void snti_turn_take(struct snti_turn *turn);     /* the owner: waits until the thread hands it over */
void snti_turn_drop(struct snti_turn *turn);     /* the owner lets go */
void snti_turn_await(struct snti_turn *turn);    /* the thread: waits until the owner is outside */
void snti_turn_pass(struct snti_turn *turn);     /* the thread lets go; to the owner when that waits */
/* The owner, when there is no thread any more that could have it. */
void snti_turn_seize(struct snti_turn *turn);

#endif
