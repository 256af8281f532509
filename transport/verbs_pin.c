/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_pin.c - memory that the caller pins: registered once, and of GPUs through dmabufs. */
#include "transport/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/gpu.h"

#define ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE)

/* A kernel and a driver that can do it look at the descriptor, and find that it is none. */
static int device_takes_dmabufs(struct verbs_port *port)
{
	struct ibv_mr *mr;

	if (!verbs_calls.ibv_reg_dmabuf_mr)
		return 0;
	errno = 0;
	mr = verbs_calls.ibv_reg_dmabuf_mr(port->pd, 0, 0, 0, -1, 0);
	if (mr)
		verbs_calls.ibv_dereg_mr(mr);
	return errno == EBADF;
}

int verbs_gpus(struct snti_port *base, char *text, size_t size)
{
	struct verbs_port *port = (struct verbs_port *)base;
	const char *why = "";
	int status;

	if (!device_takes_dmabufs(port)) {
		snprintf(text, size, "%s registers no dmabufs: Linux 5.12 and a driver that does are needed", port->device.name);
		return SNT_EUNSUPPORTED;
	}
	status = snti_gpu_exports(&why);
	snprintf(text, size, "%s", why);
	return status;
}

/* Relaxed ordering as for the host's; the descriptor is needed no longer than this. */
static struct ibv_mr *register_gpu(struct verbs_port *port, const struct snti_memory *memory, int fd, uint64_t offset)
{
	struct ibv_mr *mr = verbs_calls.ibv_reg_dmabuf_mr(port->pd, offset, memory->size, (uintptr_t)memory->base, fd,
							  ACCESS | IBV_ACCESS_RELAXED_ORDERING);

	if (mr || errno == ENOMEM)
		return mr;
	return verbs_calls.ibv_reg_dmabuf_mr(port->pd, offset, memory->size, (uintptr_t)memory->base, fd, ACCESS);
}

/* NULL: noted why. */
static struct ibv_mr *get_gpu(struct verbs_port *port, const struct snti_memory *memory)
{
	int fd = memory->dmabuf, error;
	uint64_t offset = memory->offset;
	struct ibv_mr *mr;

	if (!device_takes_dmabufs(port)) {
		snti_fail(SNT_EUNSUPPORTED, "verbs: %s registers no dmabufs", port->device.name);
		return NULL;
	}
	if (fd < 0 && snti_gpu_export(memory->base, memory->size, &fd, &offset))
		return NULL;
	mr = register_gpu(port, memory, fd, offset);
	error = errno;
	if (memory->dmabuf < 0)
		close(fd);
	if (!mr)
		snti_fail(error == ENOMEM ? SNT_ELIMIT : SNT_EDEVICE, "verbs: %s does not register %zu bytes of a GPU: %s",
			  port->device.name, memory->size, strerror(error));
	return mr;
}

static struct ibv_mr *get_host(struct verbs_port *port, const struct snti_memory *memory)
{
	struct ibv_mr *mr = verbs_register(port->pd, memory->base, memory->size, ACCESS);

	if (!mr)
		snti_fail(errno == ENOMEM ? SNT_ELIMIT : SNT_EDEVICE, "verbs: %s does not register %zu bytes: %s", port->device.name,
			  memory->size, strerror(errno));
	return mr;
}

int verbs_pin(struct snti_port *base, struct snti_memory *memory)
{
	struct verbs_port *port = (struct verbs_port *)base;
	struct verbs_region *region = calloc(1, sizeof(*region));

	if (!region)
		return snti_fail(SNT_ENOMEM, "verbs: no memory to pin");
	region->mr = memory->is_gpu ? get_gpu(port, memory) : get_host(port, memory);
	if (!region->mr) {
		free(region);
		return SNT_ELIMIT;
	}
	region->base = memory->base;
	region->size = memory->size;
	region->remote = region->pinned = 1;
	snti_list_append(&port->pins, &region->link);
	return 0;
}

/* What is still in use goes when it is not any more. */
void verbs_unpin(struct snti_port *base, struct snti_memory *memory)
{
	struct verbs_port *port = (struct verbs_port *)base;

	snti_list_each(link, &port->pins) {
		struct verbs_region *region = snti_container(link, struct verbs_region, link);

		if (region->base != memory->base || region->size != memory->size)
			continue;
		if (!region->users) {
			verbs_region_drop(port, region);
			return;
		}
		region->pinned = 0;
		port->region_count++;
		snti_list_remove(&region->link);
		snti_list_append(&port->regions, &region->link);
		return;
	}
}

struct verbs_region *verbs_pinned(struct verbs_port *port, const void *data, size_t size)
{
	uintptr_t at = (uintptr_t)data;

	snti_list_each(link, &port->pins) {
		struct verbs_region *region = snti_container(link, struct verbs_region, link);
		uintptr_t base = (uintptr_t)region->base;

		if (at >= base && at - base <= region->size && size <= region->size - (at - base))
			return region;
	}
	return NULL;
}

int verbs_gpu_check(struct verbs_conn *conn, const struct snti_xfer *xfer)
{
	if (!xfer->memory || !xfer->memory->is_gpu)
		return 0;
	if (xfer->fold)
		return snti_fail(SNT_EUNSUPPORTED, "verbs: nothing is folded in the memory of a GPU");
	if (!verbs_pinned(verbs_port_of(conn), xfer->data, xfer->size))
		return snti_fail(SNT_EINVAL, "verbs: %zu bytes of a GPU that are not pinned", xfer->size);
	return 0;
}
