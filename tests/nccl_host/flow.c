/* SPDX-License-Identifier: BSD-3-Clause */
/* flow.c - the progress thread: posts as deep as it may, tests the oldest, looks at every byte. */
#include "tests/nccl_host/host.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GUARD = 16 };

/* LL and LL128 slots, p2p chunks, slices of collectives. */
const size_t host_sizes[] = { 16, 64, 256, 1024, 4096, 16384, 65536, 131072, 524288, 614400, 1048576 };
const int host_size_count = sizeof host_sizes / sizeof *host_sizes;

/* ---- what is sent ------------------------------------------------------------ */

static struct host_part random_part(const struct host_shape *shape, uint64_t *random)
{
	struct host_part part = { .room = shape->sizes[host_random(random) % (uint64_t)shape->size_count] };
	int roll = (int)(host_random(random) % 100);

	part.size = part.room;
	if (roll < shape->empty_percent)
		part.size = 0;
	else if (roll < shape->empty_percent + shape->short_percent)
		part.size = host_random(random) % (part.room + 1);
	part.salt = host_random(random);
	return part;
}

static void make_group(const struct host_shape *shape, uint64_t index, struct host_group *group)
{
	uint64_t random = shape->seed * 1000003 + index;
	int first = (int)(host_random(&random) % 1000);

	group->count = 1 + (int)(host_random(&random) % (uint64_t)shape->most_parts);
	for (int i = 0; i < group->count; i++) {
		int other = (int)(host_random(&random) % (uint64_t)(i + 1));

		group->parts[i] = random_part(shape, &random);
		/* The same few ranks again and again, as behind one network card. */
		group->parts[i].tag = shape->most_parts == 1 ? 5 : (first % 3) * 4 + i * 1000;
		group->order[i] = group->order[other];
		group->order[other] = i;
	}
}

static void fill(char *bytes, size_t size, uint64_t salt)
{
	uint64_t word;

	for (size_t at = 0; at < size; at += sizeof word) {
		word = (salt + at) * 0x9e3779b97f4a7c15;
		memcpy(bytes + at, &word, size - at < sizeof word ? size - at : sizeof word);
	}
}

static int is_filled(const char *bytes, size_t size, uint64_t salt)
{
	uint64_t word;

	for (size_t at = 0; at < size; at += sizeof word) {
		word = (salt + at) * 0x9e3779b97f4a7c15;
		if (memcmp(bytes + at, &word, size - at < sizeof word ? size - at : sizeof word))
			return 0;
	}
	return 1;
}

/* ---- flows -------------------------------------------------------------------- */

static size_t slot_bytes(const struct host_flow *flow)
{
	return flow->part_room * (size_t)flow->shape.most_parts;
}

static char *part_bytes(const struct host_flow *flow, uint64_t index, int part)
{
	return flow->bytes + index % (uint64_t)flow->shape.depth * slot_bytes(flow) + flow->part_room * (size_t)part;
}

void host_flow_open(struct host_flow *flow, struct host_rank *rank, void *comm, int is_send, const struct host_shape *shape)
{
	*flow = (struct host_flow){ .rank = rank, .shape = *shape, .comm = comm, .is_send = is_send,
		.random = shape->seed ^ (uint64_t)(rank->rank * 2 + is_send) };
	for (int i = 0; i < shape->size_count; i++)
		if (shape->sizes[i] + GUARD > flow->part_room)
			flow->part_room = shape->sizes[i] + GUARD;
	flow->slots = calloc((size_t)shape->depth, sizeof *flow->slots);
	flow->bytes = malloc(slot_bytes(flow) * (size_t)shape->depth);
	if (!flow->slots || !flow->bytes)
		host_fail(rank, "out of memory");
	host_must(rank, host_register(&rank->net, comm, flow->bytes, slot_bytes(flow) * (size_t)shape->depth, &flow->memory),
		  "regMr");
	if (!flow->memory || flow->memory == HOST_STALE)
		host_fail(rank, "regMr gives no handle");
}

