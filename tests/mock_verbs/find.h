/* SPDX-License-Identifier: BSD-3-Clause */
/* find.h - a test's way to the mock, which has to be loaded before the transport asks for libibverbs. */
#ifndef TESTS_MOCK_VERBS_FIND_H
#define TESTS_MOCK_VERBS_FIND_H

#include <dlfcn.h>
#include <stdio.h>

#include "tests/mock_verbs/mock.h"

static inline void *mock_library(void)
{
	return dlopen("tests/mock_verbs/.libs/libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
}

/* NULL: there is none, which is said. @reset may be NULL. */
static inline struct mock_script *mock_find(void (**reset)(void))
{
	void *library = mock_library();
	struct mock_script *(*find)(void) = NULL;

	if (library)
		*(void **)&find = dlsym(library, "mock_script");
	if (library && reset)
		*(void **)reset = dlsym(library, "mock_reset");
	if (!find || (reset && !*reset)) {
		printf("no mock of libibverbs: %s\n", dlerror());
		return NULL;
	}
	return find();
}

#endif
