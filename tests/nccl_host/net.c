/* SPDX-License-Identifier: BSD-3-Clause */
/* net.c - loads a plugin as NCCL does, and calls it as if there were one version of the interface. */
#include "tests/nccl_host/host.h"

#include "plugins/nccl/network_event.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Given literally first; then, if it is no path and no file name, as what stands between libnccl-net- and .so. */
int host_load(const char *name, void **library, char *why, size_t room)
{
	char file[255];
	size_t length = strlen(name);
	int is_file = strchr(name, '/') || (length > 6 && !strncmp(name, "lib", 3) && !strcmp(name + length - 3, ".so"));

	*library = NULL;
	if (!strcasecmp(name, "none")) {
		snprintf(why, room, "'none' means no plugin");
		return -1;
	}
	snprintf(file, sizeof file, "%s", length ? name : "libnccl-net.so");
	*library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	if (!*library)
		snprintf(why, room, "%s", dlerror());
	if (!*library && length && !is_file) {
		snprintf(file, sizeof file, "libnccl-net-%.200s.so", name);
		*library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
		if (!*library)
			snprintf(why, room, "%s", dlerror());
	}
	return *library ? 0 : -1;
}

const void *host_find(void *library, const struct host_kind *kind, int version)
{
	char symbol[32];

	snprintf(symbol, sizeof symbol, "%s_v%d", kind->symbol, version);
	return dlsym(library, symbol);
}

int host_open(struct host_net *net, const char *name, const struct host_kind *kind, int version, char *why, size_t room)
{
	*net = (struct host_net){ .version = version, .traffic_class = net->traffic_class };
	if (host_load(name, &net->library, why, room))
		return -1;
	net->table = host_find(net->library, kind, version);
	if (!net->table) {
		snprintf(why, room, "no %s_v%d", kind->symbol, version);
		dlclose(net->library);
		return -1;
	}
	net->name = *(const char *const *)net->table;
	return 0;
}

/* The version's own table; what is alike in all of them is called through the oldest one's. */
#define V(n) ((const struct nccl_net_v##n *)net->table)

static atomic_int events_open, events_seen;
static int a_parent;

/* As careless as the real one, and like it without an event now and then. */
static int profile(void **event, int type, void *parent, int64_t plugin, void *data)
{
	int seen;
	const struct snti_nccl_event *ours = data;

	if (type == NCCL_PROFILE_START) {
		if (plugin == SNTI_NCCL_EVENT_PLUGIN && (ours->device < 0 || ours->device > 63 || ours->type > 1))
			__builtin_trap();
		if (parent != &a_parent || *event || plugin >> 16 < 1)
			__builtin_trap();
		seen = atomic_fetch_add(&events_seen, 1);
		if (seen % 3) {
			atomic_fetch_add(&events_open, 1);
			*event = &events_open;
		}
	} else if (type == NCCL_PROFILE_STOP) {
		if (*event != &events_open)
			__builtin_trap();
		atomic_fetch_sub(&events_open, 1);
	}
	return NCCL_SUCCESS;
}

int host_events_open(void)
{
	return atomic_load(&events_open);
}

/* The bootstrap's transfers have no parent, or not even a place for one. */
static void *some_parent(size_t size)
{
	return size / 16 % 3 ? &a_parent : NULL;
}

int host_init(const struct host_net *net, void **context, nccl_logger logger)
{
	struct nccl_comm_config config = { .traffic_class = net->traffic_class };

	*context = NULL;
	if (net->version >= 11)
		return V(11)->init(context, 0x1234, &config, logger, profile);
	if (net->version == 10)
		return V(10)->init(logger, profile);
	return V(8)->init(logger);
}

int host_finalize(const struct host_net *net, void *context)
{
	return net->version >= 11 ? V(11)->finalize(context) : NCCL_SUCCESS;
}

int host_devices(const struct host_net *net, int *count)
{
	return V(8)->devices(count);
}

static void widen_8(const struct nccl_properties_v8 *from, struct nccl_properties_v12 *to)
{
	*to = (struct nccl_properties_v12){ .name = from->name, .pci_path = from->pci_path, .guid = from->guid,
		.pointers = from->pointers, .global_registration = from->global_registration, .speed = from->speed,
		.port = from->port, .latency = from->latency, .max_comms = from->max_comms,
		.max_recvs = from->max_recvs, .device_type = from->device_type,
		.device_version = from->device_version, .max_p2p = (size_t)1 << 30,
		.max_collective = (size_t)1 << 29, .max_multi_request = 1, .rail = -1, .plane = -1 };
}

