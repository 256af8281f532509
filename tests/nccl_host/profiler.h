/* SPDX-License-Identifier: BSD-3-Clause */
/* profiler.h - for the scenarios of profilers: calls as NCCL makes them, and the files that come of them. */
#ifndef TESTS_NCCL_HOST_PROFILER_H
#define TESTS_NCCL_HOST_PROFILER_H

#include "plugins/nccl/nccl_profiler.h"
#include "tests/nccl_host/host.h"

#define HOST_FILE_ROOM ((size_t)16 << 20)

/* One communicator of this process, which is its rank @number. */
struct host_profiler { struct host_rank *rank; uint64_t comm; int number, mask; void *context; };

int host_profiler_init(struct host_profiler *profiler, const char *name);
void host_profiler_begin(struct host_profiler *profiler, struct host_rank *rank, uint64_t comm, int number);
void host_profiler_end(struct host_profiler *profiler);
void *host_profiler_start(const struct host_profiler *profiler, struct nccl_event_v6 *event);
void host_profiler_state(const struct host_profiler *profiler, void *handle, int state, size_t size);
void host_profiler_stop(const struct host_profiler *profiler, void *handle);

void host_profiler_collective(const struct host_profiler *profiler, const char *function);
void *host_profiler_op(const struct host_profiler *profiler, int peer, int is_send, int pid);
void *host_profiler_step(const struct host_profiler *profiler, void *op, int number);
void host_profiler_request(const struct host_profiler *profiler, void *step, int nic);

/* One operation of @count messages of @size, @size + 1 ... bytes, each of which waits so long for what; depth
 * of them are under way, or 8. */
struct host_channel { const struct host_profiler *profiler; int peer, nic, depth; unsigned gpu_us, peer_us, wire_us; };
void host_profiler_send(const struct host_channel *channel, int count, size_t size);
void host_profiler_receive(const struct host_channel *channel, int count, size_t size);

void host_file_name(struct host_rank *rank, char *path, size_t room, const char *what);
char *host_file_read(struct host_rank *rank, const char *path);         /* to be freed */
unsigned long long host_file_sum(const char *text, const char *words, const char *key);

#endif
