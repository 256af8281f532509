/* SPDX-License-Identifier: BSD-3-Clause */
/* test_ucx.c - the conformance tests on the ucx transport, over sets of UCX's own transports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/conformance.h"

/* "named": over what UCX_TLS says; then which tests, if not all. */
int main(int argc, char **argv)
{
	static const char *const sets[] = { "tcp,self", "posix,self", "sysv,cma,self", "all" };
	char text[200];
	int failed = 0;

	if (getenv("NO_UCX") || snti_ucx_transport.library(text, sizeof text)) {
		printf("skipped: %s\n", getenv("NO_UCX") ? "NO_UCX is set" : text);
		return 77;
	}
	printf("# %s\n", text);
	if (argc > 1 && !strcmp(argv[1], "named")) {
		cmocka_set_skip_filter(strstr(text, " 1.13") ? "closing_half*" : NULL);
		cmocka_set_test_filter(argc > 2 ? argv[2] : NULL);
		return conformance_run(&snti_ucx_transport);
	}
	for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
		printf("# UCX_TLS=%s\n", sets[i]);
		fflush(stdout);
		setenv("UCX_TLS", sets[i], 1);
		/* Where it would abort the process, a worker of UCX before 1.14 is kept, and its descriptors. */
		cmocka_set_skip_filter(strstr(text, " 1.13") && sets[i][0] != 'p' && sets[i][0] != 's' ? "closing_half*" : NULL);
		failed += conformance_run(&snti_ucx_transport);
	}
	return failed;
}