static void widen_7(const struct nccl_properties_v7 *from, struct nccl_properties_v8 *to)
{
	*to = (struct nccl_properties_v8){ .name = from->name, .pci_path = from->pci_path, .guid = from->guid,
		.pointers = from->pointers, .speed = from->speed, .port = from->port, .latency = from->latency,
		.max_comms = from->max_comms, .max_recvs = from->max_recvs, .device_type = from->device_type,
		.device_version = from->device_version };
}

/* Versions 6 to 8. */
static int old_properties(const struct host_net *net, int device, struct nccl_properties_v12 *to)
{
	struct nccl_properties_v7 seven;
	struct nccl_properties_v8 eight;
	int result;

	/* Rubbish, as NCCL does not clear it. */
	memset(&seven, 0x5a, sizeof seven);
	memset(&eight, 0x5a, sizeof eight);
	if (net->version == 8) {
		result = V(8)->get_properties(device, &eight);
	} else if (net->version == 7) {
		result = V(7)->get_properties(device, &seven);
		widen_7(&seven, &eight);
	} else {
		result = V(6)->get_properties(device, (struct nccl_properties_v6 *)(void *)&seven);
		seven.device_type = seven.device_version = 0;
		widen_7(&seven, &eight);
	}
	widen_8(&eight, to);
	return result;
}

static void widen_11(const struct nccl_properties_v11 *from, struct nccl_properties_v12 *to)
{
	memset(to, 0, sizeof *to);
	memcpy(to, from, offsetof(struct nccl_properties_v11, members));
	to->members.count = from->members.count;
	memcpy(to->members.devices, from->members.devices, sizeof from->members.devices);
	to->max_p2p = from->max_p2p;
	to->max_collective = from->max_collective;
	to->max_multi_request = from->max_multi_request;
	to->rail = to->plane = -1;
}

int host_properties(const struct host_net *net, int device, struct nccl_properties_v12 *to)
{
	struct nccl_properties_v11 eleven;
	int result;

	memset(&eleven, 0x5a, sizeof eleven);
	memset(to, 0x5a, sizeof *to);
	if (net->version >= 12)
		return V(12)->get_properties(device, to);
	if (net->version <= 8)
		return old_properties(net, device, to);
	if (net->version == 11) {
		result = V(11)->get_properties(device, &eleven);
	} else {
		eleven.max_multi_request = 1;
		result = V(9)->get_properties(device, (struct nccl_properties_v9 *)(void *)&eleven);
	}
	widen_11(&eleven, to);
	return result;
}

int host_can_merge(const struct host_net *net)
{
	if (net->version >= 12)
		return V(12)->make_virtual != NULL;
	return net->version >= 9 && (net->version == 11 ? V(11)->make_virtual : V(9)->make_virtual) != NULL;
}

int host_merge(const struct host_net *net, int *device, const int *members, int count)
{
	struct nccl_virtual_8 eight = { .count = count };
	struct nccl_virtual_4 four = { .count = count };

	*device = 0x5a5a5a5a;
	for (int i = 0; i < count && i < 8; i++)
		eight.devices[i] = members[i];
	memcpy(four.devices, eight.devices, sizeof four.devices);
	if (net->version >= 12)
		return V(12)->make_virtual(device, &eight);
	return net->version == 11 ? V(11)->make_virtual(device, &four) : V(9)->make_virtual(device, &four);
}

int host_set_attributes(const struct host_net *net, void *context, int peers)
{
	struct nccl_attributes one = { .send = { peers, peers, 1, 1 }, .recv = { peers, -1, -1, -1 }, .operations = 1u << 4,
		.algorithms = 1u << 1, .protocols = UINT32_MAX };

	if (net->version < 11 || !V(11)->set_attributes)
		return NCCL_SUCCESS;
	return V(11)->set_attributes(context, &one);
}

int host_listen(const struct host_net *net, void *context, int device, void *handle, void **comm)
{
	*comm = HOST_STALE;
	memset(handle, 0x5a, NCCL_HANDLE_BYTES);
	return net->version >= 11 ? V(11)->listen(context, device, handle, comm) : V(8)->listen(device, handle, comm);
}

