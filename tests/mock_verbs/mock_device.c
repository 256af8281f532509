/* SPDX-License-Identifier: BSD-3-Clause */
/* mock_device.c - the mock's devices, protection domains, memory and events. */
#include "tests/mock_verbs/mock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#undef ibv_get_device_list
#undef ibv_query_port
#undef ibv_reg_mr

static struct mock_script script;
static struct ibv_device devices[MOCK_DEVICES];
static struct mock_context *contexts;
static struct mock_mr *all_mrs;
static uint32_t last_key;
static __thread int only = MOCK_ALL;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void mock_lock(void)
{
	pthread_mutex_lock(&lock);
}

void mock_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

uint64_t mock_random(void)
{
	script.seed ^= script.seed << 13;
	script.seed ^= script.seed >> 7;
	script.seed ^= script.seed << 17;
	return script.seed;
}

uint64_t mock_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int mock_strikes(int *counter)
{
	return *counter > 0 && --*counter == 0;
}

struct mock_script *mock_script(void)
{
	return &script;
}

static void add_gid(struct mock_port *port, enum ibv_gid_type type, const char *text)
{
	struct ibv_gid_entry *entry = &port->gids[port->gid_count];

	entry->gid_index = (uint32_t)port->gid_count++;
	entry->port_num = 1;
	entry->gid_type = type;
	inet_pton(AF_INET6, text, entry->gid.raw);
}

/* One RoCE device as they come: link-local first, each address in both versions. */
void mock_reset(void)
{
	memset(&script, 0, sizeof(script));
	script.devices = 1;
	script.max_cqe = 32767;
	script.max_srq_wr = 32767;
	script.max_inline = 220;
	script.max_msg = 8 << 20;
	for (int i = 0; i < MOCK_DEVICES; i++) {
		char address[32];

		script.port[i] = (struct mock_port){ .state = IBV_PORT_ACTIVE, .link_layer = IBV_LINK_LAYER_ETHERNET, .speed = 32,
			.mtu = IBV_MTU_4096, .key_count = 1, .keys = { 0xffff } };
		snprintf(address, sizeof(address), "::ffff:10.0.0.%d", i + 1);
		add_gid(&script.port[i], IBV_GID_TYPE_ROCE_V1, "fe80::1");
		add_gid(&script.port[i], IBV_GID_TYPE_ROCE_V2, "fe80::1");
		add_gid(&script.port[i], IBV_GID_TYPE_ROCE_V1, address);
		add_gid(&script.port[i], IBV_GID_TYPE_ROCE_V2, address);
	}
}

static __attribute__((constructor)) void begin(void)
{
	const char *count = getenv("MOCK_DEVICES"), *down = getenv("MOCK_DOWN_AFTER");

	mock_reset();
	/* Once: other threads read them. */
	for (int i = 0; i < MOCK_DEVICES; i++) {
		snprintf(devices[i].name, sizeof(devices[i].name), "mock%d", i);
		devices[i].transport_type = IBV_TRANSPORT_IB;
	}
	if (count && atoi(count) > 0 && atoi(count) <= MOCK_DEVICES)
		script.devices = atoi(count);
	/* DEVICE:BYTES */
	if (down && atoi(down) >= 0 && atoi(down) < MOCK_DEVICES && strchr(down, ':'))
		script.down_after[atoi(down)] = strtoull(strchr(down, ':') + 1, NULL, 10);
	script.lags = getenv("MOCK_LAGS") != NULL;
	script.no_dmabufs = getenv("MOCK_NO_DMABUFS") != NULL;
}

/* ---- devices ------------------------------------------------------------ */

void mock_only(int device)
{
	only = device;
}

struct ibv_device **ibv_get_device_list(int *count)
{
	struct ibv_device **list = calloc(MOCK_DEVICES + 1, sizeof(struct ibv_device *));
	int found = 0;

	for (int i = 0; list && i < script.devices; i++) {
		enum ibv_transport_type type = script.iwarp && !i ? IBV_TRANSPORT_IWARP : IBV_TRANSPORT_IB;

		/* Other threads look at it. */
		if (devices[i].transport_type != type)
			devices[i].transport_type = type;
		if (only == MOCK_ALL || only == i)
			list[found++] = &devices[i];
	}
	if (count)
		*count = found;
	return list;
}

void ibv_free_device_list(struct ibv_device **list)
{
	free(list);
}

const char *ibv_get_device_name(struct ibv_device *device)
{
	return device->name;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	struct mock_context *context = calloc(1, sizeof(*context));

	if (!context)
		return NULL;
	context->device = (int)(device - devices);
	context->ibv.device = device;
	context->ibv.async_fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	context->ibv.ops.poll_cq = mock_poll_cq;
	context->ibv.ops.req_notify_cq = mock_req_notify;
	context->ibv.ops.post_send = mock_post_send;
	context->ibv.ops.post_recv = mock_post_recv;
	context->ibv.ops.post_srq_recv = mock_post_srq_recv;
	mock_lock();
	context->next = contexts;
	contexts = context;
	mock_count(&script.contexts, 1);
	mock_unlock();
	return &context->ibv;
}

