/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_none.c - the verbs transport of a build without libibverbs' headers. */
#include "transport/transport.h"
#include "transport/verbs_rails.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define WHY "this build has no verbs: install libibverbs-dev and configure again"
static int none_offers(char *text, size_t size)
{
	snprintf(text, size, "this build has none: install libibverbs-dev and configure again");
	return SNT_EUNSUPPORTED;
}

static int none_open(struct snti_port *port, const struct snti_port_options *options)
{
	(void)port, (void)options;
	return snti_fail(SNT_EUNSUPPORTED, WHY);
}

static int none_devices(struct snti_device *devices, int most)
{
	(void)devices, (void)most;
	return snti_fail(SNT_EUNSUPPORTED, WHY);
}

static void none_close(struct snti_port *port)
{
	(void)port;
}

void verbs_rail_network(const struct snti_port *port, unsigned char *net, size_t size)
{
	(void)port;
	memset(net, 0, size);
}

int verbs_rail_is_near(const struct snti_port *port, const struct snti_address *theirs)
{
	(void)port, (void)theirs;
	return 0;
}

int verbs_rail_is_down(const struct snti_port *port)
{
	(void)port;
	return 1;
}

int verbs_rail_rests(struct snti_port *port)
{
	(void)port;
	return 0;
}

const struct snti_transport snti_verbs_transport = {
	.name = "verbs",
	.port_size = sizeof(struct snti_port),
	.conn_size = sizeof(struct snti_conn),
	.devices = none_devices,
	.offers = none_offers,
	.open = none_open,
	.close = none_close,
};
