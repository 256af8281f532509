/* SPDX-License-Identifier: BSD-3-Clause */
/* loop_wire.h - a transport inside one thread, hostile by seed: dribbles, refuses, reorders lanes, dies. */
#ifndef TESTS_LOOP_WIRE_H
#define TESTS_LOOP_WIRE_H

#include "transport/transport.h"

struct loop_wire {
	uint64_t seed;
	uint32_t ranks;
	uint64_t moved_bytes, dies_at;      /* dies_at 0: never */
	uint64_t lent, answered;            /* messages */
	int writing;                        /* writes into rooms that have begun and not ended */
	struct snti_link *queues;           /* [from * ranks + to] * 2: sends, receives */
};

int loop_wire_init(struct loop_wire *wire, uint32_t ranks, uint64_t seed);
void loop_wire_fini(struct loop_wire *wire);
/* The connection over which @from talks to @to; freed by snti_conn_close(). */
struct snti_conn *loop_wire_conn(struct loop_wire *wire, uint32_t from, uint32_t to);
/* Moves a few bytes of some message between some pair. */
void loop_wire_poll(struct loop_wire *wire);
uint32_t loop_wire_roll(struct loop_wire *wire, uint32_t below);

#endif
