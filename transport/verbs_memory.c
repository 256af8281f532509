/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_memory.c - registered memory: buffers for frames, blocks that data passes through, messages and allocations. */
#include "transport/verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/settings.h"
#include "transport/shared.h"

#define REGIONS 128               /* allocations that stay registered while nobody uses them */
#define BLOCKS_LEAST 2
#define LINE 64
#define PLACES 1024               /* immediates that may be asked for, at least */

/* Relaxed ordering is harmless, as only completions are believed; without it old libraries and devices do too. */
struct ibv_mr *verbs_register(struct ibv_pd *pd, void *base, size_t size, int access)
{
	if (access & IBV_ACCESS_REMOTE_WRITE) {
		struct ibv_mr *mr = verbs_calls.ibv_reg_mr_iova2(pd, base, size, (uintptr_t)base,
								 (unsigned)access | IBV_ACCESS_RELAXED_ORDERING);
		if (mr || errno == ENOMEM)
			return mr;
	}
	return verbs_calls.ibv_reg_mr(pd, base, size, access);
}

static int no_memory(const struct verbs_port *port, size_t size)
{
	int error = errno;
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY)
		limit.rlim_cur = 0;
	if (error == ENOMEM && limit.rlim_cur)
		return snti_fail(SNT_ELIMIT, "verbs: %s does not register %zu bytes: this process may lock %llu KiB; raise 'memlock' in "
				 "/etc/security/limits.conf or start the container with --ulimit memlock=-1",
				 port->device.name, size, (unsigned long long)limit.rlim_cur >> 10);
	return snti_fail(error == ENOMEM ? SNT_ENOMEM : SNT_EDEVICE, "verbs: %s does not register %zu bytes: %s",
			 port->device.name, size, strerror(error));
}

static int get(struct ibv_pd *pd, size_t size, int access, char **base, struct ibv_mr **mr)
{
	*base = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
	if (!*base) {
		errno = ENOMEM;
		return -1;
	}
	*mr = verbs_register(pd, *base, size, access);
	if (*mr)
		return 0;
	free(*base);
	*base = NULL;
	return -1;
}

static void put(char **base, struct ibv_mr **mr)
{
	if (*mr)
		verbs_calls.ibv_dereg_mr(*mr);
	free(*base);
	*mr = NULL;
	*base = NULL;
}

/* Fewer where not so much may be locked: slower, but it works. */
static int get_blocks(struct verbs_port *port, struct verbs_blocks *blocks, int access)
{
	unsigned count = VERBS_BLOCKS;

	while (get(port->pd, count * port->block, access, &blocks->base, &blocks->mr)) {
		if (errno != ENOMEM || count / 2 < BLOCKS_LEAST)
			return no_memory(port, count * port->block);
		count /= 2;
	}
	if (count < VERBS_BLOCKS)
		snti_log(SNT_LOG_WARN, "verbs: only %u of %d blocks of %zu bytes can be registered: raise 'memlock' in "
			 "/etc/security/limits.conf", count, VERBS_BLOCKS, port->block);
	blocks->count = count;
	for (unsigned i = 0; i < count; i++)
		blocks->stack[blocks->idle++] = (unsigned char)i;
	return 0;
}

int verbs_block_take(struct verbs_blocks *blocks)
{
	return blocks->idle ? blocks->stack[--blocks->idle] : -1;
}

void verbs_block_give(struct verbs_blocks *blocks, int block)
{
	blocks->stack[blocks->idle++] = (unsigned char)block;
}

