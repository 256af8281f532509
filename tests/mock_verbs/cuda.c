/* SPDX-License-Identifier: BSD-3-Clause */
/* cuda.c - a libcuda with one GPU, whose memory the processor cannot touch: files, mapped without any access. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INVALID 1
#define DMABUF_SUPPORTED 124

struct allocation { struct allocation *next; char *base, *view; size_t size; int fd; };

int mock_gpu_exports = 1;
atomic_int mock_gpu_entered;
static struct allocation *all;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Declared here, as cuda.h is not needed. */
void *mock_gpu_alloc(size_t size);
char *mock_gpu_view(const void *data);
void mock_gpu_free(void *base);
int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);
int cuDeviceGet(int *device, int ordinal);
int cuDeviceGetAttribute(int *value, int attribute, int device);
int cuPointerGetAttribute(void *value, int attribute, uint64_t pointer);
int cuCtxPushCurrent_v2(void *context);
int cuCtxPopCurrent_v2(void **context);
int cuDevicePrimaryCtxRetain(void **context, int device);
int cuCtxSetCurrent(void *context);
int cuMemAlloc_v2(uint64_t *pointer, size_t size);
int cuMemFree_v2(uint64_t pointer);
int cuMemcpy(uint64_t to, uint64_t from, size_t size);
int cuMemGetHandleForAddressRange(void *handle, uint64_t pointer, size_t size, int type, unsigned long long flags);

void *mock_gpu_alloc(size_t size)
{
	struct allocation *made = calloc(1, sizeof(*made));

	made->size = (size + 4095) & ~(size_t)4095;
	made->fd = memfd_create("mock-gpu", MFD_CLOEXEC);
	if (ftruncate(made->fd, (off_t)made->size))
		abort();
	made->base = mmap(NULL, made->size, PROT_NONE, MAP_SHARED, made->fd, 0);
	made->view = mmap(NULL, made->size, PROT_READ | PROT_WRITE, MAP_SHARED, made->fd, 0);
	pthread_mutex_lock(&lock);
	made->next = all;
	all = made;
	pthread_mutex_unlock(&lock);
	return made->base;
}

static struct allocation *find(const void *data)
{
	struct allocation *a;

	pthread_mutex_lock(&lock);
	a = all;
	while (a && ((const char *)data < a->base || (const char *)data >= a->base + a->size))
		a = a->next;
	pthread_mutex_unlock(&lock);
	return a;
}

/* What the GPU itself sees. */
char *mock_gpu_view(const void *data)
{
	struct allocation *a = find(data);

	return a ? a->view + ((const char *)data - a->base) : NULL;
}

void mock_gpu_free(void *base)
{
	struct allocation *a = find(base), **at = &all;

	pthread_mutex_lock(&lock);
	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	pthread_mutex_unlock(&lock);
	munmap(a->base, a->size);
	munmap(a->view, a->size);
	close(a->fd);
	free(a);
}

int cuInit(unsigned flags)
{
	return flags ? INVALID : 0;
}

int cuDeviceGetCount(int *count)
{
	*count = 1;
	return 0;
}

int cuDeviceGet(int *device, int ordinal)
{
	*device = ordinal;
	return ordinal ? INVALID : 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
	*value = attribute == DMABUF_SUPPORTED && mock_gpu_exports;
	return device ? INVALID : 0;
}

int cuPointerGetAttribute(void *value, int attribute, uint64_t pointer)
{
	if (attribute != 1 || !find((const void *)(uintptr_t)pointer))
		return INVALID;
	*(void **)value = &all;
	return 0;
}

int cuCtxPushCurrent_v2(void *context)
{
	mock_gpu_entered += context == &all;
	return context == &all ? 0 : INVALID;
}

int cuCtxPopCurrent_v2(void **context)
{
	*context = &all;
	mock_gpu_entered--;
	return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
	*context = &all;
	return device ? INVALID : 0;
}

int cuCtxSetCurrent(void *context)
{
	return cuCtxPushCurrent_v2(context);
}

int cuMemAlloc_v2(uint64_t *pointer, size_t size)
{
	*pointer = (uintptr_t)mock_gpu_alloc(size);
	return 0;
}

int cuMemFree_v2(uint64_t pointer)
{
	if (!find((void *)(uintptr_t)pointer))
		return INVALID;
	mock_gpu_free((void *)(uintptr_t)pointer);
	return 0;
}

int cuMemcpy(uint64_t to, uint64_t from, size_t size)
{
	char *there = mock_gpu_view((const void *)(uintptr_t)to), *here = mock_gpu_view((const void *)(uintptr_t)from);

	if (mock_gpu_entered < 1)
		return INVALID;
	memcpy(there ? there : (char *)(uintptr_t)to, here ? here : (char *)(uintptr_t)from, size);
	return 0;
}

/* Of whole pages from the beginning of an allocation. */
int cuMemGetHandleForAddressRange(void *handle, uint64_t pointer, size_t size, int type, unsigned long long flags)
{
	struct allocation *a = find((const void *)(uintptr_t)pointer);

	if (!mock_gpu_exports || mock_gpu_entered < 1 || type != 1 || flags || !a || (uintptr_t)a->base != pointer || size % 4096 ||
	    size > a->size)
		return INVALID;
	*(int *)handle = dup(a->fd);
	return 0;
}
