/* SPDX-License-Identifier: BSD-3-Clause */
/* ports.h - which transports a team opens. */
#ifndef COLLECTIVES_PORTS_H
#define COLLECTIVES_PORTS_H

#include "collectives/team.h"

/* Opens the team's ports and fills in its cards: the same ports on every rank that has what they need. */
int snti_team_open_ports(struct snt_team *team, uint64_t deadline) SNT_CHECK_RESULT;

/* What all ranks know of each rank while they choose: transports of the automatic order that it has, as bits. */
struct snti_prospect { uint64_t host; uint32_t has_fabric, has; };
/* Whether @rank and one of another host, both with a fabric, have none of these in common yet. */
int snti_prospects_lack(const struct snti_prospect *all, int size, int rank);
/* The ones that @rank has to open: with each rank of another host the first that both have. */
uint32_t snti_prospects_use(const struct snti_prospect *all, int size, int rank);

#endif
