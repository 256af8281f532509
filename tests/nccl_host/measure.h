/* SPDX-License-Identifier: BSD-3-Clause */
/* measure.h - the ways to move messages that are measured in turns: all with the same sizes, depth and places in memory. */
#ifndef TESTS_NCCL_HOST_MEASURE_H
#define TESTS_NCCL_HOST_MEASURE_H

#include "tests/nccl_host/host.h"

#include <netinet/in.h>

#define HOST_MOST_BYTES ((size_t)1 << 20)
enum { HOST_CHANNELS = 16, HOST_DEPTH = 1024 };

struct host_way;

struct host_way_kind {
	void (*open)(struct host_way *way);
	void (*close)(struct host_way *way);
	/* @count messages of @size bytes, one way. */
	void (*move)(struct host_way *way, int is_send, size_t size, uint64_t count);
	/* Of those that move by host_move_deep: whether the message was taken; whether it is done. */
	int (*post)(struct host_way *way, int is_send, size_t size, uint64_t index);
	int (*test)(struct host_way *way, uint64_t index);
};

struct host_way {
	const struct host_way_kind *kind;
	char name[16];
	struct host_rank *rank;
	char *out, *in;                 /* a place of HOST_MOST_BYTES for each message in flight */
	int channels, depth;            /* depth: of all channels together */
	void *own;                      /* the kind's */
};

extern const struct host_way_kind host_way_plugin, host_way_tcp, host_way_sockets;

/* Channel after channel, so many in flight at once, and the oldest is tested: as NCCL's progress thread does. */
void host_move_deep(struct host_way *way, int is_send, size_t size, uint64_t count);
/* As it does when it finds nothing to do. */
void host_wait_a_little(struct host_way *way, uint64_t start);
/* Where message @index is. */
static inline char *host_place(const struct host_way *way, int is_send, uint64_t index)
{
	return (is_send ? way->out : way->in) + index % (uint64_t)way->depth * HOST_MOST_BYTES;
}

/* A way that is another plugin, or a pattern of sockets with helpers: what stands in --beside. */
void host_way_plugin_set(struct host_way *way, const char *plugin);
/* 0; -1: @text makes no sense. "THREADSxSOCKETS", or "": all on one socket, without threads. */
int host_way_sockets_set(struct host_way *way, const char *text);

/* One connection each way over loopback: a socket to send on and one to receive from. */
void host_tcp_connect(struct host_rank *rank, int *out, int *in);

#endif