int verbs_memory_open(struct verbs_port *port)
{
	const struct snti_settings *settings = snti_settings();
	unsigned frames = sizeof(port->frame_stack);
	int status;

	snti_list_init(&port->regions);
	snti_list_init(&port->pins);
	port->block = settings->verbs_block & ~(size_t)(LINE - 1);
	port->stride = (sizeof(struct verbs_message) + settings->verbs_eager + LINE - 1) & ~(size_t)(LINE - 1);
	if (get(port->frame_pd, frames * port->stride, 0, &port->frame_memory, &port->frame_mr))
		return no_memory(port, frames * port->stride);
	for (unsigned i = 0; i < frames; i++)
		port->frame_stack[port->idle_frames++] = (unsigned char)i;
	status = get_blocks(port, &port->sending, 0);
	return status ? status : get_blocks(port, &port->landing, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
}

void verbs_region_drop(struct verbs_port *port, struct verbs_region *region)
{
	snti_list_remove(&region->link);
	port->region_count -= !region->pinned;
	verbs_calls.ibv_dereg_mr(region->mr);
	free(region);
}

void verbs_memory_close(struct verbs_port *port)
{
	struct snti_link *lists[] = { &port->regions, &port->pins };

	for (int i = 0; i < 2; i++)
		while (lists[i]->next && !snti_list_empty(lists[i]))
			verbs_region_drop(port, snti_container(lists[i]->next, struct verbs_region, link));
	for (unsigned i = 0; i < port->slab_count; i++)
		put(&port->slabs[i].base, &port->slabs[i].mr);
	free(port->slabs);
	port->slabs = NULL;
	port->slab_count = 0;
	put(&port->frame_memory, &port->frame_mr);
	put(&port->sending.base, &port->sending.mr);
	put(&port->landing.base, &port->landing.mr);
}

/* With a key of their own, so that this peer alone can name them. */
int verbs_slots_get(struct verbs_link *link)
{
	size_t size = VERBS_SLOTS * VERBS_SLOT_BYTES;

	if (get(link->port->frame_pd, size, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE, &link->slots, &link->slots_mr))
		return no_memory(link->port, size);
	memset(link->slots, 0, size);
	return 0;
}

void verbs_slots_put(struct verbs_link *link)
{
	put(&link->slots, &link->slots_mr);
}

/* ---- receive buffers ---------------------------------------------------- */

/* As one list: the device is told once. */
void verbs_slab_post(struct verbs_port *port)
{
	struct ibv_recv_wr wr[VERBS_BATCH], *bad;
	struct ibv_sge sge[VERBS_BATCH];
	unsigned count = port->used_count;

	for (unsigned i = 0; i < count; i++) {
		uint64_t buffer = port->used[i];

		sge[i] = (struct ibv_sge){ .addr = (uintptr_t)verbs_slab_buffer(port, buffer), .length = (uint32_t)port->stride,
			.lkey = port->slabs[buffer / VERBS_SLAB_NUMBERS].mr->lkey };
		wr[i] = (struct ibv_recv_wr){ .wr_id = VERBS_RECEIVED | buffer, .next = i + 1 < count ? &wr[i + 1] : NULL,
			.sg_list = &sge[i], .num_sge = 1 };
	}
	port->used_count = 0;
	if (count && ibv_post_srq_recv(port->srq, wr, &bad) && !port->failed)
		port->failed = snti_fail(SNT_EDEVICE, "verbs: %s takes no receive buffers", port->device.name);
}

/* The completion queue has room for what all peers' frames may cause, and for as much again. */
static int grow_queue(struct verbs_port *port)
{
	unsigned need = port->reserved + VERBS_WINDOW + VERBS_WORKS + PLACES;
	int most = port->device.limits.max_cqe;

	if (need > port->cq_size || port->room < VERBS_WINDOW) {
		unsigned size = 2 * need > (unsigned)most ? (unsigned)most : 2 * need;

		if (need > size || verbs_calls.ibv_resize_cq(port->cq, (int)size))
			return snti_fail(SNT_ELIMIT, "verbs: the completion queue of %s does not grow to %u entries (of %d)",
					 port->device.name, need, most);
		port->room += size - port->cq_size;
		port->cq_size = size;
	}
	port->reserved += VERBS_WINDOW;
	port->room -= VERBS_WINDOW;
	return 0;
}

int verbs_slab_add(struct verbs_port *port)
{
	struct verbs_slab *slabs;
	uint64_t first = (uint64_t)port->slab_count * VERBS_SLAB_NUMBERS;
	int status;

	if (port->idle_slabs) {
		port->idle_slabs--;
		return 0;
	}
	if ((port->slab_count + 1) * VERBS_SLAB > port->srq_most)
		return snti_fail(SNT_ELIMIT, "verbs: the shared receive queue of %s holds %u buffers, enough for %u connections",
				 port->device.name, port->srq_most, port->slab_count);
	slabs = realloc(port->slabs, (port->slab_count + 1) * sizeof(*slabs));
	if (!slabs)
		return snti_fail(SNT_ENOMEM, "verbs: no memory for receive buffers");
	port->slabs = slabs;
	slabs += port->slab_count;
	if (get(port->frame_pd, VERBS_SLAB * port->stride, IBV_ACCESS_LOCAL_WRITE, &slabs->base, &slabs->mr))
		return no_memory(port, VERBS_SLAB * port->stride);
	status = grow_queue(port);
	if (status) {
		put(&slabs->base, &slabs->mr);
		return status;
	}
	port->slab_count++;
	verbs_slab_post(port);
	for (uint64_t i = 0; i < VERBS_SLAB; i++)
		port->used[port->used_count++] = first + i;
	verbs_slab_post(port);
	return port->failed;
}

/* ---- messages and allocations ------------------------------------------- */

/* Registrations of allocations that are gone, when any may be. */
static void sweep(struct verbs_port *port)
{
	uint64_t now = snti_shared_changes();
	int left = 0;

	if (now == port->shared_changes)
		return;
	for (struct snti_link *link = port->regions.next, *next; link != &port->regions; link = next) {
		struct verbs_region *region = snti_container(link, struct verbs_region, link);
		struct snti_memory *memory = region->id ? snti_shared_find(region->base, region->size) : NULL;

		next = link->next;
		if (!region->id || region->pinned || (memory && memory->id == region->id))
			continue;
		if (region->users)
			left = 1;
		else
			verbs_region_drop(port, region);
	}
	if (!left)
		port->shared_changes = now;
}

static struct verbs_region *find_region(struct verbs_port *port, uint64_t id, int remote)
{
	snti_list_each(link, &port->regions) {
		struct verbs_region *region = snti_container(link, struct verbs_region, link);

		if (region->id == id && region->remote == remote)
			return region;
	}
	return NULL;
}

static void make_room(struct verbs_port *port)
{
	snti_list_each(link, &port->regions) {
		struct verbs_region *region = snti_container(link, struct verbs_region, link);

		if (!region->users) {           /* the one that was used longest ago */
			verbs_region_drop(port, region);
			return;
		}
	}
}

static struct verbs_region *add_region(struct verbs_port *port, uint64_t id, void *base, size_t size, int remote)
{
	struct verbs_region *region = calloc(1, sizeof(*region));
	static int told;

	if (port->region_count >= REGIONS)
		make_room(port);
	if (region)
		region->mr = verbs_register(port->pd, base, size, remote ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE : 0);
	if (!region || !region->mr) {
		free(region);
		if (!__atomic_exchange_n(&told, 1, __ATOMIC_RELAXED))
			snti_log(SNT_LOG_WARN, "verbs: %zu bytes cannot be registered (%s): large messages are copied; raise 'memlock' in "
				 "/etc/security/limits.conf", size, strerror(errno));
		return NULL;
	}
	region->id = id;
	region->base = base;
	region->size = size;
	region->remote = remote;
	snti_list_append(&port->regions, &region->link);
	port->region_count++;
	return region;
}

/* Only snt_alloc memory stays registered: of other memory nobody would tell that it has gone and come again. */
struct verbs_region *verbs_region_get(struct verbs_port *port, void *data, size_t size, int remote)
{
	struct verbs_region *region = size ? verbs_pinned(port, data, size) : NULL;
	struct snti_memory *memory = size && !region ? snti_shared_find(data, size) : NULL;

	if (region) {
		region->users++;
		return region;
	}
	sweep(port);
	if (memory) {
		region = find_region(port, memory->id, remote);
		if (!region)
			region = add_region(port, memory->id, memory->base, memory->size, remote);
	} else if (size >= snti_settings()->verbs_register) {
		region = add_region(port, 0, data, size, remote);
	}
	if (!region)
		return NULL;
	region->users++;
	snti_list_remove(&region->link);
	snti_list_append(&port->regions, &region->link);
	return region;
}

void verbs_region_put(struct verbs_port *port, struct verbs_region *region)
{
	if (region && --region->users == 0 && !region->id && !region->pinned)
		verbs_region_drop(port, region);
}
