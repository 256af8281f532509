/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_load.c - libibverbs, opened when the transport is first used: one package serves machines with and without. */
#include "transport/verbs.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

struct verbs_calls verbs_calls;
static char reason[200];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
	static const struct { const char *name; size_t offset; int optional; } calls[] = {
#define NAMED(name) { #name, offsetof(struct verbs_calls, name), 0 },
		VERBS_CALLS(NAMED)
#undef NAMED
#define NAMED(name) { #name, offsetof(struct verbs_calls, name), 1 },
		VERBS_OPTIONAL_CALLS(NAMED)
#undef NAMED
	};
	void *library = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		snprintf(reason, sizeof(reason), "%s", dlerror());
		return;
	}
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		void *symbol = dlsym(library, calls[i].name);

		if (!symbol && !calls[i].optional) {
			snprintf(reason, sizeof(reason), "libibverbs.so.1 is too old: it lacks %s", calls[i].name);
			dlclose(library);
			return;
		}
		*(void **)((char *)&verbs_calls + calls[i].offset) = symbol;
	}
	/* Registered pages stay with the parent when a rank forks; before the first registration or never. */
	verbs_calls.ibv_fork_init();
}

int verbs_load(const char **why)
{
	pthread_once(&once, load);
	*why = reason;
	return *reason ? SNT_EUNSUPPORTED : 0;
}