void host_flow_close(struct host_flow *flow)
{
	host_must(flow->rank, host_deregister(&flow->rank->net, flow->comm, flow->memory), "deregMr");
	free(flow->slots);
	free(flow->bytes);
}

static struct host_slot *slot_of(struct host_flow *flow, uint64_t index)
{
	return &flow->slots[index % (uint64_t)flow->shape.depth];
}

static void *checked(struct host_flow *flow, void *request)
{
	if (request == HOST_STALE || request == NCCL_OPTIONAL_RECV)
		host_fail(flow->rank, "%s leaves the request unwritten", flow->is_send ? "isend" : "irecv");
	return request;
}

static int post_send(struct host_flow *flow, struct host_slot *slot)
{
	int which = slot->group.order[slot->posted];
	struct host_part *part = &slot->group.parts[which];
	char *bytes = part_bytes(flow, flow->posted, which);
	int result;

	fill(bytes, part->size, part->salt);
	result = host_isend(&flow->rank->net, flow->comm, bytes, part->size, part->tag, flow->memory, &slot->requests[which]);
	if (result)
		return result;
	if (checked(flow, slot->requests[which]) && ++slot->posted == slot->group.count)
		flow->posted++;
	return 0;
}

static int post_receive(struct host_flow *flow, struct host_slot *slot)
{
	struct host_buffers buffers = { .count = slot->group.count };
	int result;

	for (int i = 0; i < buffers.count; i++) {
		buffers.data[i] = part_bytes(flow, flow->posted, i);
		buffers.sizes[i] = slot->group.parts[i].room;
		buffers.tags[i] = slot->group.parts[i].tag;
		buffers.memories[i] = flow->memory;
		memset(buffers.data[i], 0xee, slot->group.parts[i].room + GUARD);
	}
	result = host_irecv(&flow->rank->net, flow->comm, &buffers, &slot->requests[0]);
	if (!result && checked(flow, slot->requests[0]))
		flow->posted++;
	return result;
}

static int post(struct host_flow *flow)
{
	struct host_slot *slot = slot_of(flow, flow->posted);

	if (flow->posted == flow->shape.groups || flow->posted - flow->done == (uint64_t)flow->shape.depth)
		return 0;
	if (!flow->is_send || !slot->posted)
		make_group(&flow->shape, flow->posted, &slot->group);
	return flow->is_send ? post_send(flow, slot) : post_receive(flow, slot);
}

static void check_part(struct host_flow *flow, int i, const int *size)
{
	struct host_part *part = &slot_of(flow, flow->done)->group.parts[i];
	const char *bytes = part_bytes(flow, flow->done, i);

	if (size && *size != (int)part->size)
		host_fail(flow->rank, "message %llu.%d has %d bytes instead of %zu", (unsigned long long)flow->done, i, *size,
			  part->size);
	if (!is_filled(bytes, part->size, part->salt))
		host_fail(flow->rank, "message %llu.%d (%zu bytes, tag %d) arrives damaged", (unsigned long long)flow->done,
			  i, part->size, part->tag);
	for (int guard = 0; guard < GUARD; guard++)
		if (bytes[part->room + (size_t)guard] != (char)0xee)
			host_fail(flow->rank, "message %llu.%d is written beyond its buffer", (unsigned long long)flow->done, i);
}

/* NCCL flushes what went to a device before it looks at it. */
static void flush(struct host_flow *flow, const struct host_group *group)
{
	struct host_buffers buffers = { .count = group->count };
	void *request;
	int done = 0;

	for (int i = 0; i < group->count; i++) {
		buffers.data[i] = part_bytes(flow, flow->done, i);
		buffers.sizes[i] = group->parts[i].size;
		buffers.memories[i] = flow->memory;
	}
	host_must(flow->rank, host_iflush(&flow->rank->net, flow->comm, &buffers, &request), "iflush");
	for (uint64_t start = host_now_ns(); request && done != 1;) {
		host_must(flow->rank, host_test(&flow->rank->net, request, &done, NULL), "test of iflush");
		if (host_now_ns() - start > HOST_WAIT_MS * 1000000ull)
			host_fail(flow->rank, "iflush never ends");
	}
}

