/* SPDX-License-Identifier: BSD-3-Clause */
/* profiler.c - a profiler, as if there were one version of the interface, and what NCCL's proxy tells it of a channel. */
#include "tests/nccl_host/profiler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "plugins/nccl/network_event.h"

#define V(n) ((const struct nccl_profiler_v##n *)profiler->rank->net.table)

/* ---- calls ---------------------------------------------------------------------- */

void host_profiler_begin(struct host_profiler *profiler, struct host_rank *rank, uint64_t comm, int number)
{
	*profiler = (struct host_profiler){ .rank = rank, .comm = comm, .number = number, .context = HOST_STALE, .mask = 0x5a5a };
	host_must(rank, host_profiler_init(profiler, "a \"name\" \\ \x01"), "init");
	if (profiler->context == HOST_STALE || profiler->mask == 0x5a5a)
		host_fail(rank, "init leaves the context or the mask unwritten");
}

int host_profiler_init(struct host_profiler *profiler, const char *name)
{
	if (profiler->rank->version == 4)
		return V(4)->init(&profiler->context, &profiler->mask, name, profiler->comm, 2, 4, profiler->number, host_log);
	return V(5)->init(&profiler->context, profiler->comm, &profiler->mask, name, 2, 4, profiler->number, host_log);
}

/* NCCL calls no finalize where init has left no context. */
void host_profiler_end(struct host_profiler *profiler)
{
	if (profiler->context)
		host_must(profiler->rank, V(4)->finalize(profiler->context), "finalize");
	profiler->context = NULL;
}

static int start_4(const struct host_profiler *profiler, void **handle, const struct nccl_event_v6 *event)
{
	struct nccl_event_v4 narrow = { .type = (uint8_t)event->type, .parent = event->parent, .rank = event->rank };

	switch (event->type) {
	case NCCL_EVENT_COLL: memcpy(&narrow.coll, &event->coll, sizeof narrow.coll); break;
	case NCCL_EVENT_P2P: memcpy(&narrow.p2p, &event->p2p, sizeof narrow.p2p); break;
	case NCCL_EVENT_PROXY_OP: narrow.proxy_op = event->proxy_op; break;
	case NCCL_EVENT_PROXY_STEP: narrow.proxy_step = event->proxy_step; break;
	case NCCL_EVENT_NETWORK: narrow.network = event->network; break;
	default: break;
	}
	return V(4)->start_event(profiler->context, handle, &narrow);
}

/* What is newer than the version is not told. */
void *host_profiler_start(const struct host_profiler *profiler, struct nccl_event_v6 *event)
{
	void *handle = HOST_STALE;
	int version = profiler->rank->version, result;

	event->rank = profiler->number;
	if ((version < 5 && event->type > NCCL_EVENT_NETWORK) || (version < 6 && event->type > NCCL_EVENT_KERNEL_LAUNCH))
		return NULL;
	if (version == 4)
		result = start_4(profiler, &handle, event);
	else if (version == 5)
		result = V(5)->start_event(profiler->context, &handle, (struct nccl_event_v5 *)(void *)event);
	else
		result = V(6)->start_event(profiler->context, &handle, event);
	host_must(profiler->rank, result, "startEvent");
	if (handle == HOST_STALE)
		host_fail(profiler->rank, "startEvent leaves the handle unwritten");
	return handle;
}

void host_profiler_state(const struct host_profiler *profiler, void *handle, int state, size_t size)
{
	union nccl_event_arguments arguments = { .proxy_step = { size } };

	if (handle)
		host_must(profiler->rank, V(4)->record_state(handle, state, &arguments), "recordEventState");
}

void host_profiler_stop(const struct host_profiler *profiler, void *handle)
{
	if (handle)
		host_must(profiler->rank, V(4)->stop_event(handle), "stopEvent");
}

/* ---- NCCL's order ------------------------------------------------------------------ */

/* From ncclGroupStart to the task that the proxy's operations belong to. What comes first ends first. */
void host_profiler_collective(const struct host_profiler *profiler, const char *function)
{
	struct nccl_event_v6 group = { .type = NCCL_EVENT_GROUP_API, .group_api = { false, 1 } };
	void *group_api = host_profiler_start(profiler, &group), *coll_api, *coll;
	struct nccl_event_v6 api = { .type = NCCL_EVENT_COLL_API, .parent = group_api,
		.coll_api = { .function = function, .count = 1000, .datatype = "ncclFloat32" } };
	struct nccl_event_v6 task = { .type = NCCL_EVENT_COLL, .coll = { .sequence = 1, .function = function, .count = 1000,
		.datatype = "ncclFloat32", .channels = 2, .warps = 8, .algorithm = "RING", .protocol = "SIMPLE" } };

	host_profiler_state(profiler, group_api, 23, 0);
	coll_api = host_profiler_start(profiler, &api);
	host_profiler_stop(profiler, coll_api);
	task.parent = coll_api;
	coll = host_profiler_start(profiler, &task);
	host_profiler_stop(profiler, coll);
	host_profiler_state(profiler, group_api, 24, 0);
	host_profiler_stop(profiler, group_api);
}

void *host_profiler_op(const struct host_profiler *profiler, int peer, int is_send, int pid)
{
	struct nccl_event_v6 event = { .type = NCCL_EVENT_PROXY_OP, .proxy_op = { .pid = pid, .channel = 1, .peer = peer,
		.steps = 8, .chunk = 1 << 20, .is_send = is_send } };
	void *op = host_profiler_start(profiler, &event);

	host_profiler_state(profiler, op, NCCL_STATE_OP_IN_PROGRESS, 0);
	return op;
}