int ibv_close_device(struct ibv_context *ibv)
{
	struct mock_context **at;

	mock_lock();
	for (at = &contexts; &(*at)->ibv != ibv; at = &(*at)->next)
		;
	*at = (*at)->next;
	mock_count(&script.contexts, -1);
	mock_unlock();
	close(ibv->async_fd);
	free((struct mock_context *)(void *)ibv);
	return 0;
}

int ibv_query_device(struct ibv_context *ibv, struct ibv_device_attr *attr)
{
	(void)ibv;
	memset(attr, 0, sizeof(*attr));
	attr->phys_port_cnt = 1;
	attr->max_cqe = script.max_cqe;
	attr->max_srq = 16;
	attr->max_srq_wr = script.max_srq_wr;
	return 0;
}

const struct mock_port *mock_port_of(const struct ibv_context *ibv)
{
	return &script.port[((const struct mock_context *)(const void *)ibv)->device];
}

int ibv_query_port(struct ibv_context *ibv, uint8_t number, struct _compat_ibv_port_attr *out)
{
	const struct mock_port *port = mock_port_of(ibv);
	struct ibv_port_attr *attr = (struct ibv_port_attr *)(void *)out;

	if (number != 1)
		return EINVAL;
	attr->state = port->state;
	attr->max_mtu = IBV_MTU_4096;
	attr->active_mtu = port->mtu;
	attr->gid_tbl_len = MOCK_GIDS;
	attr->pkey_tbl_len = MOCK_GIDS;
	attr->max_msg_sz = script.max_msg;
	attr->lid = port->link_layer == IBV_LINK_LAYER_ETHERNET ? 0 : 7;
	attr->active_width = 2;
	attr->active_speed = port->speed;
	attr->link_layer = port->link_layer;
	return 0;
}

ssize_t _ibv_query_gid_table(struct ibv_context *ibv, struct ibv_gid_entry *entries, size_t most, uint32_t flags, size_t size)
{
	const struct mock_port *port = mock_port_of(ibv);
	ssize_t count = 0;

	if (flags || size != sizeof(*entries))
		return -EINVAL;
	for (; count < port->gid_count && (size_t)count < most; count++)
		entries[count] = port->gids[count];
	return count;
}

int ibv_query_pkey(struct ibv_context *context, uint8_t number, int index, __be16 *key)
{
	const struct mock_port *port = mock_port_of(context);

	if (number != 1 || index < 0 || index >= MOCK_GIDS)
		return -1;
	*key = htons(index < port->key_count ? port->keys[index] : 0);
	return 0;
}

int ibv_fork_init(void)
{
	return 0;
}

/* ---- events ------------------------------------------------------------- */

void mock_tell(struct ibv_context *ibv, enum ibv_event_type type, void *element)
{
	struct mock_context *context = (struct mock_context *)(void *)ibv;
	struct ibv_async_event *event = &context->events[context->tail++ % 64];
	uint64_t one = 1;

	event->event_type = type;
	if (element)
		event->element.qp = element;
	else
		event->element.port_num = 1;
	(void)!write(ibv->async_fd, &one, sizeof(one));
}

void mock_event(enum ibv_event_type type, struct ibv_qp *qp)
{
	mock_lock();
	for (struct mock_context *context = contexts; context; context = context->next)
		if (!qp || qp->context == &context->ibv)
			mock_tell(&context->ibv, type, qp);
	mock_unlock();
}

void mock_tell_device(int device, enum ibv_event_type type)
{
	for (struct mock_context *context = contexts; context; context = context->next)
		if (context->device == device)
			mock_tell(&context->ibv, type, NULL);
}

void mock_device_event(int device, enum ibv_event_type type)
{
	mock_lock();
	mock_tell_device(device, type);
	mock_unlock();
}

static int is_of_qp(const struct ibv_async_event *event)
{
	return event->event_type == IBV_EVENT_QP_FATAL || event->event_type == IBV_EVENT_QP_REQ_ERR ||
		event->event_type == IBV_EVENT_QP_ACCESS_ERR;
}

void mock_untell(struct ibv_qp *qp)
{
	struct mock_context *context = (struct mock_context *)(void *)qp->context;

	for (unsigned i = context->head; i != context->tail; i++)
		if (is_of_qp(&context->events[i % 64]) && context->events[i % 64].element.qp == qp)
			context->events[i % 64].event_type = IBV_EVENT_CLIENT_REREGISTER;
}

int ibv_get_async_event(struct ibv_context *ibv, struct ibv_async_event *event)
{
	struct mock_context *context = (struct mock_context *)(void *)ibv;
	uint64_t one;

	if (read(ibv->async_fd, &one, sizeof(one)) != sizeof(one))
		return -1;
	mock_lock();
	*event = context->events[context->head++ % 64];
	if (is_of_qp(event))
		((struct mock_qp *)(void *)event->element.qp)->events++;
	mock_unlock();
	return 0;
}