static int test_receive(struct host_flow *flow, struct host_slot *slot)
{
	int sizes[NCCL_MAX_RECVS + 1] = { 0 }, done, want_sizes = host_random(&flow->random) % 8 != 0;
	int result;

	sizes[slot->group.count] = 0x5a5a;
	result = host_test(&flow->rank->net, slot->requests[0], &done, want_sizes ? sizes : NULL);
	if (result)
		return result;
	if (done != 0 && done != 1)
		host_fail(flow->rank, "test leaves done unwritten");
	if (sizes[slot->group.count] != 0x5a5a)
		host_fail(flow->rank, "test writes more sizes than there are buffers");
	if (!done)
		return 0;
	flush(flow, &slot->group);
	for (int i = 0; i < slot->group.count; i++)
		check_part(flow, i, want_sizes ? &sizes[i] : NULL);
	flow->done++;
	return 0;
}

static int test_send(struct host_flow *flow, struct host_slot *slot)
{
	int which = slot->group.order[slot->done], done, size = 0, want_size = host_random(&flow->random) % 2 != 0;
	struct host_part *part = &slot->group.parts[which];
	int result;

	result = host_test(&flow->rank->net, slot->requests[which], &done, want_size ? &size : NULL);
	if (result)
		return result;
	if (done != 0 && done != 1)
		host_fail(flow->rank, "test leaves done unwritten");
	if (!done)
		return 0;
	/* Reusable now: whatever is still to be sent must not see this. */
	memset(part_bytes(flow, flow->done, which), 0x33, part->size);
	if (++slot->done == slot->group.count) {
		slot->posted = slot->done = 0;
		flow->done++;
	}
	return 0;
}

static int test(struct host_flow *flow)
{
	struct host_slot *slot = slot_of(flow, flow->done);

	if (flow->is_send)
		return flow->done < flow->shape.groups && slot->done < slot->posted ? test_send(flow, slot) : 0;
	return flow->done < flow->posted ? test_receive(flow, slot) : 0;
}

/* Once around: seeded, what is left out this time varies. */
static int step(struct host_flow *flow)
{
	uint64_t roll = host_random(&flow->random);
	int result = roll % 16 ? post(flow) : 0;

	if (!result && roll / 16 % 8)
		result = test(flow);
	if (roll / 128 % 2048 == 0)
		nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
	return result;
}

void host_work_run(struct host_work *work)
{
	uint64_t moved = host_now_ns(), before = 0, now_done;
	int left;

	do {
		left = 0;
		now_done = 0;
		for (int i = 0; i < work->count && !work->result; i++) {
			struct host_flow *flow = &work->flows[i];

			work->result = step(flow);
			left += flow->done < flow->shape.groups;
			now_done += flow->done + flow->posted;
		}
		if (now_done != before)
			moved = host_now_ns();
		else if (host_now_ns() - moved > HOST_WAIT_MS * 1000000ull)
			host_fail(work->rank, "nothing has moved for %d s", HOST_WAIT_MS / 1000);
		else
			sched_yield();
		before = now_done;
	} while (left && !work->result && !atomic_load(&work->stop));
	if (work->result && !work->tolerant)
		host_fail(work->rank, "a transfer: %s", host_result_name(work->result));
}

void *host_work_thread(void *work)
{
	host_work_run(work);
	return NULL;
}

void host_exchange(struct host_rank *rank, const struct host_link *link, const struct host_shape *shape)
{
	struct host_flow flows[2];
	struct host_work work = { .rank = rank, .flows = flows, .count = 2 };
	struct host_shape mine = *shape, theirs = *shape;

	mine.seed = shape->seed * 2 + (uint64_t)rank->rank;
	theirs.seed = shape->seed * 2 + (uint64_t)!rank->rank;
	host_flow_open(&flows[0], rank, link->send, 1, &mine);
	host_flow_open(&flows[1], rank, link->recv, 0, &theirs);
	host_work_run(&work);
	host_flow_close(&flows[0]);
	host_flow_close(&flows[1]);
}
