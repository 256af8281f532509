/* SPDX-License-Identifier: BSD-3-Clause */
/* nccl_tuner.h - NCCL's interface to tuners, versions 4 to 6: the order of the fields is all there is to it.
 *
 * NCCL 2.24 to 2.27 take v4, 2.28 and 2.29 v5, 2.30 and later v6; those that know v7 take v6 as well.
 */
#ifndef PLUGINS_NCCL_NCCL_TUNER_H
#define PLUGINS_NCCL_NCCL_TUNER_H

#include <stddef.h>
#include <stdint.h>

#include "plugins/nccl/abi.h"

enum { NCCL_LOG_TUNING = 0x40 };

/* The collectives that are tuned. */
enum { NCCL_BROADCAST, NCCL_REDUCE, NCCL_ALLGATHER, NCCL_REDUCE_SCATTER, NCCL_ALLREDUCE, NCCL_TUNED };
enum {
	NCCL_TREE, NCCL_RING, NCCL_COLLNET_DIRECT, NCCL_COLLNET_CHAIN, NCCL_NVLS, NCCL_NVLS_TREE, NCCL_PAT,
	NCCL_ALGORITHMS,
};
enum { NCCL_LL, NCCL_LL128, NCCL_SIMPLE, NCCL_PROTOCOLS };
#define NCCL_IMPOSSIBLE (-1.0f)         /* the cost of what cannot be; it stays so */

struct nccl_nvlink_domains { int count, least_ranks, most_ranks; };
struct nccl_tuner_constants {
	double base_latencies[NCCL_ALGORITHMS][NCCL_PROTOCOLS];
	double link_latencies[3][NCCL_ALGORITHMS][NCCL_PROTOCOLS];      /* NVLink, PCI, network */
	double ll_bandwidths[4][3];             /* Volta, Ampere, Hopper, Blackwell; 1, 2, 4 and more nodes */
	double ring_ll128_bandwidths[4][3], tree_ll128_bandwidths[4][3], tree_bandwidths[4][3], nvls_tree_bandwidths[4][3];
};

/* @costs is float[algorithms][protocols], whatever its type says. */
#define NCCL_TUNER_CHOOSE \
	int (*choose)(void *context, int function, size_t bytes, int operations, float **costs, int algorithms, \
		      int protocols, int is_registered, int *channels)

struct nccl_tuner_v4 {
	const char *name;
	int (*init)(size_t ranks, size_t nodes, nccl_logger logger, void **context);
	NCCL_TUNER_CHOOSE;
	int (*destroy)(void *context);
};

#define NCCL_TUNER_SINCE_5 \
	const char *name; \
	int (*init)(void **context, uint64_t comm, size_t ranks, size_t nodes, nccl_logger logger, \
		    struct nccl_nvlink_domains *domains, struct nccl_tuner_constants *constants); \
	NCCL_TUNER_CHOOSE; \
	int (*finalize)(void *context)

struct nccl_tuner_v5 { NCCL_TUNER_SINCE_5; };
struct nccl_tuner_v6 {
	NCCL_TUNER_SINCE_5;
	/* may be NULL: NCCL's own chunks then stay */
	int (*chunk)(void *context, int function, size_t bytes, int algorithm, int protocol, int channels, size_t *chunk);
};

#if defined(__LP64__)
#define NCCL_AT(type, field, offset) _Static_assert(offsetof(struct type, field) == (offset), #type "." #field)
#define NCCL_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)

NCCL_SIZE(nccl_nvlink_domains, 12);
NCCL_SIZE(nccl_tuner_constants, 1152);
NCCL_AT(nccl_tuner_constants, link_latencies, 168);
NCCL_AT(nccl_tuner_constants, ll_bandwidths, 672);
NCCL_AT(nccl_tuner_constants, ring_ll128_bandwidths, 768);
NCCL_AT(nccl_tuner_constants, tree_ll128_bandwidths, 864);
NCCL_AT(nccl_tuner_constants, tree_bandwidths, 960);
NCCL_AT(nccl_tuner_constants, nvls_tree_bandwidths, 1056);
NCCL_SIZE(nccl_tuner_v4, 32);
NCCL_AT(nccl_tuner_v4, init, 8);
NCCL_AT(nccl_tuner_v4, choose, 16);
NCCL_AT(nccl_tuner_v4, destroy, 24);
NCCL_SIZE(nccl_tuner_v5, 32);
NCCL_AT(nccl_tuner_v5, init, 8);
NCCL_AT(nccl_tuner_v5, choose, 16);
NCCL_AT(nccl_tuner_v5, finalize, 24);
NCCL_SIZE(nccl_tuner_v6, 40);
NCCL_AT(nccl_tuner_v6, init, 8);
NCCL_AT(nccl_tuner_v6, choose, 16);
NCCL_AT(nccl_tuner_v6, finalize, 24);
NCCL_AT(nccl_tuner_v6, chunk, 32);
#undef NCCL_SIZE
#undef NCCL_AT
#endif

#endif
