/* SPDX-License-Identifier: BSD-3-Clause */
/* pmix.c - shares rank 0's ticket through PMIx (Open MPI's mpirun, srun --mpi=pmix); the library is loaded when needed. */
#include "transport/environment.h"

#include "base/log.h"
#include "base/settings.h"

#if defined(__has_include)
#if __has_include(<pmix.h>)   /* Debian: -I/usr/lib/<triplet>/pmix2/include, from pkg-config pmix */
#include <pmix.h>
#define HAVE_PMIX 1
#endif
#endif

#ifndef HAVE_PMIX
int snti_pmix_ranks(int *ranks)
{
	(void)ranks;
	return snti_fail(SNT_EUNSUPPORTED, "PMIx started this process, but this build has no PMIx: use a ticket, or SNT_RANK, SNT_SIZE and SNT_ADDRESS");
}

int snti_pmix_share(const struct snti_place *place, struct snt_ticket *ticket)
{
	int ranks;

	(void)place, (void)ticket;
	return snti_pmix_ranks(&ranks);
}
#else
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
	int is_open;
	unsigned shared;
	pmix_proc_t me;
	__typeof__(PMIx_Init) *init;
	__typeof__(PMIx_Finalize) *finalize;
	__typeof__(PMIx_Put) *put;
	__typeof__(PMIx_Commit) *commit;
	__typeof__(PMIx_Fence) *fence;
	__typeof__(PMIx_Get) *get;
} pmix;
static pthread_mutex_t pmix_lock = PTHREAD_MUTEX_INITIALIZER;

static int fail(const char *what, pmix_status_t code)
{
	if (code == PMIX_ERR_TIMEOUT)
		return snti_fail(SNT_ETIMEOUT, "PMIx: %s did not end within %llu ms: not every process that the launcher started has made "
				 "a team", what, (unsigned long long)snti_settings()->startup_ms);
	return snti_fail(SNT_EDEVICE, "PMIx: %s failed with status %d", what, (int)code);
}

static int load(void)
{
	void *library = dlopen("libpmix.so.2", RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		return snti_fail(SNT_EUNSUPPORTED, "PMIx started this process, but libpmix.so.2 cannot be loaded: %s", dlerror());
	*(void **)&pmix.init = dlsym(library, "PMIx_Init");
	*(void **)&pmix.finalize = dlsym(library, "PMIx_Finalize");
	*(void **)&pmix.put = dlsym(library, "PMIx_Put");
	*(void **)&pmix.commit = dlsym(library, "PMIx_Commit");
	*(void **)&pmix.fence = dlsym(library, "PMIx_Fence");
	*(void **)&pmix.get = dlsym(library, "PMIx_Get");
	if (pmix.init && pmix.finalize && pmix.put && pmix.commit && pmix.fence && pmix.get)
		return 0;
	dlclose(library);
	return snti_fail(SNT_EUNSUPPORTED, "libpmix.so.2 lacks a function");
}

static void finalize(void)
{
	pmix.finalize(NULL, 0);
}

/* Once: the launcher takes an exit without finalize for a crash, and a second start is not portable. */
static int open_pmix(void)
{
	int status = pmix.is_open ? 0 : load();
	pmix_status_t code;

	if (status != 0 || pmix.is_open)
		return status;
	code = pmix.init(&pmix.me, NULL, 0);
	if (code != PMIX_SUCCESS)
		return fail("PMIx_Init", code);
	pmix.is_open = 1;
	atexit(finalize);
	return 0;
}

/* PMIx counts whole seconds, and 0 is for ever. */
static pmix_info_t time_limit(void)
{
	pmix_info_t limit = { .key = PMIX_TIMEOUT, .value = { .type = PMIX_INT } };

	limit.value.data.integer = (int)((snti_settings()->startup_ms + 999) / 1000);
	return limit;
}

/* The library frees what it made with free(); one value without inner pointers to others. */
static void free_value(pmix_value_t *value)
{
	if (value->type == PMIX_BYTE_OBJECT)
		free(value->data.bo.bytes);
	free(value);
}

int snti_pmix_ranks(int *ranks)
{
	pmix_value_t *value = NULL;
	pmix_proc_t job;
	pmix_status_t code = PMIX_SUCCESS;
	int status;

	pthread_mutex_lock(&pmix_lock);
	status = open_pmix();
	if (status == 0) {
		job = pmix.me;
		job.rank = PMIX_RANK_WILDCARD;
		code = pmix.get(&job, PMIX_JOB_SIZE, NULL, 0, &value);
	}
	pthread_mutex_unlock(&pmix_lock);
	if (status != 0)
		return status;
	if (code != PMIX_SUCCESS || value == NULL)
		return fail("PMIx_Get of the number of ranks", code);
	*ranks = value->type == PMIX_UINT32 && value->data.uint32 <= 1 << 20 ? (int)value->data.uint32 : 0;
	free_value(value);
	return *ranks > 0 ? 0 : fail("the number of ranks", PMIX_ERROR);
}

static int put_ticket(const struct snt_ticket *ticket, const char *key)
{
	pmix_value_t value;
	pmix_status_t code;

	memset(&value, 0, sizeof(value));
	value.type = PMIX_BYTE_OBJECT;
	value.data.bo.bytes = (char *)ticket->bytes;
	value.data.bo.size = sizeof(ticket->bytes);
	code = pmix.put(PMIX_GLOBAL, key, &value);
	if (code != PMIX_SUCCESS)
		return fail("PMIx_Put", code);
	code = pmix.commit();
	return code == PMIX_SUCCESS ? 0 : fail("PMIx_Commit", code);
}

static int get_ticket(struct snt_ticket *ticket, const char *key)
{
	pmix_value_t *value = NULL;
	pmix_info_t limit = time_limit();
	pmix_proc_t root = pmix.me;
	pmix_status_t code;
	int is_right;

	root.rank = 0;
	code = pmix.get(&root, key, &limit, 1, &value);
	if (code != PMIX_SUCCESS || value == NULL)
		return fail("PMIx_Get of the ticket", code);
	is_right = value->type == PMIX_BYTE_OBJECT && value->data.bo.size == sizeof(ticket->bytes);
	if (is_right)
		memcpy(ticket->bytes, value->data.bo.bytes, sizeof(ticket->bytes));
	free_value(value);
	return is_right ? 0 : fail("the ticket", PMIX_ERROR);
}

int snti_pmix_share(const struct snti_place *place, struct snt_ticket *ticket)
{
	pmix_info_t limit = time_limit();
	char key[32];
	int status, made = 0;
	pmix_status_t code;

	pthread_mutex_lock(&pmix_lock);
	status = open_pmix();
	snprintf(key, sizeof(key), "sennit-%u", pmix.shared++);
	if (status == 0 && place->rank == 0)
		made = snt_ticket_create(SNT_REACH_NETWORK, ticket);
	if (status == 0 && made == 0 && place->rank == 0)
		status = put_ticket(ticket, key);
	/* Without PMIX_COLLECT_DATA the value is fetched from rank 0's server when it is asked for. */
	if (status == 0 && (code = pmix.fence(NULL, 0, &limit, 1)) != PMIX_SUCCESS)
		status = fail("PMIx_Fence", code);
	if (status == 0 && place->rank != 0)
		status = get_ticket(ticket, key);
	pthread_mutex_unlock(&pmix_lock);
	return made != 0 ? made : status;
}
#endif
