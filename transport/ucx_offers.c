/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_offers.c - what UCX has between hosts that is more than tcp. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/ucx.h"

/* How the names of UCX's transports over a fabric begin. Others are within a host, or tcp, or not known to us. */
static const char *const fabrics[] = { "rc_", "dc_", "ud_", "srd", "ugni_" };

static int is_fabric(const char *name)
{
	for (size_t i = 0; i < sizeof fabrics / sizeof *fabrics; i++)
		if (!strncmp(name, fabrics[i], strlen(fabrics[i])))
			return 1;
	return 0;
}

static uint64_t bit_of(const char *name)
{
	uint64_t hash = 0xcbf29ce484222325u;

	while (*name)
		hash = (hash ^ (unsigned char)*name++) * 0x100000001b3u;
	return (uint64_t)1 << (hash >> 58);
}

/* Adds the transport of a line such as "# resource 4 : md 3 dev 2 flags -- rc_verbs/mlx5_0:1", each name once. */
static void read_line(char *line, struct ucx_fabric *fabric)
{
	char *last = strrchr(line, ' '), *slash = last ? strchr(last, '/') : NULL;
	size_t used = strlen(fabric->names);

	if (!slash || !strstr(line, "resource"))
		return;
	*slash = 0;
	if (!is_fabric(last + 1) || fabric->kinds & bit_of(last + 1))
		return;
	fabric->kinds |= bit_of(last + 1);
	snprintf(fabric->names + used, sizeof fabric->names - used, "%s%s", used ? " " : "", last + 1);
}

void ucx_read_fabric(char *listing, struct ucx_fabric *fabric)
{
	char *save = NULL;

	memset(fabric, 0, sizeof *fabric);
	for (char *line = strtok_r(listing, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		read_line(line, fabric);
}

/* UCX has no call that tells what a context uses, after UCX_TLS and UCX_NET_DEVICES; it only prints it. Should a version
 * print otherwise, nothing is found and tcp is taken. */
void ucx_fabric_of(ucp_context_h context, struct ucx_fabric *fabric)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	memset(fabric, 0, sizeof *fabric);
	if (!stream)
		return;
	ucx.context_print_info(context, stream);
	if (!fclose(stream) && text)
		ucx_read_fabric(text, fabric);
	free(text);
}

int ucx_offers(char *text, size_t size)
{
	const struct snti_port_options options = { .local_only = 0 };
	struct ucx_fabric fabric;
	ucp_context_h context;
	int status;

	if (!snti_has_rdma()) {
		snprintf(text, size, "no RDMA device, and nothing else that tcp lacks");
		return SNT_EUNSUPPORTED;
	}
	status = ucx_library(text, size);
	if (status)
		return status;
	status = ucx_context(&options, &context, text, size);
	if (status)
		return status;
	ucx_fabric_of(context, &fabric);
	ucx.cleanup(context);
	snprintf(text, size, "%s", fabric.kinds ? fabric.names : "UCX finds only tcp between hosts");
	return fabric.kinds ? 0 : SNT_EUNSUPPORTED;
}
