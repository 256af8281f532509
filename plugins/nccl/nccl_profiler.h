/* SPDX-License-Identifier: BSD-3-Clause */
/* nccl_profiler.h - NCCL's interface to profilers, versions 4 to 6: the order of the fields is all there is to it.
 *
 * NCCL 2.27 takes v4, 2.28 v5, 2.29 and later v6; those that know v7 take v6 as well. What a union holds
 * follows from the type of the event. Versions differ in the width of the type, and in what was appended.
 */
#ifndef PLUGINS_NCCL_NCCL_PROFILER_H
#define PLUGINS_NCCL_NCCL_PROFILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plugins/nccl/abi.h"

/* Types of events; the mask of those that are wanted is made of the same bits. */
enum {
	NCCL_EVENT_GROUP = 1 << 0, NCCL_EVENT_COLL = 1 << 1, NCCL_EVENT_P2P = 1 << 2, NCCL_EVENT_PROXY_OP = 1 << 3,
	NCCL_EVENT_PROXY_STEP = 1 << 4, NCCL_EVENT_PROXY_CONTROL = 1 << 5, NCCL_EVENT_KERNEL_CHANNEL = 1 << 6,
	NCCL_EVENT_NETWORK = 1 << 7,
	/* since v5 */
	NCCL_EVENT_GROUP_API = 1 << 8, NCCL_EVENT_COLL_API = 1 << 9, NCCL_EVENT_P2P_API = 1 << 10,
	NCCL_EVENT_KERNEL_LAUNCH = 1 << 11,
	/* since v6: collectives by the GPU's copy engines */
	NCCL_EVENT_COPY_COLL = 1 << 12, NCCL_EVENT_COPY_SYNC = 1 << 13, NCCL_EVENT_COPY_BATCH = 1 << 14,
};

/* States of events; 0 to 7 are no longer used. */
enum {
	NCCL_STATE_SEND_GPU_WAIT = 8, NCCL_STATE_SEND_WAIT = 9, NCCL_STATE_RECV_WAIT = 10,
	NCCL_STATE_RECV_FLUSH_WAIT = 11, NCCL_STATE_RECV_GPU_WAIT = 12, NCCL_STATE_CONTROL_IDLE = 13,
	NCCL_STATE_OP_IN_PROGRESS = 19, NCCL_STATE_SEND_PEER_WAIT = 20, NCCL_STATE_NETWORK_UPDATE = 21,
	NCCL_STATE_KERNEL_STOP = 22,
};

/* The plugin of a network's own event is its kind shifted by this, and a version. */
#define NCCL_NETWORK_KIND_SHIFT 16
enum { NCCL_NETWORK_IB = 1, NCCL_NETWORK_SOCKET = 2 };
/* What NCCL's own InfiniBand says about a work request, version 1. */
struct nccl_network_ib_v1 {
	uint8_t type;
	struct { int device; uint64_t work; int opcode, number; size_t length; } queue_pair;
};

#define NCCL_EVENT_COLL_FIELDS \
	uint64_t sequence; \
	const char *function; \
	const void *send; \
	void *receive; \
	size_t count; \
	int root; \
	const char *datatype; \
	uint8_t channels, warps; \
	const char *algorithm, *protocol
#define NCCL_EVENT_P2P_FIELDS \
	const char *function; \
	void *buffer; \
	const char *datatype; \
	size_t count; \
	int peer; \
	uint8_t channels

/* An operation of the proxy: one channel to one peer. The process is another's when its GPU's traffic passes here. */
struct nccl_event_proxy_op { int pid; uint8_t channel; int peer, steps, chunk, is_send; };
struct nccl_event_proxy_step { int step; };
struct nccl_event_kernel_channel { uint8_t channel; uint64_t timer; };
struct nccl_event_network { int64_t plugin; void *data; };

#define NCCL_EVENT_PROXY_MEMBERS \
	struct nccl_event_proxy_op proxy_op; \
	struct nccl_event_proxy_step proxy_step; \
	struct nccl_event_kernel_channel kernel_channel; \
	struct nccl_event_network network
