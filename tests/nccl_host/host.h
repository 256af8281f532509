/* SPDX-License-Identifier: BSD-3-Clause */
/* host.h - a host for network plugins that behaves as NCCL's proxy does: two processes, each with a service
 * thread that connects, registers and closes, and progress threads that send, receive and test. Profilers
 * and tuners get what NCCL gives them, in both processes alike.
 *
 * What is written over with rubbish before a call is what NCCL leaves there: an old request, a
 * hint, nothing. Whatever goes wrong ends the process with one line to the parent.
 */
#ifndef TESTS_NCCL_HOST_HOST_H
#define TESTS_NCCL_HOST_HOST_H

#include <stdatomic.h>

#include "plugins/nccl/abi.h"

#define HOST_OLDEST 6
#define HOST_NEWEST 12
#define HOST_WAIT_MS 20000
#define HOST_STALE ((void *)(uintptr_t)0x5a5a5a5a5a5a5a50)

/* ---- net.c: a plugin, as if there were one version ------------------------ */

struct host_scenario;
/* What a library may be for NCCL, under which symbol. */
struct host_kind {
	const char *name, *symbol;
	int oldest, newest;
	const struct host_scenario *scenarios;
	const int *scenario_count;
};
extern const struct host_kind host_kinds[];      /* until one without a name; the first is the network */

struct host_net {
	void *library;
	const void *table;
	const char *name;
	int version, traffic_class;
};

/* Loads by NCCL's rules for names: 0, or -1 with the reason in @why. */
int host_load(const char *name, void **library, char *why, size_t room);
const void *host_find(void *library, const struct host_kind *kind, int version);         /* NULL: not exported */
int host_open(struct host_net *net, const char *name, const struct host_kind *kind, int version, char *why, size_t room);
int host_init(const struct host_net *net, void **context, nccl_logger logger);
int host_finalize(const struct host_net *net, void *context);
int host_devices(const struct host_net *net, int *count);
int host_properties(const struct host_net *net, int device, struct nccl_properties_v12 *properties);
int host_can_merge(const struct host_net *net);
int host_merge(const struct host_net *net, int *device, const int *members, int count);
/* A hint before what it is about; 0 too where there is no such call. */
int host_set_attributes(const struct host_net *net, void *context);
int host_listen(const struct host_net *net, void *context, int device, void *handle, void **comm);
int host_connect(const struct host_net *net, void *context, int device, void *handle, void **comm);
int host_accept(const struct host_net *net, void *listen_comm, void **comm);
int host_register(const struct host_net *net, void *comm, void *data, size_t size, void **memory);
int host_deregister(const struct host_net *net, void *comm, void *memory);
int host_isend(const struct host_net *net, void *comm, void *data, size_t size, int tag, void *memory, void **request);
struct host_buffers { int count; void *data[NCCL_MAX_RECVS]; size_t sizes[NCCL_MAX_RECVS]; int tags[NCCL_MAX_RECVS];
		      void *memories[NCCL_MAX_RECVS]; };
int host_irecv(const struct host_net *net, void *comm, struct host_buffers *buffers, void **request);
int host_iflush(const struct host_net *net, void *comm, struct host_buffers *buffers, void **request);
int host_test(const struct host_net *net, void *request, int *done, int *sizes);
int host_close_send(const struct host_net *net, void *comm);
int host_close_recv(const struct host_net *net, void *comm);
int host_events_open(void);                     /* of the profiler: started and not stopped */
int host_close_listen(const struct host_net *net, void *comm);
const char *host_result_name(int result);

/* ---- pair.c: the two processes -------------------------------------------- */

struct host_options {
	const char *plugin, *scenario, *namespaces, *second;   /* second: a variable of rank 1 alone, NAME=VALUE */
	const struct host_kind *kind;
	int version;                    /* 0: all that there are */
	uint64_t seed, schedules, messages, size;
	int depth, channels, rounds;            /* of a measurement */
	const char *beside;                     /* ... and what else is measured */
	int devices[2];                         /* of each rank */
	int traffic_class;                      /* -1: none */
	int merge, measure, threads, list, help;
};

struct host_rank {
	const struct host_options *options;
	struct host_net net;
	int rank, version, device, is_merged;
	uint64_t seed;
	void *context;
	int other, report;              /* the other rank; the parent */
	void (*body)(struct host_rank *rank);
};

