/* SPDX-License-Identifier: BSD-3-Clause */
/* gpu.c - CUDA's driver library, without its headers: dmabufs of GPU memory. */
#include "transport/gpu.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include "base/log.h"

#define POINTER_CONTEXT 1         /* numbers of cuda.h, which never change */
#define DMABUF_SUPPORTED 124
#define DMABUF_HANDLE 1
#define PAGE 4096

static struct {
	int (*init)(unsigned flags);
	int (*device_count)(int *count);
	int (*device)(int *device, int ordinal);
	int (*attribute)(int *value, int attribute, int device);
	int (*pointer)(void *value, int attribute, uint64_t pointer);
	int (*push)(void *context);
	int (*pop)(void **context);
	int (*handle)(void *handle, uint64_t pointer, size_t size, int type, unsigned long long flags);
} cuda;
static char reason[200];
static int exports;                      /* some GPU does */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int load_calls(void)
{
	static const struct { const char *name; void **at; } calls[] = {
		{ "cuInit", (void **)&cuda.init }, { "cuDeviceGetCount", (void **)&cuda.device_count },
		{ "cuDeviceGet", (void **)&cuda.device }, { "cuDeviceGetAttribute", (void **)&cuda.attribute },
		{ "cuPointerGetAttribute", (void **)&cuda.pointer }, { "cuCtxPushCurrent_v2", (void **)&cuda.push },
		{ "cuCtxPopCurrent_v2", (void **)&cuda.pop },
		{ "cuMemGetHandleForAddressRange", (void **)&cuda.handle },
	};
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		snprintf(reason, sizeof(reason), "%s", dlerror());
		return -1;
	}
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		*calls[i].at = dlsym(library, calls[i].name);
		if (!*calls[i].at) {
			snprintf(reason, sizeof(reason), "libcuda.so.1 lacks %s: CUDA 11.7 is needed", calls[i].name);
			return -1;
		}
	}
	return 0;
}

static void load(void)
{
	int count = 0, device, yes, error;

	if (load_calls())
		return;
	error = cuda.init(0);
	if (!error)
		error = cuda.device_count(&count);
	if (error) {
		snprintf(reason, sizeof(reason), "CUDA's driver does not start (%d)", error);
		return;
	}
	for (int i = 0; i < count; i++)
		if (!cuda.device(&device, i) && !cuda.attribute(&yes, DMABUF_SUPPORTED, device))
			exports |= yes;
	if (!exports)
		snprintf(reason, sizeof(reason), "none of %d GPUs exports its memory as dmabufs: the open kernel modules of CUDA 11.7 "
			 "do", count);
}

int snti_gpu_exports(const char **why)
{
	pthread_once(&once, load);
	*why = reason;
	return exports ? 0 : SNT_EUNSUPPORTED;
}

/* Threads of ours have no context of their own. */
static int enter(const void *data)
{
	void *context = NULL;
	int error = cuda.pointer(&context, POINTER_CONTEXT, (uintptr_t)data);

	return error ? error : cuda.push(context);
}

static void leave(void)
{
	void *context;

	cuda.pop(&context);
}

int snti_gpu_export(const void *data, size_t size, int *fd, uint64_t *offset)
{
	uint64_t first = (uintptr_t)data & ~(uint64_t)(PAGE - 1), end = ((uintptr_t)data + size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	const char *why;
	int error;

	*fd = -1;
	if (snti_gpu_exports(&why))
		return snti_fail(SNT_EUNSUPPORTED, "memory of a GPU cannot be used: %s", why);
	error = enter(data);
	if (!error) {
		error = cuda.handle(fd, first, end - first, DMABUF_HANDLE, 0);
		leave();
	}
	if (error)
		return snti_fail(SNT_EUNSUPPORTED, "CUDA's driver exports no dmabuf of %zu bytes at %p (%d)", size, data, error);
	*offset = (uintptr_t)data - first;
	return 0;
}
