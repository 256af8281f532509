/* SPDX-License-Identifier: BSD-3-Clause */
/* order.c - which transports may be used, the preferred ones first: as a list names them, or all there are. */
#include <dirent.h>
#include <string.h>

#include "base/log.h"
#include "transport/transport.h"

const char *snti_rdma_folder = "/sys/class/infiniband";

/* Every card that does RDMA is there, whatever its driver: a look at a folder, where loading a library to ask it would
 * cost every program on every machine. */
int snti_has_rdma(void)
{
	DIR *folder = opendir(snti_rdma_folder);
	int found = 0;

	for (struct dirent *entry; folder && !found && (entry = readdir(folder));)
		found = entry->d_name[0] != '.';
	if (folder)
		closedir(folder);
	return found;
}

static int add(struct snti_order *order, const char *name)
{
	uint32_t i = 0;

	while (snti_transports[i] && strcmp(snti_transports[i]->name, name))
		i++;
	if (!snti_transports[i] || order->count == SNTI_TRANSPORTS_MOST)
		return snti_fail(SNT_EINVAL, "no transport is named '%s'", name);
	order->index[order->count++] = i;
	return 0;
}

/* Several devices at once come before the transport that moves them, on all ranks alike; who has only one opens no rails. */
static int add_rails_of(struct snti_order *order, const char *name)
{
	for (uint32_t i = 0; snti_transports[i]; i++) {
		const struct snti_transport *under = snti_rails_under(snti_transports[i]);

		if (!under || strcmp(under->name, name) || order->rails_unasked & 1u << i)
			continue;
		order->rails_unasked |= 1u << i;
		return add(order, snti_transports[i]->name);
	}
	return 0;
}

/* "rails" has those of RDMA ports in it, where there are any. */
static int add_with_rails(struct snti_order *order, const char *list, const char *name)
{
	int status = 0;

	if (!strcmp(name, snti_rails_transport.name) && !strstr(list, snti_rails_verbs_transport.name))
		status = add_rails_of(order, snti_verbs_transport.name);
	else if (!strstr(list, "rails"))
		status = add_rails_of(order, name);
	return status ? status : add(order, name);
}

static void add_all(struct snti_order *order)
{
	order->is_automatic = 1;
	while (snti_transports[order->count]) {
		if (snti_rails_under(snti_transports[order->count]))
			order->rails_unasked |= 1u << order->count;
		order->index[order->count] = order->count;
		order->count++;
	}
}

int snti_order_read(const char *list, struct snti_order *order)
{
	char text[256], *save = NULL;
	int status = 0;

	memset(order, 0, sizeof *order);
	if (!strcmp(list, "auto")) {
		add_all(order);
		return 0;
	}
	if (strlen(list) >= sizeof text)
		return snti_fail(SNT_EINVAL, "the list of transports is longer than %zu bytes", sizeof text - 1);
	strcpy(text, list);
	for (char *name = strtok_r(text, ", ", &save); name && !status; name = strtok_r(NULL, ", ", &save))
		status = add_with_rails(order, list, name);
	if (!status && !order->count)
		status = snti_fail(SNT_EINVAL, "no transport may be used: SNT_TRANSPORTS is empty");
	return status;
}
