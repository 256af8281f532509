/* SPDX-License-Identifier: BSD-3-Clause */
/* measure_plugin.c - the plugin that is measured, or another one beside it. */
#include "tests/nccl_host/measure.h"

#include <stdio.h>
#include <stdlib.h>

struct plugin {
	const char *file;               /* NULL: the one that the rank has */
	struct host_rank rank;
	struct host_link links[HOST_CHANNELS];
	void *send_memory[HOST_CHANNELS], *recv_memory[HOST_CHANNELS];
	void *requests[HOST_DEPTH];
};

static struct plugin *plugin_of(struct host_way *way)
{
	if (!way->own)
		way->own = calloc(1, sizeof(struct plugin));
	if (!way->own)
		host_fail(way->rank, "out of memory");
	return way->own;
}

void host_way_plugin_set(struct host_way *way, const char *file)
{
	plugin_of(way)->file = file;
}

/* The newest version of it. */
static void load(struct host_rank *rank, const char *file)
{
	char why[256] = "no version that is known";
	int version = HOST_NEWEST;

	while (version >= HOST_OLDEST && host_open(&rank->net, file, host_kinds, version, why, sizeof why))
		version--;
	if (version < HOST_OLDEST)
		host_fail(rank, "%s: %s", file, why);
	rank->version = version;
	rank->is_merged = 0;
}

static void plugin_open(struct host_way *way)
{
	struct plugin *plugin = plugin_of(way);
	struct host_rank *rank = &plugin->rank;
	size_t size = HOST_MOST_BYTES * (size_t)way->depth;

	*rank = *way->rank;
	if (plugin->file)
		load(rank, plugin->file);
	snprintf(way->name, sizeof way->name, "%s", rank->net.name);
	host_begin(rank);
	for (int i = 0; i < way->channels; i++) {
		struct host_link *link = &plugin->links[i];

		host_connect_pair(rank, rank->context, link);
		host_must(rank, host_register(&rank->net, link->send, way->out, size, &plugin->send_memory[i]), "regMr");
		host_must(rank, host_register(&rank->net, link->recv, way->in, size, &plugin->recv_memory[i]), "regMr");
	}
}

static void plugin_close(struct host_way *way)
{
	struct plugin *plugin = way->own;
	struct host_rank *rank = &plugin->rank;

	host_barrier(rank);
	for (int i = 0; i < way->channels; i++) {
		struct host_link *link = &plugin->links[i];

		host_must(rank, host_deregister(&rank->net, link->send, plugin->send_memory[i]), "deregMr");
		host_must(rank, host_deregister(&rank->net, link->recv, plugin->recv_memory[i]), "deregMr");
		host_close_pair(rank, link);
	}
	host_end(rank);
	free(plugin);
}

static int plugin_post(struct host_way *way, int is_send, size_t size, uint64_t index)
{
	struct plugin *plugin = way->own;
	const struct host_net *net = &plugin->rank.net;
	uint64_t channel = index % (uint64_t)way->channels;
	char *at = host_place(way, is_send, index);
	void **request = &plugin->requests[index % (uint64_t)way->depth];
	struct host_buffers b = { .count = 1, .data = { at }, .sizes = { size }, .tags = { 1 },
		.memories = { plugin->recv_memory[channel] } };

	if (is_send)
		host_must(&plugin->rank, host_isend(net, plugin->links[channel].send, at, size, 1, plugin->send_memory[channel], request),
			  "isend");
	else
		host_must(&plugin->rank, host_irecv(net, plugin->links[channel].recv, &b, request), "irecv");
	return *request != NULL;
}

static int plugin_test(struct host_way *way, uint64_t index)
{
	struct plugin *plugin = way->own;
	int is_done, size;

	host_must(&plugin->rank, host_test(&plugin->rank.net, plugin->requests[index % (uint64_t)way->depth], &is_done, &size), "test");
	return is_done;
}

const struct host_way_kind host_way_plugin = {
	.open = plugin_open, .close = plugin_close, .move = host_move_deep, .post = plugin_post, .test = plugin_test,
};
