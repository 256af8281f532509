/* SPDX-License-Identifier: BSD-3-Clause */
/* abi.h - NCCL's interface to network plugins, versions 6 to 12: the order of the fields is all there is to it.
 *
 * One struct per version where they differ; a name without a version serves all of them. NCCL 2.17 and
 * 2.18 take v6, 2.19 v7, 2.20 to 2.23 v8, 2.24 and 2.25 v9, 2.26 and 2.27 v10, 2.28 and 2.29 v11, 2.30 and later v12.
 */
#ifndef PLUGINS_NCCL_ABI_H
#define PLUGINS_NCCL_ABI_H

#include <stddef.h>
#include <stdint.h>

enum nccl_result {
	NCCL_SUCCESS, NCCL_UNHANDLED_CUDA_ERROR, NCCL_SYSTEM_ERROR, NCCL_INTERNAL_ERROR, NCCL_INVALID_ARGUMENT,
	NCCL_INVALID_USAGE, NCCL_REMOTE_ERROR, NCCL_IN_PROGRESS,
};

enum { NCCL_HANDLE_BYTES = 128, NCCL_MAX_REQUESTS = 32, NCCL_MAX_RECVS = 8 };
enum { NCCL_PTR_HOST = 1, NCCL_PTR_CUDA = 2, NCCL_PTR_DMABUF = 4 };
#define NCCL_OPTIONAL_RECV ((void *)(uintptr_t)1)       /* a hint that irecv finds in *request */

enum nccl_log_level { NCCL_LOG_NONE, NCCL_LOG_VERSION, NCCL_LOG_WARN, NCCL_LOG_INFO, NCCL_LOG_ABORT, NCCL_LOG_TRACE };
enum { NCCL_LOG_INIT = 0x1, NCCL_LOG_NET = 0x10 };
typedef void (*nccl_logger)(int level, unsigned long subsystems, const char *function, int line, const char *format, ...);

enum { NCCL_PROFILE_START, NCCL_PROFILE_STOP };
typedef int (*nccl_profiler)(void **event, int type, void *parent, int64_t plugin, void *data);

struct nccl_device_handle { int type, version; void *handle; size_t size; int needs_progress; };
struct nccl_comm_config { int traffic_class; };         /* negative: none */
struct nccl_virtual_4 { int count, devices[4]; };
struct nccl_virtual_8 { int count, devices[8]; };
struct nccl_attributes { int32_t send[4], recv[4]; uint32_t operations, algorithms, protocols; };

struct nccl_properties_v6 {
	char *name, *pci_path;
	uint64_t guid;
	int pointers, speed, port;
	float latency;
	int max_comms, max_recvs;
};

struct nccl_properties_v7 {
	char *name, *pci_path;
	uint64_t guid;
	int pointers, speed, port;
	float latency;
	int max_comms, max_recvs, device_type, device_version;
};

struct nccl_properties_v8 {
	char *name, *pci_path;
	uint64_t guid;
	int pointers, global_registration, speed, port;
	float latency;
	int max_comms, max_recvs, device_type, device_version;
};

#define NCCL_PROPERTIES_SINCE_9 \
	char *name, *pci_path; \
	uint64_t guid; \
	int pointers, global_registration, force_flush, speed, port; \
	float latency; \
	int max_comms, max_recvs, device_type, device_version

struct nccl_properties_v9 {
	NCCL_PROPERTIES_SINCE_9;
	struct nccl_virtual_4 members;
	size_t max_p2p, max_collective;
};
struct nccl_properties_v11 {
	NCCL_PROPERTIES_SINCE_9;
	struct nccl_virtual_4 members;
	size_t max_p2p, max_collective;
	int max_multi_request;
};
struct nccl_properties_v12 {
	NCCL_PROPERTIES_SINCE_9;
	struct nccl_virtual_8 members;
	size_t max_p2p, max_collective;
	int max_multi_request;
	int16_t rail, plane;
};

