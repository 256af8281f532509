/* SPDX-License-Identifier: BSD-3-Clause */
/* engine.h - carries out one slice of a plan whose chunks have become addresses. */
#ifndef COLLECTIVES_ENGINE_H
#define COLLECTIVES_ENGINE_H

#include "collectives/fold.h"
#include "transport/transport.h"

/* A step with addresses: what the engine runs. */
struct snti_act {
	uint8_t op;                  /* enum snti_step_op */
	uint8_t left;
	uint8_t joins;               /* its message waits for those of its joint fold */
	uint32_t round;
	uint32_t peer;
	char *to;                    /* written: RECV, FOLD, COPY, MERGE */
	const char *from;            /* read: SEND, COPY, MERGE; the operand of a FOLD */
	size_t size;                 /* bytes */
	struct snti_memory *memory;  /* of from, for a SEND or a FOLD; of to, for a RECV */
	uint32_t answer, number, joint;   /* as in the step */
	uint32_t end;                /* of its round: the first act of the next one */
	void *spare;                 /* see snti_engine_join() */
};

/* What all slices of one operation share. */
struct snti_job {
	struct snti_conn **conns;    /* by rank */
	snti_fold_fn *fold;          /* NULL when the collective folds nothing */
	enum snt_type type;          /* and how that folds */
	enum snt_fold how;
	uint32_t width;              /* bytes of one element */
	uint32_t pipelined;          /* several slices are under way at once */
	uint32_t around;             /* larger than the caches: results are written around them */
	uint64_t fingerprint;
};

/* One slice on its way. first <= finished <= started <= end of the round; all only grow. */
struct snti_run {
	const struct snti_act *acts;
	uint32_t act_count;
	struct snti_xfer *xfers;     /* room for the widest round */
	uint64_t lane;
	uint32_t first, started, finished, end;
	uint32_t held;               /* of a joint fold: the first step whose message is lent and not folded yet */
	uint32_t is_received;        /* of the step that is next: its message cannot be lent and is being received */
	uint64_t answered, leaving_out;   /* messages that need not be sent any more: of the next round, of this one */
};

/* Two ranks that exchange vectors in place receive into scratch, and merge. Where the wire can, the scratch is left out:
 * what arrives is folded at once, behind what has been sent. The same bits, and the same messages. How many acts are left. */
uint32_t snti_engine_join(struct snti_act *acts, uint32_t count, struct snti_conn *const *conns);
void snti_run_begin(struct snti_run *run, uint64_t lane);
/* 0 done, SNT_BUSY, or why it failed. Never blocks, allocates nothing. */
int  snti_run_poll(struct snti_run *run, const struct snti_job *job) SNT_CHECK_RESULT;

#endif
