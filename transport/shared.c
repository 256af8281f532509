/* SPDX-License-Identifier: BSD-3-Clause */
/* shared.c - memory that peers can map: snt_alloc, snt_free, and whose an address is. */
#define _GNU_SOURCE
#include "transport/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

struct allocation {
	struct snti_memory memory;
	struct allocation *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct allocation *allocations;
static uint64_t last_id, changes;

/* Sealed, so that a peer that maps it never finds a page gone. */
static int make_file(size_t size)
{
	int fd = memfd_create("sennit-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		close(fd);
		return -1;
	}
	return fd;
}

static int fill_in(struct snti_memory *memory, size_t size)
{
	memory->size = size;
	memory->fd = make_file(size);
	if (memory->fd < 0)
		return -1;
	memory->base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
	if (memory->base == MAP_FAILED) {
		close(memory->fd);
		return -1;
	}
	return 0;
}

void *snt_alloc(size_t size)
{
	void *memory = snti_shared_alloc(size);

	if (!memory)
		snti_fail(SNT_ENOMEM, "cannot allocate %zu bytes of shared memory: %s", size, strerror(errno));
	return memory;
}

void *snti_shared_alloc(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct allocation *made = NULL;

	errno = ENOMEM;
	if (size <= (size_t)PTRDIFF_MAX - page)
		made = calloc(1, sizeof(*made));
	if (!made || fill_in(&made->memory, size ? (size + page - 1) / page * page : page)) {
		free(made);     /* leaves errno */
		return NULL;
	}
	pthread_mutex_lock(&lock);
	made->memory.id = ++last_id;
	__atomic_store_n(&changes, changes + 1, __ATOMIC_RELEASE);
	made->next = allocations;
	allocations = made;
	pthread_mutex_unlock(&lock);
	return made->memory.base;
}

static struct allocation *take_out(const void *base)
{
	struct allocation **at, *found;

	pthread_mutex_lock(&lock);
	for (at = &allocations; *at && (*at)->memory.base != base; at = &(*at)->next)
		;
	found = *at;
	if (found) {
		*at = found->next;
		__atomic_store_n(&changes, changes + 1, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
	return found;
}

void snt_free(void *memory)
{
	struct allocation *found = memory ? take_out(memory) : NULL;

	if (!found) {
		if (memory)
			snti_log(SNT_LOG_ERROR, "snt_free of %p, which is not from snt_alloc", memory);
		return;
	}
	munmap(found->memory.base, found->memory.size);
	close(found->memory.fd);
	free(found);
}

uint64_t snti_shared_changes(void)
{
	return __atomic_load_n(&changes, __ATOMIC_ACQUIRE);
}

static int holds(const struct snti_memory *memory, const void *data, size_t size)
{
	uintptr_t at = (uintptr_t)data, base = (uintptr_t)memory->base;

	return at >= base && at - base <= memory->size && size <= memory->size - (at - base);
}

struct snti_memory *snti_shared_find(const void *data, size_t size)
{
	struct allocation *a;

	pthread_mutex_lock(&lock);
	for (a = allocations; a && !holds(&a->memory, data, size); a = a->next)
		;
	pthread_mutex_unlock(&lock);
	return a ? &a->memory : NULL;
}
