/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_absent.c - the ucx transport of a build without UCX's headers: it has its place in the table and refuses. */
#include <stdio.h>

#include "base/log.h"
#include "transport/transport.h"

#define WHY "this build has no UCX: install its headers (Debian: libucx-dev) and configure again"

static int library(char *text, size_t size)
{
	snprintf(text, size, WHY);
	return SNT_EUNSUPPORTED;
}

static int refuse(struct snti_port *port, const struct snti_port_options *options)
{
	(void)port, (void)options;
	return snti_fail(SNT_EUNSUPPORTED, "ucx: " WHY);
}

static void nothing(struct snti_port *port)
{
	(void)port;
}

const struct snti_transport snti_ucx_transport = {
	.name = "ucx",
	.port_size = sizeof(struct snti_port),
	.conn_size = sizeof(struct snti_conn),
	.library = library,
	.offers = library,
	.open = refuse,
	.close = nothing,
};