/* The parts of the tables that have not changed. */
#define NCCL_NET_ACCEPT_TO_DEREGISTER \
	int (*accept)(void *listen_comm, void **recv_comm, struct nccl_device_handle **device_handle); \
	int (*reg_mr)(void *comm, void *data, size_t size, int type, void **memory); \
	int (*reg_mr_dmabuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **memory); \
	int (*dereg_mr)(void *comm, void *memory)

#define NCCL_NET_FLUSH_TO_CONSUMED \
	int (*iflush)(void *recv_comm, int count, void **data, int *sizes, void **memories, void **request); \
	int (*test)(void *request, int *done, int *sizes); \
	int (*close_send)(void *send_comm); \
	int (*close_recv)(void *recv_comm); \
	int (*close_listen)(void *listen_comm); \
	int (*get_device_mr)(void *comm, void *memory, void **device_memory); \
	int (*irecv_consumed)(void *recv_comm, int count, void *request)

#define NCCL_NET_TRANSFERS_UNTIL_8 \
	int (*isend)(void *send_comm, void *data, int size, int tag, void *memory, void **request); \
	int (*irecv)(void *recv_comm, int count, void **data, int *sizes, int *tags, void **memories, void **request)

#define NCCL_NET_REGISTER_UNTIL_7 \
	int (*reg_mr)(void *comm, void *data, int size, int type, void **memory); \
	int (*reg_mr_dmabuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **memory); \
	int (*dereg_mr)(void *comm, void *memory)

struct nccl_net_v6 {
	const char *name;
	int (*init)(nccl_logger logger);
	int (*devices)(int *count);
	int (*get_properties)(int device, struct nccl_properties_v6 *properties);
	int (*listen)(int device, void *handle, void **listen_comm);
	int (*connect)(int device, void *handle, void **send_comm);
	int (*accept)(void *listen_comm, void **recv_comm);
	NCCL_NET_REGISTER_UNTIL_7;
	NCCL_NET_TRANSFERS_UNTIL_8;
	int (*iflush)(void *recv_comm, int count, void **data, int *sizes, void **memories, void **request);
	int (*test)(void *request, int *done, int *sizes);
	int (*close_send)(void *send_comm);
	int (*close_recv)(void *recv_comm);
	int (*close_listen)(void *listen_comm);
};

struct nccl_net_v7 {
	const char *name;
	int (*init)(nccl_logger logger);
	int (*devices)(int *count);
	int (*get_properties)(int device, struct nccl_properties_v7 *properties);
	int (*listen)(int device, void *handle, void **listen_comm);
	int (*connect)(int device, void *handle, void **send_comm, struct nccl_device_handle **device_handle);
	int (*accept)(void *listen_comm, void **recv_comm, struct nccl_device_handle **device_handle);
	NCCL_NET_REGISTER_UNTIL_7;
	NCCL_NET_TRANSFERS_UNTIL_8;
	NCCL_NET_FLUSH_TO_CONSUMED;
};

struct nccl_net_v8 {
	const char *name;
	int (*init)(nccl_logger logger);
	int (*devices)(int *count);
	int (*get_properties)(int device, struct nccl_properties_v8 *properties);
	int (*listen)(int device, void *handle, void **listen_comm);
	int (*connect)(int device, void *handle, void **send_comm, struct nccl_device_handle **device_handle);
	NCCL_NET_ACCEPT_TO_DEREGISTER;
	NCCL_NET_TRANSFERS_UNTIL_8;
	NCCL_NET_FLUSH_TO_CONSUMED;
};

struct nccl_net_v9 {
	const char *name;
	int (*init)(nccl_logger logger);
	int (*devices)(int *count);
	int (*get_properties)(int device, struct nccl_properties_v9 *properties);
	int (*listen)(int device, void *handle, void **listen_comm);
	int (*connect)(int device, void *handle, void **send_comm, struct nccl_device_handle **device_handle);
	NCCL_NET_ACCEPT_TO_DEREGISTER;
	int (*isend)(void *send_comm, void *data, size_t size, int tag, void *memory, void **request);
	int (*irecv)(void *recv_comm, int count, void **data, size_t *sizes, int *tags, void **memories, void **request);
	NCCL_NET_FLUSH_TO_CONSUMED;
	int (*make_virtual)(int *device, struct nccl_virtual_4 *members);
};

