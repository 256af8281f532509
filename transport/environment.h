/* SPDX-License-Identifier: BSD-3-Clause */
/* environment.h - which rank of how many this process is, as its launcher says. */
#ifndef TRANSPORT_ENVIRONMENT_H
#define TRANSPORT_ENVIRONMENT_H

#include <stdint.h>

#include "include/sennit.h"

enum snti_place_kind {
	SNTI_PLACE_NONE,       /* no launcher: one rank */
	SNTI_PLACE_ADDRESS,    /* rank 0 listens at host:port */
	SNTI_PLACE_PMIX,
	SNTI_PLACE_PMI1
};

#define SNTI_OTHER_PORTS 2

struct snti_place {
	enum snti_place_kind kind;
	const char *source;    /* "torchrun": for messages */
	int rank, ranks;       /* PMIx: ranks 0 until snti_pmix_ranks() */
	int local_rank;        /* -1: not said */
	char host[256];
	uint16_t port, others[SNTI_OTHER_PORTS];   /* others: where it may listen when that one is taken; 0: nowhere */
	char job[64];          /* whom the secret is for, where several jobs may have one secret; or "" */
};

/* Fills @place from the variables that @get returns (NULL: not set). No other effect. 0, or SNT_EINVAL
 * through snti_fail(), naming the variable. */
int snti_place_parse(const char *(*get)(const char *name), struct snti_place *place);
/* The same, then asks PMIx for what the variables do not say. */
int snti_place_find(const char *(*get)(const char *name), struct snti_place *place);
/* A @get for the real environment: what is a setting comes from the settings. */
const char *snti_place_variable(const char *name);
/* "node[003-005,7],x" to "node003". 0 or SNT_EINVAL (no snti_fail). */
int snti_first_host(const char *nodelist, char *host, size_t room);

/* Rank 0 makes a ticket, everybody gets it. Both keep their connection to the launcher until exit. */
int snti_pmix_share(const struct snti_place *place, struct snt_ticket *ticket);
int snti_pmix_ranks(int *ranks);
int snti_pmi1_share(const struct snti_place *place, struct snt_ticket *ticket);

#endif
