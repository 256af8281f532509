/* SPDX-License-Identifier: BSD-3-Clause */
/* scenarios_gpu.c - messages in a GPU's memory, registered both ways and flushed, as far as the plugin advertises it; and that
 * it refuses what it does not.
 */
#include "tests/nccl_host/host.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Neither begins where its allocation does. */
enum { ROOM = 1 << 20, PAGE = 4096, IN_PAGE = 128, GUARD = 64 };

/* ---- CUDA's driver, without its headers ------------------------------------------ */

static struct {
	int (*init)(unsigned flags);
	int (*retain)(void **context, int device);
	int (*enter)(void *context);
	int (*alloc)(uint64_t *pointer, size_t size);
	int (*release)(uint64_t pointer);
	int (*copy)(uint64_t to, uint64_t from, size_t size);
	int (*handle)(void *handle, uint64_t pointer, size_t size, int type, unsigned long long flags);
} cuda;

static int find_calls(void *library)
{
	static const struct { const char *name; void **at; } calls[] = {
		{ "cuInit", (void **)&cuda.init }, { "cuDevicePrimaryCtxRetain", (void **)&cuda.retain },
		{ "cuCtxSetCurrent", (void **)&cuda.enter }, { "cuMemAlloc_v2", (void **)&cuda.alloc },
		{ "cuMemFree_v2", (void **)&cuda.release }, { "cuMemcpy", (void **)&cuda.copy },
		{ "cuMemGetHandleForAddressRange", (void **)&cuda.handle },
	};

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (!(*calls[i].at = dlsym(library, calls[i].name)))
			return -1;
	return 0;
}

static int is_missing;

static void load(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	is_missing = !library || find_calls(library);
}

static void enter_gpu(struct host_rank *rank)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	void *context;

	pthread_once(&once, load);
	if (is_missing || cuda.init(0) || cuda.retain(&context, 0) || cuda.enter(context))
		host_fail(rank, "a device says that it takes a GPU's memory, and there is no GPU");
}

static void copy(struct host_rank *rank, void *to, const void *from, size_t size)
{
	if (size && cuda.copy((uintptr_t)to, (uintptr_t)from, size))
		host_fail(rank, "CUDA does not copy %zu bytes", size);
}

/* ---- messages ---------------------------------------------------------------------- */

/* Where one side's messages are: of a GPU, with or without a dmabuf, or of the host. */
enum kind { OF_HOST, OF_GPU, OF_GPU_BY_DMABUF };
struct place { enum kind kind; char *base, *data; void *memory; };

static void register_gpu(struct host_rank *rank, void *comm, struct place *place)
{
	int fd = -1;

	if (place->kind == OF_GPU_BY_DMABUF && cuda.handle(&fd, (uintptr_t)place->base, ROOM + PAGE, 1, 0))
		host_fail(rank, "CUDA gives no dmabuf");
	host_must(rank, host_register_gpu(&rank->net, comm, place->data, ROOM, (uint64_t)(place->data - place->base), fd,
					  &place->memory), "regMr of a GPU's memory");
	/* Whoever wants it for longer has to have a copy. */
	if (fd >= 0)
		close(fd);
}

static void get(struct host_rank *rank, void *comm, struct place *place, enum kind kind)
{
	uint64_t at = 0;

	*place = (struct place){ .kind = kind };
	if (kind == OF_HOST)
		place->base = malloc(ROOM + PAGE);
	else if (!cuda.alloc(&at, ROOM + PAGE))
		place->base = (char *)(uintptr_t)at;
	if (!place->base)
		host_fail(rank, "out of memory");
	place->data = place->base + (kind == OF_GPU_BY_DMABUF ? PAGE : IN_PAGE);
	if (kind == OF_HOST)
		host_must(rank, host_register(&rank->net, comm, place->data, ROOM, &place->memory), "regMr");
	else
		register_gpu(rank, comm, place);
}

static void put(struct host_rank *rank, void *comm, struct place *place)
{
	host_must(rank, host_deregister(&rank->net, comm, place->memory), "deregMr");
	if (place->kind == OF_HOST)
		free(place->base);
	else if (cuda.release((uintptr_t)place->base))
		host_fail(rank, "CUDA does not free");
}

static void move(struct host_rank *rank, const struct place *place, void *to, const void *from, size_t size)
{
	if (place->kind == OF_HOST)
		memcpy(to, from, size);
	else
		copy(rank, to, from, size);
}

static void wait_for(struct host_rank *rank, void *request, int *size)
{
	uint64_t start = host_now_ns();
	int done = 0;

	while (!done) {
		host_must(rank, host_test(&rank->net, request, &done, size), "test");
		if (host_now_ns() - start > HOST_WAIT_MS * 1000000ull)
			host_fail(rank, "a message never ends");
	}
}