#define NCCL_EVENT_MEMBERS_SINCE_5 \
	struct { bool is_captured; int depth; } group_api; \
	struct { const char *function; size_t count; const char *datatype; int root; void *stream; bool is_captured; } coll_api; \
	struct { const char *function; size_t count; const char *datatype; void *stream; bool is_captured; } p2p_api; \
	struct { void *stream; } kernel_launch; \
	struct { NCCL_EVENT_COLL_FIELDS; void *group; } coll; \
	struct { NCCL_EVENT_P2P_FIELDS; void *group; } p2p; \
	NCCL_EVENT_PROXY_MEMBERS

struct nccl_event_v4 {
	uint8_t type;
	void *parent;
	int rank;
	union {
		struct { NCCL_EVENT_COLL_FIELDS; } coll;
		struct { NCCL_EVENT_P2P_FIELDS; } p2p;
		NCCL_EVENT_PROXY_MEMBERS;
	};
};

struct nccl_event_v5 {
	uint64_t type;
	void *parent;
	int rank;
	union { NCCL_EVENT_MEMBERS_SINCE_5; };
};

struct nccl_event_v6 {
	uint64_t type;
	void *parent;
	int rank;
	union {
		NCCL_EVENT_MEMBERS_SINCE_5;
		struct {
			uint64_t sequence;
			const char *function;
			const void *send;
			void *receive;
			size_t count;
			int root;
			const char *datatype, *strategy;
			bool is_synced;
			uint32_t batch, batches, number;
			void *stream;
		} copy_coll;
		struct { bool is_complete; int ranks; } copy_sync;
		struct { int operations; size_t bytes; bool is_synced; } copy_batch;
	};
};

/* What comes with a state, if anything does. */
union nccl_event_arguments {
	struct { size_t size; } proxy_step;
	struct { int appended; } proxy_control;
	struct { void *data; } network;
	struct { uint64_t timer; } kernel_channel;
};

#define NCCL_PROFILER_STOP_TO_FINALIZE \
	int (*stop_event)(void *event); \
	int (*record_state)(void *event, int state, union nccl_event_arguments *arguments); \
	int (*finalize)(void *context)

struct nccl_profiler_v4 {
	const char *name;
	int (*init)(void **context, int *mask, const char *comm_name, uint64_t comm, int nodes, int ranks, int rank,
		    nccl_logger logger);
	int (*start_event)(void *context, void **event, struct nccl_event_v4 *description);
	NCCL_PROFILER_STOP_TO_FINALIZE;
};

struct nccl_profiler_v5 {
	const char *name;
	int (*init)(void **context, uint64_t comm, int *mask, const char *comm_name, int nodes, int ranks, int rank,
		    nccl_logger logger);
	int (*start_event)(void *context, void **event, struct nccl_event_v5 *description);
	NCCL_PROFILER_STOP_TO_FINALIZE;
};

struct nccl_profiler_v6 {
	const char *name;
	int (*init)(void **context, uint64_t comm, int *mask, const char *comm_name, int nodes, int ranks, int rank,
		    nccl_logger logger);
	int (*start_event)(void *context, void **event, struct nccl_event_v6 *description);
	NCCL_PROFILER_STOP_TO_FINALIZE;
};

#if defined(__LP64__)
#define NCCL_AT(type, field, offset) _Static_assert(offsetof(struct type, field) == (offset), #type "." #field)
#define NCCL_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)

NCCL_SIZE(nccl_network_ib_v1, 40);
NCCL_AT(nccl_network_ib_v1, queue_pair.device, 8);
NCCL_AT(nccl_network_ib_v1, queue_pair.length, 32);
NCCL_SIZE(nccl_event_proxy_op, 24);
NCCL_AT(nccl_event_proxy_op, channel, 4);
NCCL_AT(nccl_event_proxy_op, peer, 8);
NCCL_AT(nccl_event_proxy_op, steps, 12);
NCCL_AT(nccl_event_proxy_op, chunk, 16);
NCCL_AT(nccl_event_proxy_op, is_send, 20);
NCCL_SIZE(nccl_event_kernel_channel, 16);
NCCL_SIZE(nccl_event_network, 16);
NCCL_AT(nccl_event_network, data, 8);
_Static_assert(sizeof(union nccl_event_arguments) == 8, "arguments of a state");

