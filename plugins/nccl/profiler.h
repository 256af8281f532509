/* SPDX-License-Identifier: BSD-3-Clause */
/* profiler.h - the profiler without NCCL's versions: what is counted, and who counts, writes and formats it.
 *
 * NCCL tells of each step of a proxy operation, a message, in which state it is: waiting for the GPU, the
 * peer or the network. The time in each state is added up in rows, one for each communicator,
 * peer, NIC and direction. Up to eight steps of an operation are under way and go through each state in
 * order, so that all but the first wait for the first: added up naively, a late peer would count once as
 * such and seven times as a late GPU. So each moment of an operation counts once. While any step
 * is with the network, that is what counts: the wire for sends, data for receives. Otherwise it
 * is what the first step waits for.
 *
 * The path from NCCL takes no lock and allocates nothing: operations and rows come from pools of fixed
 * size. What finds its pool empty is counted as lost. A handle names a place in the pool and its
 * generation, so that one which has outlived its communicator, or is of another process, is
 * noticed; nothing is looked up through a pointer that NCCL gives but a context of this process.
 */
#ifndef PLUGINS_NCCL_PROFILER_H
#define PLUGINS_NCCL_PROFILER_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "plugins/nccl/nccl_profiler.h"

enum {
	SNTI_PROFILE_COMMS = 256, SNTI_PROFILE_OPS = 4096, SNTI_PROFILE_ROWS = 8192, SNTI_PROFILE_STEPS = 8,
	SNTI_PROFILE_HEADS = 64, SNTI_PROFILE_NAME = 64,
	SNTI_PROFILE_BUCKETS = 25,      /* up to 1 us, 2 us, ... 8.4 s, and beyond */
};

/* What a row counts. Times are in ns. */
enum snti_profile_count {
	SNTI_PROFILE_MESSAGES, SNTI_PROFILE_BYTES,
	SNTI_PROFILE_TRANSFER,          /* a send from isend to its completion, a receive from irecv to its data */
	SNTI_PROFILE_GPU, SNTI_PROFILE_PEER, SNTI_PROFILE_WIRE, SNTI_PROFILE_DATA, SNTI_PROFILE_FLUSH,
	SNTI_PROFILE_BUCKET,
	SNTI_PROFILE_COUNTS = SNTI_PROFILE_BUCKET + SNTI_PROFILE_BUCKETS,
};

enum { SNTI_PROFILE_NO_NIC = -1, SNTI_PROFILE_IB_NIC = 0x10000 };      /* ours are 0, 1 and so on */

struct snti_profile_row {
	atomic_uint next;               /* in its list: a place in the pool plus 1, or 0 */
	unsigned comm;
	int peer, nic, is_send;
	atomic_uint_least64_t counts[SNTI_PROFILE_COUNTS];
	uint64_t told[SNTI_PROFILE_COUNTS];     /* the writer's: what it has told of */
};

enum { SNTI_PROFILE_UNUSED, SNTI_PROFILE_LIVE, SNTI_PROFILE_ENDED };
enum { SNTI_PROFILE_FUNCTIONS = 16 };

struct snti_profile_comm {
	atomic_int state;
	uint64_t id, begun, ended;
	int nodes, ranks, rank;
	char name[SNTI_PROFILE_NAME];
	atomic_uint heads[SNTI_PROFILE_HEADS];  /* of lists of rows, by peer */
	atomic_uint_least64_t functions[SNTI_PROFILE_FUNCTIONS], lost_ops, lost_messages;
	uint64_t told_functions[SNTI_PROFILE_FUNCTIONS], told_at;
};

/* ---- profiler_events.c: the path from NCCL --------------------------------- */

/* Once; 0 or -1 without memory. */
int snti_profile_prepare(void);
/* These two one at a time. NULL: all are in use. */
struct snti_profile_comm *snti_profile_begin(uint64_t id, const char *name, uint64_t now);
void snti_profile_end(struct snti_profile_comm *comm, uint64_t now);
/* Where traffic of other processes on this host is counted that passes through this one. */
struct snti_profile_comm *snti_profile_strangers(void);
int snti_profile_has_strangers(void);           /* whether there was any */
struct snti_profile_comm *snti_profile_comm(unsigned index);

/* @context as the profiler has given it. Returns the event's handle, or NULL for one that needs no more calls. */
void *snti_profile_start(const void *context, const struct nccl_event_v6 *event, uint64_t now);
void snti_profile_record(void *handle, int state, const union nccl_event_arguments *arguments, uint64_t now);
void snti_profile_stop(void *handle, uint64_t now);

const char *snti_profile_function(int index);   /* NULL behind the last */
/* Calls @each for the rows of @comm; what they count may grow meanwhile. */
void snti_profile_each(struct snti_profile_comm *comm, void (*each)(struct snti_profile_row *row, void *argument),
		       void *argument);

/* ---- profiler_format.c: JSON lines and OpenMetrics -------------------------- */

struct snti_profile_report {
	FILE *to;
	struct snti_profile_comm *comm;
	uint64_t now, time_us;          /* monotonic ns; us since 1970 */
	char host[SNTI_PROFILE_NAME];
	int is_last;                    /* of this communicator */
};

/* What limited the transfers of one direction: the state that has at least half of the waiting. The states are NCCL's of
 * a proxy step; a send waits for the GPU to fill its buffer (SendGPUWait: gpu-late), for the peer to take it
 * (SendPeerWait: peer-late) and for the network to carry it (SendWait: wire-slow). A receive waits for data
 * (RecvWait: data-late, since only the sender knows whether it was late itself or its wire slow), for the flush
 * to the GPU (RecvFlushWait: flush-slow) and for the GPU to empty the buffer (RecvGPUWait: gpu-late). */
const char *snti_profile_verdict(const uint64_t counts[SNTI_PROFILE_COUNTS]);
void snti_profile_json_begin(const struct snti_profile_report *report);
/* What has changed since the last time, one line a row. */
void snti_profile_json(const struct snti_profile_report *report);
/* All of @count communicators since they began. */
void snti_profile_openmetrics(FILE *to, struct snti_profile_comm *const comms[], int count);
const char *snti_profile_nic_name(int nic, char *room, size_t size);

/* ---- profiler_write.c: the file, and who writes it when --------------------- */

/* 0, or -1: nothing is profiled, since nobody asked or for what the logger was told. */
int snti_profile_open(nccl_logger logger, int rank);
/* 0, or -1: it cannot be written, which was said. */
int snti_profile_opened(struct snti_profile_comm *comm);
void snti_profile_close(struct snti_profile_comm *comm);
int snti_profile_is_on(void);
/* All that is not on the path from NCCL happens between these two. */
void snti_profile_lock(void);
void snti_profile_unlock(void);
void snti_profile_log(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
