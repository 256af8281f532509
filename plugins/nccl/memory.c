/* SPDX-License-Identifier: BSD-3-Clause */
/* memory.c - memory that NCCL registers, of hosts and of GPUs: which devices take the latter, and what they need after receives. */
#include "plugins/nccl/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "base/settings.h"
#include "transport/gpu.h"

#define PINNED (UINT64_C(1) << 63)      /* numbers of allocations are far below */

static atomic_uint_fast64_t last_memory;

/* ---- which devices ---------------------------------------------------------- */

/* A port of the device is asked, which tries it out. */
static int takes_gpus(const struct snti_transport *transport, const struct snti_nccl_device *device, char *why, size_t room)
{
	unsigned char secret[32];
	struct snti_port_options options = { .secret = secret, .device = device->name,
		.timeout_ms = (uint32_t)snti_settings()->timeout_ms, .interface = snti_nccl_aside(device) };
	struct snti_port *port;
	int status = snti_random(secret, sizeof secret);

	if (!status)
		status = snti_port_open(transport, &options, &port);
	if (status) {
		snprintf(why, room, "%s", snt_error_text());
		return 0;
	}
	status = transport->gpus(port, why, room);
	port->hasty = 1;
	snti_port_close(port);
	return !status;
}

/* No port is opened where there is no GPU. */
void snti_nccl_find_gpus(const struct snti_transport *transport, struct snti_nccl_device *devices, int count)
{
	char text[200] = "";
	const char *why = "";

	if (!transport->gpus)
		return;
	if (snti_gpu_exports(&why)) {
		snti_nccl_log(NCCL_LOG_INFO, "memory of GPUs is not registered: %s", why);
		return;
	}
	for (int i = 0; i < count; i++) {
		devices[i].takes_gpus = takes_gpus(transport, &devices[i], text, sizeof text);
		snti_nccl_log(NCCL_LOG_INFO, "%s %s memory of GPUs%s%s", devices[i].name,
			      devices[i].takes_gpus ? "registers" : "does not register", *text ? ": " : "", text);
	}
}

/* ---- registration ----------------------------------------------------------- */

static int refuse(const struct snti_nccl_comm *comm, const struct snti_memory *memory, const char *why, int result)
{
	snti_nccl_log(NCCL_LOG_WARN, "%s: %zu bytes %scannot be registered: %s", comm->device->name, memory->size,
		      memory->is_gpu ? "of a GPU " : "", why);
	return result;
}

/* Host memory that cannot be pinned travels through the transport's own; a GPU's cannot. */
static int pin(struct snti_nccl_comm *comm, struct snti_nccl_memory *made)
{
	int status;

	snti_nccl_take_lock(&comm->lock);
	status = comm->port->ops->pin ? comm->port->ops->pin(comm->port, &made->pinned) : 0;
	if (!status || !made->pinned.is_gpu) {
		snti_list_append(&comm->memories, &made->link);
		status = 0;
	}
	snti_nccl_unlock(&comm->lock);
	return status;
}

static int take_memory(struct snti_nccl_comm *comm, const struct snti_memory *described, void **memory)
{
	struct snti_nccl_memory *made = malloc(sizeof *made);
	int status;

	if (!made)
		return refuse(comm, described, "no memory", NCCL_SYSTEM_ERROR);
	made->pinned = *described;
	made->pinned.id = PINNED | atomic_fetch_add(&last_memory, 1);
	status = pin(comm, made);
	if (status) {
		free(made);
		return refuse(comm, described, snt_error_text(), snti_nccl_result(status));
	}
	*memory = made;
	return NCCL_SUCCESS;
}

/* The descriptor is the caller's, and closed when this returns. */
int snti_nccl_register_dmabuf(void *object, void *data, size_t size, int type, uint64_t offset, int fd, void **memory)
{
	struct snti_nccl_comm *comm = object;
	struct snti_memory described = { .base = data, .size = size, .fd = -1, .is_gpu = type == NCCL_PTR_CUDA, .dmabuf = fd,
		.offset = offset };

	*memory = NULL;
	if (type != NCCL_PTR_HOST && type != NCCL_PTR_CUDA)
		return refuse(comm, &described, "neither of the host nor of CUDA", NCCL_INVALID_ARGUMENT);
	if (described.is_gpu && !comm->device->takes_gpus)
		return refuse(comm, &described, "this device does not say that it can", NCCL_INVALID_USAGE);
	return take_memory(comm, &described, memory);
}

/* Without a descriptor CUDA's driver is asked for one. */
int snti_nccl_register(void *comm, void *data, size_t size, int type, void **memory)
{
	return snti_nccl_register_dmabuf(comm, data, size, type, 0, -1, memory);
}

static int is_in_use(const struct snti_nccl_comm *comm, const void *memory)
{
	for (int k = 0; comm->busy && k < SNTI_NCCL_REQUESTS; k++) {
		const struct snti_nccl_request *request = &comm->requests[k];

		for (int i = 0; i < request->count; i++)
			if (request->memories[i] == memory && request->xfers[i]->status == SNT_BUSY)
				return 1;
	}
	return 0;
}

int snti_nccl_deregister(void *object, void *memory)
{
	struct snti_nccl_comm *comm = object;
	struct snti_nccl_memory *known = memory;

	if (!known)
		return NCCL_SUCCESS;
	snti_nccl_take_lock(&comm->lock);
	/* NCCL aborts: it frees this memory next, so nothing may arrive in it any more. */
	if (comm->conn && is_in_use(comm, memory)) {
		if (!*comm->cause)
			strcpy(comm->cause, "its memory was deregistered while in use");
		comm->port->hasty = 1;
		snti_conn_close(comm->conn);
		comm->conn = NULL;
		comm->is_cut = 1;
		atomic_store(&comm->context->is_aborted, !comm->context->is_common);
		comm->unposted = NULL;
	}
	snti_list_remove(&known->link);
	if (comm->port->ops->unpin)
		comm->port->ops->unpin(comm->port, &known->pinned);
	snti_nccl_unlock(&comm->lock);
	free(known);
	return NCCL_SUCCESS;
}

/* ---- flush ------------------------------------------------------------------ */

/* One address will do: a read of it pushes all that has come over this device before. NULL: nothing went to a GPU. */
static struct snti_nccl_memory *what_to_read(int count, void *const *data, const int *sizes, void *const *memories, void **at)
{
	for (int i = count - 1; i >= 0 && memories; i--) {
		struct snti_nccl_memory *memory = memories[i];

		*at = data[i];
		if (memory && memory->pinned.is_gpu && sizes[i] > 0)
			return memory;
	}
	return NULL;
}

int snti_nccl_flush(void *recv_comm, int count, void **data, int *sizes, void **memories, void **request)
{
	struct snti_nccl_comm *comm = recv_comm;
	struct snti_nccl_memory *memory;
	void *at;
	int result;

	*request = NULL;
	if (count < 1 || count > NCCL_MAX_RECVS)
		return NCCL_SUCCESS;
	memory = what_to_read(count, data, sizes, memories, &at);
	if (!memory)
		return NCCL_SUCCESS;
	snti_nccl_take_lock(&comm->lock);
	result = snti_nccl_settle(comm, memory, at, request);
	snti_nccl_unlock(&comm->lock);
	return result;
}