/* Runs @body in two processes: 0; otherwise @why has the first complaint. */
int host_run_pair(const struct host_options *options, int version, void (*body)(struct host_rank *rank), char *why,
		  size_t room);
void host_fail(struct host_rank *rank, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
/* Fails unless @result is success. */
void host_must(struct host_rank *rank, int result, const char *what);
void host_swap(struct host_rank *rank, const void *mine, void *theirs, size_t size);
void host_barrier(struct host_rank *rank);
void host_say(struct host_rank *rank, const char *format, ...) __attribute__((format(printf, 2, 3)));
int host_device(struct host_rank *rank);        /* the one to use */
void host_begin(struct host_rank *rank);        /* init, in the rank's context */
void host_end(struct host_rank *rank);
void host_log(int level, unsigned long subsystems, const char *function, int line, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
int host_warnings(void);                        /* lines so far */
const char *host_last_warning(void);
void host_forget_warnings(void);
int host_descriptors(void);                     /* open ones of this process */

/* A comm for each direction between the two, and the service thread's calls for them in turn. */
struct host_link { void *send, *recv; };
void host_connect_pair(struct host_rank *rank, void *context, struct host_link *link);
void host_close_pair(struct host_rank *rank, struct host_link *link);

uint64_t host_random(uint64_t *state);
uint64_t host_now_ns(void);

/* ---- flow.c: the progress thread ------------------------------------------- */

/* What goes one way over one comm: groups of messages, the same on both sides for the same seed. */
struct host_shape {
	uint64_t seed, groups;
	int depth, most_parts;
	const size_t *sizes;
	int size_count;
	int short_percent, empty_percent;
};

struct host_part { int tag; size_t room, size; uint64_t salt; };
struct host_group { int count; struct host_part parts[NCCL_MAX_RECVS]; int order[NCCL_MAX_RECVS]; };

struct host_slot { void *requests[NCCL_MAX_RECVS]; int posted, done; struct host_group group; };

struct host_flow {
	struct host_rank *rank;
	struct host_shape shape;
	void *comm, *memory;
	int is_send;
	uint64_t posted, done;          /* groups */
	struct host_slot *slots;        /* shape.depth of them */
	char *bytes;
	size_t part_room;
	uint64_t random;
};

/* The flows of one progress thread. */
struct host_work {
	struct host_rank *rank;
	struct host_flow *flows;
	int count;
	atomic_int stop;                /* leave with work in flight */
	int tolerant, result;           /* tolerant: the first error ends it, and is in result */
};

void host_flow_open(struct host_flow *flow, struct host_rank *rank, void *comm, int is_send, const struct host_shape *shape);
void host_flow_close(struct host_flow *flow);   /* deregisters and frees */
void host_work_run(struct host_work *work);     /* until all is done, or it shall stop */
void *host_work_thread(void *work);
/* Both directions of @link at once, in this thread. */
void host_exchange(struct host_rank *rank, const struct host_link *link, const struct host_shape *shape);

extern const size_t host_sizes[];
extern const int host_size_count;

/* ---- scenarios*.c, measure.c -------------------------------- */

/* apart: needs two processes. */
struct host_scenario { const char *name, *about; void (*body)(struct host_rank *rank); int slow, apart; };
extern const struct host_scenario host_scenarios[];
extern const int host_scenario_count;
extern const struct host_scenario host_profiler_scenarios[], host_tuner_scenarios[];
extern const int host_profiler_scenario_count, host_tuner_scenario_count;

void host_scenario_merge(struct host_rank *rank);
void host_scenario_naps(struct host_rank *rank);
void host_scenario_abort(struct host_rank *rank);
void host_scenario_frozen(struct host_rank *rank);
void host_scenario_abandon(struct host_rank *rank);
void host_scenario_cycles(struct host_rank *rank);
void host_scenario_death(struct host_rank *rank);
void host_scenario_foreign(struct host_rank *rank);
void host_scenario_fork(struct host_rank *rank);
void host_scenario_farewell(struct host_rank *rank);
void host_scenario_silence(struct host_rank *rank);
void host_scenario_schedules(struct host_rank *rank);

void host_measure(struct host_rank *rank);

#endif
