/* SPDX-License-Identifier: BSD-3-Clause */
/* helper.h - the optional progress thread of a team: moves large operations while the owner is elsewhere.
 *
 * Whoever touches the team has the turn: the owner from enter to leave, which is one public call, the thread for one
 * move of all operations at a time. The thread frees nothing but connections of a team that fails, and starts nothing.
 */
#ifndef COLLECTIVES_HELPER_H
#define COLLECTIVES_HELPER_H

#include "collectives/team.h"

struct snti_helper;

/* Makes team->helper. */
int  snti_helper_start(struct snt_team *team) SNT_CHECK_RESULT;
/* Ends the thread and frees team->helper; NULL is allowed there. The caller is outside. */
void snti_helper_stop(struct snt_team *team);
/* The owner comes in, after at most one move, and takes over the text of what failed in the thread. */
void snti_helper_enter(struct snti_helper *helper);
/* The same without waiting: 0 when the thread is at it, or sleeps until the wires wake it. */
int  snti_helper_try(struct snti_helper *helper);
/* The owner leaves; the thread is woken when work is left to it. */
void snti_helper_leave(struct snti_helper *helper);
/* Inside: what runs is left to the thread until nothing runs any more, when @bytes are worth that. */
void snti_helper_engage(struct snti_helper *helper, uint64_t bytes);

#endif
