/* SPDX-License-Identifier: BSD-3-Clause */
/* team.h - a group of ranks, and the operations on it. Behind sennit.h. */
#ifndef COLLECTIVES_TEAM_H
#define COLLECTIVES_TEAM_H

#include "collectives/layout.h"
#include "collectives/select.h"
#include "transport/exchange.h"
#include "transport/transport.h"

#define SNTI_PORTS_MAX SNTI_TRANSPORTS_MOST
#define SNTI_RECENT 32           /* operations that snt_call() remembers; a power of two */

/* What every rank tells every other at start-up. */
struct snti_card {
	uint64_t host;               /* alike for ranks on one host */
	uint32_t ports;              /* bit i: snti_transports[i] is open */
	uint32_t reserved;
	struct snti_address addresses[SNTI_PORTS_MAX];
};

struct snti_cached_plan {
	struct snti_link link;
	const struct snti_algorithm *algorithm;
	struct snti_plan plan;
};

struct snti_helper;
struct pollfd;

struct snt_team {
	int rank, size, local_rank, local_size;
	uint32_t node_size;          /* ranks per host when that is the same everywhere and in order; else 0 */
	uint64_t slice;              /* of the slowest wire that any rank needs to reach rank 0; alike on all ranks */
	uint32_t timeout_ms;
	uint32_t crowded;            /* not 0: others want the core, see progress.c */
	uint64_t spin_us, yields;    /* how long a wait spins, how often it then yields before it sleeps */
	char *algorithms;
	struct snti_exchange *exchange;
	struct snti_port *ports[SNTI_PORTS_MAX];   /* by index in snti_transports */
	struct snti_port *open[SNTI_PORTS_MAX];    /* those of them that there are, the preferred ones first */
	uint32_t open_count;
	uint32_t preferred[SNTI_PORTS_MAX], preferred_count;
	uint32_t unasked;            /* bits for those preferred though nobody named them: opened only where it makes sense */
	int is_automatic;            /* nobody named transports: those are left out that no pair of ranks needs */
	struct snti_card *cards;     /* by rank */
	struct snti_conn **conns;    /* by rank; NULL until first use */
	struct snti_link running;    /* operations, in the order in which they were started */
	struct snti_link plans;
	struct snti_link ops;        /* all */
	struct snt_op *recent[SNTI_RECENT];
	uint64_t sequence;           /* of the last collective started */
	uint64_t looked_ns;          /* when the control channel was served last */
	uint32_t idle_tests;
	uint64_t history;            /* hash of the fingerprints of all collectives started */
	int status;                  /* why the team is broken; 0 */
	struct snti_helper *helper;  /* the progress thread; NULL: none */
};

struct snt_op {
	struct snti_link running, all;
	struct snt_team *team;
	struct snt_call call;        /* its layouts are not kept: see layout */
	struct snti_layout layout;
	const struct snti_plan *plan;
	struct snti_job job;
	struct snti_run *runs;       /* window of them */
	uint32_t window, slices, next_slice, active;
	uint64_t lane;               /* of slice 0 */
	uint64_t fingerprint;        /* of the call alone */
	uint64_t history;            /* of all calls up to this one; 0 for send and recv */
	uint64_t memory_ids[2];      /* of the allocations IN and OUT lie in; 0: private memory */
	uint64_t memory_seen;        /* snti_shared_changes() when the buffers were looked up */
	char *tmp;
	int status;                  /* SNT_BUSY while it runs; a progress thread may change that beside a test */
	char idle_byte[2];           /* a barrier's data */
};

int  snti_team_fail(struct snt_team *team, int status);
/* Begins to set up the connection to @peer, once. */
int  snti_team_connect(struct snt_team *team, uint32_t peer) SNT_CHECK_RESULT;
/* How much moved on all ports; negative: a port failed. */
int  snti_team_poll(struct snt_team *team);
const struct snti_plan *snti_team_plan(struct snt_team *team, const struct snti_algorithm *algorithm,
				       const struct snti_plan_shape *shape, int *status);
/* Moves every running operation once. 0 or the team's failure. *moved: whether anything happened. */
int  snti_team_move(struct snt_team *team, int *moved);
/* For callers that test in a loop: now and then serves the control channel. 0 or the team's failure. */
int  snti_team_glance(struct snt_team *team) SNT_CHECK_RESULT;
/* Serves the control channel now. 0 or the team's failure. */
int  snti_team_hear(struct snt_team *team) SNT_CHECK_RESULT;
/* Before sleeping: fills in what wakes a sleeper, the control channel last. How many; 0: there is work now. */
int  snti_team_arm(struct snt_team *team, struct pollfd *fds);
/* Waits politely until @op is done, or for the connections' output when @op is NULL. */
int  snti_team_wait(struct snt_team *team, struct snt_op *op);

/* Fills in op->layout, allocating what it needs; snti_op_layout_fini() accepts a half-made one. */
int  snti_op_layout_init(struct snt_op *op, const struct snt_call *call) SNT_CHECK_RESULT;
void snti_op_layout_fini(struct snt_op *op);
/* Clears the fields that the collective gives no meaning, so that ranks cannot differ in them. */
void snti_call_tidy(struct snt_call *call);
int  snti_op_is_in_place(const struct snt_team *team, const struct snt_call *call);
/* The public calls on operations, for who has the turn (helper.h) already. */
int  snti_op_create(struct snt_team *team, const struct snt_call *call, struct snt_op **op) SNT_CHECK_RESULT;
int  snti_op_start(struct snt_op *op) SNT_CHECK_RESULT;
int  snti_op_test(struct snt_op *op) SNT_CHECK_RESULT;
int  snti_op_wait(struct snt_op *op) SNT_CHECK_RESULT;
void snti_op_free(struct snt_op *op);
/* Moves @op once. 0 also while it is busy: see op->status. */
int  snti_op_move(struct snt_op *op, int *moved) SNT_CHECK_RESULT;
void snti_op_text(const struct snt_op *op, char *text, size_t size);   /* "allreduce of 10 float32, sum" */

#endif
