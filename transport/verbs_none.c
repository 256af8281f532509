/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_none.c - the verbs transport of a build without libibverbs' headers. */
#include "transport/transport.h"

#include <stdio.h>

#include "base/log.h"

static int none_offers(char *text, size_t size)
{
	snprintf(text, size, "this build has none: install libibverbs-dev and configure again");
	return SNT_EUNSUPPORTED;
}

static int none_open(struct snti_port *port, const struct snti_port_options *options)
{
	(void)port, (void)options;
	return snti_fail(SNT_EUNSUPPORTED, "this build has no verbs: install libibverbs-dev and configure again");
}

static void none_close(struct snti_port *port)
{
	(void)port;
}

const struct snti_transport snti_verbs_transport = {
	.name = "verbs",
	.port_size = sizeof(struct snti_port),
	.conn_size = sizeof(struct snti_conn),
	.offers = none_offers,
	.open = none_open,
	.close = none_close,
};