#define NCCL_NET_TRANSFERS_SINCE_10 \
	int (*isend)(void *send_comm, void *data, size_t size, int tag, void *memory, void *parent, void **request); \
	int (*irecv)(void *recv_comm, int count, void **data, size_t *sizes, int *tags, void **memories, void **parents, \
		     void **request)

struct nccl_net_v10 {
	const char *name;
	int (*init)(nccl_logger logger, nccl_profiler profiler);
	int (*devices)(int *count);
	int (*get_properties)(int device, struct nccl_properties_v9 *properties);
	int (*listen)(int device, void *handle, void **listen_comm);
	int (*connect)(int device, struct nccl_comm_config *config, void *handle, void **send_comm,
		       struct nccl_device_handle **device_handle);
	NCCL_NET_ACCEPT_TO_DEREGISTER;
	NCCL_NET_TRANSFERS_SINCE_10;
	NCCL_NET_FLUSH_TO_CONSUMED;
	int (*make_virtual)(int *device, struct nccl_virtual_4 *members);
};

#define NCCL_NET_LISTEN_TO_CONSUMED_SINCE_11 \
	int (*listen)(void *context, int device, void *handle, void **listen_comm); \
	int (*connect)(void *context, int device, void *handle, void **send_comm, struct nccl_device_handle **device_handle); \
	NCCL_NET_ACCEPT_TO_DEREGISTER; \
	NCCL_NET_TRANSFERS_SINCE_10; \
	NCCL_NET_FLUSH_TO_CONSUMED

struct nccl_net_v11 {
	const char *name;
	int (*init)(void **context, uint64_t comm, struct nccl_comm_config *config, nccl_logger logger, nccl_profiler profiler);
	int (*devices)(int *count);
	int (*get_properties)(int device, struct nccl_properties_v11 *properties);
	NCCL_NET_LISTEN_TO_CONSUMED_SINCE_11;
	int (*make_virtual)(int *device, struct nccl_virtual_4 *members);
	int (*finalize)(void *context);
	int (*set_attributes)(void *context, struct nccl_attributes *attributes);
};

struct nccl_net_v12 {
	const char *name;
	int (*init)(void **context, uint64_t comm, struct nccl_comm_config *config, nccl_logger logger, nccl_profiler profiler);
	int (*devices)(int *count);
	int (*get_properties)(int device, struct nccl_properties_v12 *properties);
	NCCL_NET_LISTEN_TO_CONSUMED_SINCE_11;
	int (*make_virtual)(int *device, struct nccl_virtual_8 *members);
	int (*finalize)(void *context);
	int (*set_attributes)(void *context, struct nccl_attributes *attributes);
};

#if defined(__LP64__)
#define NCCL_AT(type, field, offset) _Static_assert(offsetof(struct type, field) == (offset), #type "." #field)
#define NCCL_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)

NCCL_SIZE(nccl_device_handle, 32);
NCCL_SIZE(nccl_comm_config, 4);
NCCL_SIZE(nccl_attributes, 44);
NCCL_SIZE(nccl_virtual_4, 20);
NCCL_SIZE(nccl_virtual_8, 36);