void ibv_ack_async_event(struct ibv_async_event *event)
{
	if (is_of_qp(event))
		((struct mock_qp *)(void *)event->element.qp)->events--;
}

const char *ibv_event_type_str(enum ibv_event_type type)
{
	return type == IBV_EVENT_PORT_ERR ? "port error" : type == IBV_EVENT_PORT_ACTIVE ? "port active" : "event of the mock";
}

const char *ibv_wc_status_str(enum ibv_wc_status status)
{
	return status == IBV_WC_RETRY_EXC_ERR ? "transport retry counter exceeded" : status == IBV_WC_WR_FLUSH_ERR ?
		"Work Request Flushed Error" : "error of the mock";
}

/* ---- memory ------------------------------------------------------------- */

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context)
{
	struct ibv_pd *pd = calloc(1, sizeof(*pd));

	if (pd)
		pd->context = context;
	mock_count(&script.pds, pd != NULL);
	return pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	int is_used = 0;

	mock_lock();
	for (const struct mock_mr *mr = all_mrs; mr; mr = mr->next)
		is_used |= mr->ibv.pd == pd;
	mock_unlock();
	if (is_used)
		return EBUSY;
	mock_count(&script.pds, -1);
	free(pd);
	return 0;
}

static struct ibv_mr *add_mr(struct ibv_pd *pd, void *base, size_t size, uint64_t iova, unsigned int access)
{
	struct mock_mr *mr = NULL;

	mock_lock();
	script.registrations++;
	errno = ENOMEM;
	if (iova == (uintptr_t)base && !mock_strikes(&script.fail_reg) &&
	    (!script.lock_most || script.locked + size <= script.lock_most))
		mr = calloc(1, sizeof(*mr));
	if (mr) {
		last_key += 16;
		mr->ibv = (struct ibv_mr){ .context = pd->context, .pd = pd, .addr = base, .length = size,
			.lkey = last_key, .rkey = last_key + 1 };
		mr->access = access;
		mr->next = all_mrs;
		all_mrs = mr;
		script.locked += size;
		mock_count(&script.mrs, 1);
	}
	mock_unlock();
	return mr ? &mr->ibv : NULL;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *base, size_t size, uint64_t iova, unsigned int access)
{
	return add_mr(pd, base, size, iova, access);
}

/* What counts as a GPU's is a file here: the processor has no access at the address, the device has its own view. */
struct ibv_mr *ibv_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t size, uint64_t iova, int fd, int access)
{
	char *mapping = MAP_FAILED;
	struct mock_mr *mr;

	errno = EOPNOTSUPP;
	if (!script.no_dmabufs) {
		errno = EBADF;
		mapping = fd < 0 ? MAP_FAILED : mmap(NULL, offset + size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
	if (mapping == MAP_FAILED)
		return NULL;
	mr = (struct mock_mr *)(void *)add_mr(pd, (void *)(uintptr_t)iova, size, iova, (unsigned)access);
	if (!mr) {
		munmap(mapping, offset + size);
		errno = ENOMEM;
		return NULL;
	}
	mr->mapping = mapping;
	mr->mapped = offset + size;
	mr->view = mapping + offset;
	return &mr->ibv;
}

char *mock_at(const struct mock_mr *mr, uint64_t at)
{
	return mr->view ? mr->view + (at - (uintptr_t)mr->ibv.addr) : (char *)(uintptr_t)at;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *base, size_t size, int access)
{
	return add_mr(pd, base, size, (uintptr_t)base, (unsigned)access);
}

int ibv_dereg_mr(struct ibv_mr *ibv)
{
	struct mock_mr **at;

	mock_lock();
	if (((struct mock_mr *)(void *)ibv)->mapping)
		mock_settle();
	for (at = &all_mrs; &(*at)->ibv != ibv; at = &(*at)->next)
		;
	*at = (*at)->next;
	script.locked -= ibv->length;
	mock_count(&script.mrs, -1);
	mock_unlock();
	if (((struct mock_mr *)(void *)ibv)->mapping)
		munmap(((struct mock_mr *)(void *)ibv)->mapping, ((struct mock_mr *)(void *)ibv)->mapped);
	free((struct mock_mr *)(void *)ibv);
	return 0;
}

struct mock_mr *mock_find_mr(const struct ibv_pd *pd, uint32_t key, uint64_t at, size_t size)
{
	for (struct mock_mr *mr = all_mrs; mr; mr = mr->next) {
		uintptr_t base = (uintptr_t)mr->ibv.addr;

		if (mr->ibv.pd == pd && (mr->ibv.lkey == key || mr->ibv.rkey == key))
			return at >= base && size <= mr->ibv.length && at - base <= mr->ibv.length - size ? mr : NULL;
	}
	return NULL;
}