int host_connect(const struct host_net *net, void *context, int device, void *handle, void **comm)
{
	struct nccl_comm_config config = { .traffic_class = net->traffic_class };
	struct nccl_device_handle *unused = NULL;

	*comm = HOST_STALE;
	if (net->version >= 11)
		return V(11)->connect(context, device, handle, comm, &unused);
	if (net->version == 10)
		return V(10)->connect(device, &config, handle, comm, &unused);
	if (net->version == 6)
		return V(6)->connect(device, handle, comm);
	return V(8)->connect(device, handle, comm, &unused);
}

int host_accept(const struct host_net *net, void *listen_comm, void **comm)
{
	struct nccl_device_handle *unused = NULL;

	*comm = HOST_STALE;
	return net->version == 6 ? V(6)->accept(listen_comm, comm) : V(8)->accept(listen_comm, comm, &unused);
}

int host_register(const struct host_net *net, void *comm, void *data, size_t size, void **memory)
{
	*memory = HOST_STALE;
	if (net->version <= 7)
		return V(7)->reg_mr(comm, data, (int)size, NCCL_PTR_HOST, memory);
	return V(8)->reg_mr(comm, data, size, NCCL_PTR_HOST, memory);
}

int host_register_gpu(const struct host_net *net, void *comm, void *data, size_t size, uint64_t offset, int fd, void **memory)
{
	*memory = HOST_STALE;
	if (fd >= 0)
		return V(8)->reg_mr_dmabuf(comm, data, size, NCCL_PTR_CUDA, offset, fd, memory);
	if (net->version <= 7)
		return V(7)->reg_mr(comm, data, (int)size, NCCL_PTR_CUDA, memory);
	return V(8)->reg_mr(comm, data, size, NCCL_PTR_CUDA, memory);
}

int host_deregister(const struct host_net *net, void *comm, void *memory)
{
	return V(8)->dereg_mr(comm, memory);
}

int host_isend(const struct host_net *net, void *comm, void *data, size_t size, int tag, void *memory, void **request)
{
	*request = HOST_STALE;
	if (net->version >= 10)
		return V(10)->isend(comm, data, size, tag, memory, some_parent(size), request);
	if (net->version == 9)
		return V(9)->isend(comm, data, size, tag, memory, request);
	return V(8)->isend(comm, data, (int)size, tag, memory, request);
}

int host_irecv(const struct host_net *net, void *comm, struct host_buffers *b, void **request)
{
	int sizes[NCCL_MAX_RECVS];
	void *parents[NCCL_MAX_RECVS];

	/* What NCCL says when nobody waits for this receive. */
	*request = b->count == 1 && net->version >= 9 ? NCCL_OPTIONAL_RECV : HOST_STALE;
	for (int i = 0; i < b->count; i++) {
		sizes[i] = (int)b->sizes[i];
		parents[i] = some_parent(b->sizes[i]);
	}
	if (net->version >= 10)
		return V(10)->irecv(comm, b->count, b->data, b->sizes, b->tags, b->memories, b->tags[0] % 2 ? NULL : parents,
				    request);
	if (net->version == 9)
		return V(9)->irecv(comm, b->count, b->data, b->sizes, b->tags, b->memories, request);
	return V(8)->irecv(comm, b->count, b->data, sizes, b->tags, b->memories, request);
}

int host_iflush(const struct host_net *net, void *comm, struct host_buffers *b, void **request)
{
	int sizes[NCCL_MAX_RECVS];

	*request = NULL;
	for (int i = 0; i < b->count; i++)
		sizes[i] = (int)b->sizes[i];
	return V(8)->iflush(comm, b->count, b->data, sizes, b->memories, request);
}

int host_test(const struct host_net *net, void *request, int *done, int *sizes)
{
	*done = 0x5a5a5a5a;
	return V(8)->test(request, done, sizes);
}

int host_close_send(const struct host_net *net, void *comm)
{
	return V(8)->close_send(comm);
}

int host_close_recv(const struct host_net *net, void *comm)
{
	return V(8)->close_recv(comm);
}

int host_close_listen(const struct host_net *net, void *comm)
{
	return V(8)->close_listen(comm);
}

const char *host_result_name(int result)
{
	static const char *const names[] = { "success", "unhandled CUDA error", "system error", "internal error",
		"invalid argument", "invalid usage", "remote error", "in progress" };

	return result >= 0 && result < (int)(sizeof names / sizeof *names) ? names[result] : "an unknown result";
}
