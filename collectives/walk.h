/* SPDX-License-Identifier: BSD-3-Clause */
/* walk.h - a dry run that also says where it stopped. */
#ifndef COLLECTIVES_WALK_H
#define COLLECTIVES_WALK_H

#include "collectives/verify.h"

struct snti_walk_stop { uint32_t rank, round; const char *what; };   /* what: NULL when a member of the walk stopped it */
int snti_walk_explained(const struct snti_plan *plans, uint32_t size, const struct snti_walk *walk,
			struct snti_walk_stop *stop) SNT_CHECK_RESULT;

#endif
