/* SPDX-License-Identifier: BSD-3-Clause */
/* harness.h - what times a collective, the same for every library that perf/compare sets side by side.
 *
 * A back end is a program: harness_open() first of all, then its library is started,
 * then harness_run() with its functions. One time is that of the slowest rank, from a
 * start that all ranks make together: the library's own barrier, so that nothing of it
 * is on its way, and then a barrier through a file that all ranks map, so that what is
 * measured does not decide when they begin. All ranks run on one machine, each on one
 * core; network namespaces are the hosts.
 *
 * Rank 0 prints 'peer,NAME' once and for each collective and size a line
 *
 *   row,collective,bytes,iterations,median_us,p99_us,min_us,wrong,near_before_ns,near_after_ns,busy_s,own_s,total_s
 *
 * bytes are those of the larger side of the operation, as in `sennit perf`. near_*: one way of a
 * cache line between ranks 0 and 1, right before and right after (0: not known). Meanwhile the
 * machine was busy for busy_s of total_s core seconds, own_s of them with these ranks.
 */
#ifndef PERF_PEERS_HARNESS_H
#define PERF_PEERS_HARNESS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum harness_collective {
	HARNESS_ALLREDUCE, HARNESS_REDUCE_SCATTER, HARNESS_ALLGATHER, HARNESS_BROADCAST, HARNESS_REDUCE,
	HARNESS_ALLTOALL, HARNESS_GATHER, HARNESS_SCATTER, HARNESS_BARRIER, HARNESS_COLLECTIVES
};

/* Sum of float32; rank 0 is the root. */
struct harness_call {
	enum harness_collective collective;
	int in_place;      /* the buffers lie as sennit.h wants them; a broadcast always is */
	size_t count;      /* elements of one block */
	float *in, *out;
};

/* Functions that return int return 0, or anything else for failure. */
struct harness_peer {
	char name[128];    /* with the version */
	int has_threads;   /* that need the core which a rank would spin on */
	int is_bound;      /* no collective but a part of one: gives no result to prove */
	/* Gets ready for any number of runs; 0 or 'this library cannot do that'. May move @call->out
	 * to where the library leaves its result. */
	int (*prepare)(struct harness_call *call);
	int (*run)(void);
	void (*finish)(void);            /* what prepare made; may be NULL */
	int (*barrier)(void);
	void *(*get_memory)(size_t size);   /* NULL: ordinary private memory */
};

struct harness_place {
	int rank, ranks;
	const char *detail;   /* --detail: for the back end alone; never NULL */
};

/* Reads the options and the launcher's variables, binds this rank to its core, meets nobody yet.
 * Ends the program after a wrong option. */
const struct harness_place *harness_open(int argc, char **argv);
/* @size bytes that all ranks map, zeroed; every rank asks for the same in the same order. */
void *harness_shared(size_t size);
/* All that was asked for; the exit status. */
int harness_run(const struct harness_peer *peer);
double harness_now(void);   /* seconds */

#ifdef __cplusplus
}
#endif
#endif
