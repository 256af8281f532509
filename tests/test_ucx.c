/* SPDX-License-Identifier: BSD-3-Clause */
/* test_ucx.c - the conformance tests on the ucx transport, over sets of UCX's own transports. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/conformance.h"

int main(void)
{
	static const char *const sets[] = { "tcp,self", "posix,self", "sysv,cma,self", "all" };
	struct snti_port_options options = { .secret = (const unsigned char *)"the secret of this little program", .local_only = 1 };
	struct snti_port *port;
	int failed = 0;

	if (!dlopen("libucp.so.0", RTLD_NOW | RTLD_LOCAL)) {
		printf("skipped: libucp.so.0 is not installed (Debian: libucx0)\n");
		return 77;
	}
	if (snti_port_open(&snti_ucx_transport, &options, &port) == SNT_EUNSUPPORTED) {
		printf("skipped: this build has no UCX (Debian: libucx-dev)\n");
		return 77;
	}
	snti_port_close(port);
	for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
		printf("# UCX_TLS=%s\n", sets[i]);
		fflush(stdout);
		setenv("UCX_TLS", sets[i], 1);
		failed += conformance_run(&snti_ucx_transport);
	}
	return failed;
}