void *host_profiler_step(const struct host_profiler *profiler, void *op, int number)
{
	struct nccl_event_v6 event = { .type = NCCL_EVENT_PROXY_STEP, .parent = op, .proxy_step = { number } };

	return host_profiler_start(profiler, &event);
}

/* As the network's callback has it: what is started is stopped if there is a handle. */
void host_profiler_request(const struct host_profiler *profiler, void *step, int nic)
{
	struct snti_nccl_event data = { .type = SNTI_NCCL_EVENT_SEND, .device = nic, .size = 1, .tag = 2 };
	struct nccl_event_v6 event = { .type = NCCL_EVENT_NETWORK, .parent = step,
		.network = { SNTI_NCCL_EVENT_PLUGIN, &data } };

	host_profiler_stop(profiler, host_profiler_start(profiler, &event));
}

static void rest(unsigned us)
{
	struct timespec time = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };

	if (us)
		nanosleep(&time, NULL);
}

static void send_step(const struct host_channel *channel, void *step, size_t size)
{
	rest(channel->gpu_us);
	/* The network does not take it the first two times. */
	for (int i = 0; i < 3; i++)
		host_profiler_state(channel->profiler, step, NCCL_STATE_SEND_PEER_WAIT, 12345);
	rest(channel->peer_us);
	if (channel->nic >= 0)
		host_profiler_request(channel->profiler, step, channel->nic);
	host_profiler_state(channel->profiler, step, NCCL_STATE_SEND_WAIT, size);
	rest(channel->wire_us);
}

void host_profiler_send(const struct host_channel *channel, int count, size_t size)
{
	const struct host_profiler *profiler = channel->profiler;
	void *op = host_profiler_op(profiler, channel->peer, 1, getpid()), *steps[8];
	int posted = 0;

	for (int done = 0; done < count; done++) {
		for (; posted < count && posted < done + (channel->depth ? channel->depth : 8); posted++) {
			steps[posted % 8] = host_profiler_step(profiler, op, posted);
			host_profiler_state(profiler, steps[posted % 8], NCCL_STATE_SEND_GPU_WAIT, 12345);
		}
		send_step(channel, steps[done % 8], size + (size_t)done);
		host_profiler_stop(profiler, steps[done % 8]);
	}
	host_profiler_stop(profiler, op);
}

void host_profiler_receive(const struct host_channel *channel, int count, size_t size)
{
	const struct host_profiler *profiler = channel->profiler;
	void *op = host_profiler_op(profiler, channel->peer, 0, getpid()), *steps[8];
	int posted = 0;

	for (int done = 0; done < count; done++) {
		for (; posted < count && posted < done + (channel->depth ? channel->depth : 8); posted++) {
			/* The first receive is refused by the network, and NCCL starts its step again without a stop. */
			for (int again = posted ? 1 : 2; again; again--)
				steps[posted % 8] = host_profiler_step(profiler, op, posted);
			if (channel->nic >= 0)
				host_profiler_request(profiler, steps[posted % 8], channel->nic);
			host_profiler_state(profiler, steps[posted % 8], NCCL_STATE_RECV_WAIT, 12345);
		}
		rest(channel->wire_us);
		host_profiler_state(profiler, steps[done % 8], NCCL_STATE_RECV_FLUSH_WAIT, size + (size_t)done);
		rest(channel->peer_us);
		host_profiler_state(profiler, steps[done % 8], NCCL_STATE_RECV_GPU_WAIT, 12345);
		rest(channel->gpu_us);
		host_profiler_stop(profiler, steps[done % 8]);
	}
	host_profiler_stop(profiler, op);
}

/* ---- files -------------------------------------------------------------------------- */

void host_file_name(struct host_rank *rank, char *path, size_t room, const char *what)
{
	const char *folder = getenv("TMPDIR");

	snprintf(path, room, "%s/sennit-check-%d-%d-%s", folder && *folder ? folder : "/tmp", (int)getpid(), rank->rank, what);
}

char *host_file_read(struct host_rank *rank, const char *path)
{
	FILE *from = fopen(path, "re");
	char *text = calloc(1, HOST_FILE_ROOM);
	size_t size;

	if (!from || !text)
		host_fail(rank, "%s cannot be read", path);
	size = fread(text, 1, HOST_FILE_ROOM - 1, from);
	fclose(from);
	if (size == HOST_FILE_ROOM - 1)
		host_fail(rank, "%s is longer than expected", path);
	return text;
}

/* Of all lines that have each of the words, the sum of what follows @key. Words are parted by blanks. */
unsigned long long host_file_sum(const char *text, const char *words, const char *key)
{
	unsigned long long sum = 0;
	char line[4096], copy[256], *save;
	size_t length;

	for (; *text; text += length + (text[length] == '\n')) {
		const char *at;
		int fits = 1;

		length = strcspn(text, "\n");
		snprintf(line, sizeof line, "%.*s", (int)length, text);
		snprintf(copy, sizeof copy, "%s", words);
		save = NULL;
		for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
			fits &= strstr(line, word) != NULL;
		at = fits ? strstr(line, key) : NULL;
		if (at)
			sum += strtoull(at + strlen(key), NULL, 10);
	}
	return sum;
}