static void fill(char *bytes, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (char)(seed + i * 7 + (i >> 8) * 13);
}

static void send_one(struct host_rank *rank, void *comm, const struct place *place, size_t size, uint64_t seed)
{
	uint64_t start = host_now_ns();
	char *bytes = malloc(size + 1);
	void *request;

	fill(bytes, size, seed);
	move(rank, place, place->data, bytes, size);
	do {
		host_must(rank, host_isend(&rank->net, comm, place->data, size, 1, place->memory, &request), "isend");
		if (host_now_ns() - start > HOST_WAIT_MS * 1000000ull)
			host_fail(rank, "a send is never taken");
	} while (!request);
	wait_for(rank, request, NULL);
	free(bytes);
}

/* As NCCL does, it flushes before it looks. */
static void flush(struct host_rank *rank, void *comm, struct host_buffers *b, int size)
{
	void *request;

	b->sizes[0] = (size_t)size;
	host_must(rank, host_iflush(&rank->net, comm, b, &request), "iflush");
	if (request)
		wait_for(rank, request, NULL);
}

static void receive_one(struct host_rank *rank, void *comm, struct place *place, size_t size, uint64_t seed)
{
	struct host_buffers b = { .count = 1, .data = { place->data }, .sizes = { ROOM - GUARD }, .tags = { 1 },
		.memories = { place->memory } };
	char *want = malloc(size + GUARD), *got = malloc(size + GUARD);
	void *request;
	int came = -1;

	fill(want, size, seed);
	memset(want + size, 0x77, GUARD);
	memset(got, 0x77, size + GUARD);
	move(rank, place, place->data, got, size + GUARD);
	do
		host_must(rank, host_irecv(&rank->net, comm, &b, &request), "irecv");
	while (!request);
	wait_for(rank, request, &came);
	if (came != (int)size)
		host_fail(rank, "%d bytes instead of %zu in a GPU's memory", came, size);
	if (size)
		flush(rank, comm, &b, came);
	move(rank, place, got, place->data, size + GUARD);
	if (memcmp(got, want, size + GUARD))
		host_fail(rank, "%zu bytes arrive damaged in memory of kind %d", size, place->kind);
	free(want);
	free(got);
}

static void exchange(struct host_rank *rank, const struct host_link *link, enum kind from, enum kind to)
{
	static const size_t sizes[] = { 16, 0, 200, 4096, 8192, 65536, ROOM - GUARD };
	void *comm = rank->rank ? link->send : link->recv;
	struct place place;

	get(rank, comm, &place, rank->rank ? from : to);
	for (uint64_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
		size_t size = sizes[i % (sizeof sizes / sizeof *sizes)];

		if (rank->rank)
			send_one(rank, comm, &place, size, i);
		else
			receive_one(rank, comm, &place, size, i);
	}
	put(rank, comm, &place);
	host_barrier(rank);
}

/* What is not advertised is refused. */
static void refuse(struct host_rank *rank, const struct host_link *link)
{
	char bytes[64];
	void *memory;

	if (host_register_gpu(&rank->net, link->recv, bytes, sizeof bytes, 0, -1, &memory) == NCCL_SUCCESS)
		host_fail(rank, "regMr takes a GPU's memory, which the properties do not say");
	if (memory)
		host_fail(rank, "regMr fails and leaves a handle");
	/* In one process the other rank's are among them. */
	if (host_warnings() != 1 && !rank->options->threads)
		host_fail(rank, "%d warnings for one error", host_warnings());
	host_forget_warnings();
}

void host_scenario_gpu(struct host_rank *rank)
{
	struct nccl_properties_v12 properties;
	struct host_link link;

	host_begin(rank);
	host_must(rank, host_properties(&rank->net, host_device(rank), &properties), "getProperties");
	host_connect_pair(rank, rank->context, &link);
	if (!(properties.pointers & NCCL_PTR_CUDA)) {
		refuse(rank, &link);
	} else {
		enter_gpu(rank);
		for (int from = 0; from < 3; from++)
			for (int to = 0; to < 3; to++)
				if (properties.pointers & NCCL_PTR_DMABUF || (from < 2 && to < 2))
					exchange(rank, &link, (enum kind)from, (enum kind)to);
		host_log(NCCL_LOG_INFO, NCCL_LOG_NET, "host", 0, "memory of a GPU went both ways");
	}
	host_barrier(rank);
	host_close_pair(rank, &link);
	host_end(rank);
}
