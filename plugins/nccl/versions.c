/* SPDX-License-Identifier: BSD-3-Clause */
/* versions.c - the tables that NCCL looks up, and the conversions between its versions and the core. */
#include "plugins/nccl/core.h"

#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* Versions before 11 know no contexts: one serves the whole process, and nobody ends it. */
static pthread_mutex_t common_lock = PTHREAD_MUTEX_INITIALIZER;
static struct snti_nccl_context *common;

static int init_common(nccl_logger logger, nccl_profiler profiler)
{
	int result = NCCL_SUCCESS;

	pthread_mutex_lock(&common_lock);
	if (common)
		snti_nccl_set_logger(logger);
	else
		result = snti_nccl_init(&common, -1, logger, profiler);
	if (common)
		common->is_common = 1;
	if (common && profiler && common->profiler != profiler)
		common->profiler = profiler;
	pthread_mutex_unlock(&common_lock);
	return result;
}

static int init_8(nccl_logger logger)
{
	return init_common(logger, NULL);
}

static int init_10(nccl_logger logger, nccl_profiler profiler)
{
	return init_common(logger, profiler);
}

static int init_11(void **context, uint64_t comm, struct nccl_comm_config *config, nccl_logger logger,
		   nccl_profiler profiler)
{
	struct snti_nccl_context *made;
	int result;

	(void)comm;
	result = snti_nccl_init(&made, config ? config->traffic_class : -1, logger, profiler);
	*context = made;
	return result;
}

static int finalize_11(void *context)
{
	return snti_nccl_finalize(context);
}

/* ---- properties ---------------------------------------------------------- */

static int properties_6(int device, struct nccl_properties_v6 *to)
{
	struct nccl_properties_v12 all;
	int result = snti_nccl_properties(device, &all);

	*to = (struct nccl_properties_v6){ .name = all.name, .pci_path = all.pci_path, .guid = all.guid,
		.pointers = all.pointers, .speed = all.speed, .port = all.port, .latency = all.latency,
		.max_comms = all.max_comms, .max_recvs = all.max_recvs };
	return result;
}

static int properties_7(int device, struct nccl_properties_v7 *to)
{
	struct nccl_properties_v6 most;
	int result = properties_6(device, &most);

	/* The two that it has more are zero: the host is the network's device. */
	memset(to, 0, sizeof *to);
	memcpy(to, &most, sizeof most);
	return result;
}

static int properties_8(int device, struct nccl_properties_v8 *to)
{
	struct nccl_properties_v12 all;
	int result = snti_nccl_properties(device, &all);

	*to = (struct nccl_properties_v8){ .name = all.name, .pci_path = all.pci_path, .guid = all.guid,
		.pointers = all.pointers, .global_registration = all.global_registration, .speed = all.speed,
		.port = all.port, .latency = all.latency, .max_comms = all.max_comms, .max_recvs = all.max_recvs,
		.device_type = all.device_type, .device_version = all.device_version };
	return result;
}

static struct nccl_virtual_4 four_of(const struct nccl_virtual_8 *eight)
{
	struct nccl_virtual_4 four = { .count = eight->count };

	memcpy(four.devices, eight->devices, sizeof four.devices);
	return four;
}

static int properties_9(int device, struct nccl_properties_v9 *to)
{
	struct nccl_properties_v12 all;
	int result = snti_nccl_properties(device, &all);

	/* Up to the members all versions since 9 are alike. */
	memset(to, 0, sizeof *to);
	memcpy(to, &all, offsetof(struct nccl_properties_v9, members));
	to->members = four_of(&all.members);
	to->max_p2p = all.max_p2p;
	to->max_collective = all.max_collective;
	return result;
}

static int properties_11(int device, struct nccl_properties_v11 *to)
{
	struct nccl_properties_v12 all;
	int result = snti_nccl_properties(device, &all);

	memset(to, 0, sizeof *to);
	memcpy(to, &all, offsetof(struct nccl_properties_v11, members));
	to->members = four_of(&all.members);
	to->max_p2p = all.max_p2p;
	to->max_collective = all.max_collective;
	to->max_multi_request = all.max_multi_request;
	return result;
}

/* ---- several devices as one --------------------------------------------- */

static int make_virtual_9(int *device, struct nccl_virtual_4 *members)
{
	return snti_nccl_merge(device, members->devices, members->count);
}

static int make_virtual_12(int *device, struct nccl_virtual_8 *members)
{
	return snti_nccl_merge(device, members->devices, members->count);
}

/* ---- connections --------------------------------------------------------- */

static int listen_8(int device, void *handle, void **listen_comm)
{
	return snti_nccl_listen(common, device, handle, listen_comm);
}

static int listen_11(void *context, int device, void *handle, void **listen_comm)
{
	return snti_nccl_listen(context, device, handle, listen_comm);
}

static void no_device_handle(struct nccl_device_handle **handle)
{
	if (handle)
		*handle = NULL;
}

static int connect_8(int device, void *handle, void **send_comm, struct nccl_device_handle **device_handle)
{
	no_device_handle(device_handle);
	return snti_nccl_connect(common, device, -1, handle, send_comm);
}

static int connect_6(int device, void *handle, void **send_comm)
{
	return snti_nccl_connect(common, device, -1, handle, send_comm);
}