#define NCCL_EVENT_PLACES(type) \
	NCCL_AT(type, parent, 8); NCCL_AT(type, rank, 16); NCCL_AT(type, coll, 24); NCCL_AT(type, p2p, 24); \
	NCCL_AT(type, proxy_op, 24); NCCL_AT(type, proxy_step, 24); NCCL_AT(type, kernel_channel, 24); \
	NCCL_AT(type, network, 24); NCCL_AT(type, coll.function, 32); NCCL_AT(type, coll.send, 40); \
	NCCL_AT(type, coll.receive, 48); NCCL_AT(type, coll.count, 56); NCCL_AT(type, coll.root, 64); \
	NCCL_AT(type, coll.datatype, 72); NCCL_AT(type, coll.channels, 80); NCCL_AT(type, coll.warps, 81); \
	NCCL_AT(type, coll.algorithm, 88); NCCL_AT(type, coll.protocol, 96); NCCL_AT(type, p2p.function, 24); \
	NCCL_AT(type, p2p.buffer, 32); NCCL_AT(type, p2p.datatype, 40); NCCL_AT(type, p2p.count, 48); \
	NCCL_AT(type, p2p.peer, 56); NCCL_AT(type, p2p.channels, 60)
NCCL_EVENT_PLACES(nccl_event_v4);
NCCL_EVENT_PLACES(nccl_event_v5);
NCCL_EVENT_PLACES(nccl_event_v6);
#define NCCL_EVENT_PLACES_SINCE_5(type) \
	NCCL_AT(type, coll.group, 104); NCCL_AT(type, p2p.group, 64); NCCL_AT(type, group_api.depth, 28); \
	NCCL_AT(type, coll_api.count, 32); NCCL_AT(type, coll_api.datatype, 40); NCCL_AT(type, coll_api.root, 48); \
	NCCL_AT(type, coll_api.stream, 56); NCCL_AT(type, coll_api.is_captured, 64); NCCL_AT(type, p2p_api.stream, 48); \
	NCCL_AT(type, p2p_api.is_captured, 56); NCCL_AT(type, kernel_launch, 24)
NCCL_EVENT_PLACES_SINCE_5(nccl_event_v5);
NCCL_EVENT_PLACES_SINCE_5(nccl_event_v6);
NCCL_SIZE(nccl_event_v4, 104);
NCCL_SIZE(nccl_event_v5, 112);
NCCL_SIZE(nccl_event_v6, 112);
NCCL_AT(nccl_event_v6, copy_coll.function, 32);
NCCL_AT(nccl_event_v6, copy_coll.strategy, 80);
NCCL_AT(nccl_event_v6, copy_coll.is_synced, 88);
NCCL_AT(nccl_event_v6, copy_coll.batch, 92);
NCCL_AT(nccl_event_v6, copy_coll.number, 100);
NCCL_AT(nccl_event_v6, copy_coll.stream, 104);
NCCL_AT(nccl_event_v6, copy_batch.bytes, 32);

#define NCCL_PROFILER_PLACES(type) \
	NCCL_SIZE(type, 48); NCCL_AT(type, init, 8); NCCL_AT(type, start_event, 16); NCCL_AT(type, stop_event, 24); \
	NCCL_AT(type, record_state, 32); NCCL_AT(type, finalize, 40)
NCCL_PROFILER_PLACES(nccl_profiler_v4);
NCCL_PROFILER_PLACES(nccl_profiler_v5);
NCCL_PROFILER_PLACES(nccl_profiler_v6);
#undef NCCL_PROFILER_PLACES
#undef NCCL_EVENT_PLACES_SINCE_5
#undef NCCL_EVENT_PLACES
#undef NCCL_SIZE
#undef NCCL_AT
#endif

#endif
