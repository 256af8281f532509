/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_absent.c - the ucx transport of a build without UCX's headers: it has its place in the table and refuses. */
#include "base/log.h"
#include "transport/transport.h"

static int refuse(struct snti_port *port, const struct snti_port_options *options)
{
	(void)port, (void)options;
	return snti_fail(SNT_EUNSUPPORTED, "ucx: this build has no UCX: configure --with-ucx=yes (Debian: libucx-dev)");
}

static void nothing(struct snti_port *port)
{
	(void)port;
}

const struct snti_transport snti_ucx_transport = {
	.name = "ucx",
	.port_size = sizeof(struct snti_port),
	.conn_size = sizeof(struct snti_conn),
	.open = refuse,
	.close = nothing,
};