static int connect_10(int device, struct nccl_comm_config *config, void *handle, void **send_comm,
		      struct nccl_device_handle **device_handle)
{
	int traffic_class = config && config->traffic_class <= UINT8_MAX ? config->traffic_class : -1;

	no_device_handle(device_handle);
	return snti_nccl_connect(common, device, traffic_class, handle, send_comm);
}

static int connect_11(void *context, int device, void *handle, void **send_comm,
		      struct nccl_device_handle **device_handle)
{
	no_device_handle(device_handle);
	return snti_nccl_connect(context, device, ((struct snti_nccl_context *)context)->traffic_class, handle, send_comm);
}

static int accept_any(void *listen_comm, void **recv_comm, struct nccl_device_handle **device_handle)
{
	no_device_handle(device_handle);
	return snti_nccl_accept(listen_comm, recv_comm);
}

static int register_6(void *comm, void *data, int size, int type, void **memory)
{
	return snti_nccl_register(comm, data, (size_t)size, type, memory);
}

/* ---- transfers ----------------------------------------------------------- */

static int isend_9(void *comm, void *data, size_t size, int tag, void *memory, void **request)
{
	return snti_nccl_isend(comm, data, size, tag, memory, NULL, request);
}

static int isend_8(void *comm, void *data, int size, int tag, void *memory, void **request)
{
	return snti_nccl_isend(comm, data, (size_t)size, tag, memory, NULL, request);
}

static int irecv_9(void *comm, int count, void **data, size_t *sizes, int *tags, void **memories, void **request)
{
	return snti_nccl_irecv(comm, count, data, sizes, tags, memories, NULL, request);
}

static int irecv_8(void *comm, int count, void **data, int *sizes, int *tags, void **memories, void **request)
{
	size_t wide[NCCL_MAX_RECVS];

	for (int i = 0; i < count && i < NCCL_MAX_RECVS; i++)
		wide[i] = (size_t)sizes[i];
	return snti_nccl_irecv(comm, count, data, wide, tags, memories, NULL, request);
}

static int set_attributes_11(void *context, struct nccl_attributes *attributes)
{
	snti_nccl_hint(context, attributes);
	return NCCL_SUCCESS;
}

/* ---- tables -------------------------------------------------------------- */

#define UNCHANGED \
	BASIC, .accept = accept_any, .reg_mr = snti_nccl_register

#define UNTIL_8 .init = init_8, .listen = listen_8, .isend = isend_8, .irecv = irecv_8

#define BASIC \
	.name = SNTI_NCCL_NAME, .devices = snti_nccl_devices, \
	.reg_mr_dmabuf = snti_nccl_register_dmabuf, .dereg_mr = snti_nccl_deregister, .iflush = snti_nccl_flush, .test = snti_nccl_test, \
	.close_send = snti_nccl_close, .close_recv = snti_nccl_close, .close_listen = snti_nccl_close

#define SINCE_11 \
	UNCHANGED, .init = init_11, .listen = listen_11, .connect = connect_11, .isend = snti_nccl_isend, \
	.irecv = snti_nccl_irecv, .finalize = finalize_11, .set_attributes = set_attributes_11

EXPORT extern const struct nccl_net_v6 ncclNetPlugin_v6;
EXPORT extern const struct nccl_net_v7 ncclNetPlugin_v7;
EXPORT extern const struct nccl_net_v8 ncclNetPlugin_v8;
EXPORT extern const struct nccl_net_v9 ncclNetPlugin_v9;
EXPORT extern const struct nccl_net_v10 ncclNetPlugin_v10;
EXPORT extern const struct nccl_net_v11 ncclNetPlugin_v11;
EXPORT extern const struct nccl_net_v12 ncclNetPlugin_v12;

const struct nccl_net_v6 ncclNetPlugin_v6 = {
	BASIC, UNTIL_8, .get_properties = properties_6, .connect = connect_6, .accept = snti_nccl_accept, .reg_mr = register_6,
};

const struct nccl_net_v7 ncclNetPlugin_v7 = {
	BASIC, UNTIL_8, .get_properties = properties_7, .connect = connect_8, .accept = accept_any, .reg_mr = register_6,
};

const struct nccl_net_v8 ncclNetPlugin_v8 = {
	UNCHANGED, UNTIL_8, .get_properties = properties_8, .connect = connect_8,
};

const struct nccl_net_v9 ncclNetPlugin_v9 = {
	UNCHANGED, .init = init_8, .get_properties = properties_9, .listen = listen_8, .connect = connect_8,
	.isend = isend_9, .irecv = irecv_9, .make_virtual = make_virtual_9,
};

const struct nccl_net_v10 ncclNetPlugin_v10 = {
	UNCHANGED, .init = init_10, .get_properties = properties_9, .listen = listen_8, .connect = connect_10,
	.isend = snti_nccl_isend, .irecv = snti_nccl_irecv, .make_virtual = make_virtual_9,
};

const struct nccl_net_v11 ncclNetPlugin_v11 = {
	SINCE_11, .get_properties = properties_11, .make_virtual = make_virtual_9,
};

const struct nccl_net_v12 ncclNetPlugin_v12 = {
	SINCE_11, .get_properties = snti_nccl_properties, .make_virtual = make_virtual_12,
};