NCCL_SIZE(nccl_properties_v6, 48);
NCCL_AT(nccl_properties_v6, pointers, 24);
NCCL_AT(nccl_properties_v6, latency, 36);
NCCL_AT(nccl_properties_v6, max_recvs, 44);
NCCL_SIZE(nccl_properties_v7, 56);
NCCL_AT(nccl_properties_v7, pointers, 24);
NCCL_AT(nccl_properties_v7, latency, 36);
NCCL_AT(nccl_properties_v7, device_version, 52);
NCCL_SIZE(nccl_properties_v8, 64);
NCCL_AT(nccl_properties_v8, pointers, 24);
NCCL_AT(nccl_properties_v8, speed, 32);
NCCL_AT(nccl_properties_v8, latency, 40);
NCCL_AT(nccl_properties_v8, device_version, 56);
NCCL_SIZE(nccl_properties_v9, 104);
NCCL_AT(nccl_properties_v9, force_flush, 32);
NCCL_AT(nccl_properties_v9, latency, 44);
NCCL_AT(nccl_properties_v9, members, 64);
NCCL_AT(nccl_properties_v9, max_p2p, 88);
NCCL_SIZE(nccl_properties_v11, 112);
NCCL_AT(nccl_properties_v11, members, 64);
NCCL_AT(nccl_properties_v11, max_p2p, 88);
NCCL_AT(nccl_properties_v11, max_multi_request, 104);
NCCL_SIZE(nccl_properties_v12, 128);
NCCL_AT(nccl_properties_v12, members, 64);
NCCL_AT(nccl_properties_v12, max_p2p, 104);
NCCL_AT(nccl_properties_v12, max_multi_request, 120);
NCCL_AT(nccl_properties_v12, rail, 124);
NCCL_AT(nccl_properties_v12, plane, 126);

NCCL_SIZE(nccl_net_v6, 136);
NCCL_SIZE(nccl_net_v7, 152);
NCCL_SIZE(nccl_net_v8, 152);
NCCL_SIZE(nccl_net_v9, 160);
NCCL_SIZE(nccl_net_v10, 160);
NCCL_SIZE(nccl_net_v11, 176);
NCCL_SIZE(nccl_net_v12, 176);
/* Every entry is a pointer: what has its place at both ends and in the middle has it throughout. */
#define NCCL_NET_PLACES_SINCE_6(type) \
	NCCL_AT(type, init, 8); NCCL_AT(type, devices, 16); NCCL_AT(type, get_properties, 24); \
	NCCL_AT(type, listen, 32); NCCL_AT(type, connect, 40); NCCL_AT(type, accept, 48); NCCL_AT(type, reg_mr, 56); \
	NCCL_AT(type, reg_mr_dmabuf, 64); NCCL_AT(type, dereg_mr, 72); NCCL_AT(type, isend, 80); \
	NCCL_AT(type, irecv, 88); NCCL_AT(type, iflush, 96); NCCL_AT(type, test, 104); NCCL_AT(type, close_send, 112); \
	NCCL_AT(type, close_recv, 120); NCCL_AT(type, close_listen, 128)
#define NCCL_NET_PLACES(type) \
	NCCL_NET_PLACES_SINCE_6(type); NCCL_AT(type, get_device_mr, 136); NCCL_AT(type, irecv_consumed, 144)
NCCL_NET_PLACES_SINCE_6(nccl_net_v6);
NCCL_NET_PLACES(nccl_net_v7);
NCCL_NET_PLACES(nccl_net_v8);
NCCL_NET_PLACES(nccl_net_v9);
NCCL_NET_PLACES(nccl_net_v10);
NCCL_NET_PLACES(nccl_net_v11);
NCCL_NET_PLACES(nccl_net_v12);
NCCL_AT(nccl_net_v9, make_virtual, 152);
NCCL_AT(nccl_net_v10, make_virtual, 152);
NCCL_AT(nccl_net_v11, make_virtual, 152);
NCCL_AT(nccl_net_v11, finalize, 160);
NCCL_AT(nccl_net_v11, set_attributes, 168);
NCCL_AT(nccl_net_v12, make_virtual, 152);
NCCL_AT(nccl_net_v12, finalize, 160);
NCCL_AT(nccl_net_v12, set_attributes, 168);
#undef NCCL_NET_PLACES
#undef NCCL_NET_PLACES_SINCE_6
#undef NCCL_SIZE
#undef NCCL_AT
#endif

#endif
