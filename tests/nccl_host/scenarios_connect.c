/* SPDX-License-Identifier: BSD-3-Clause */
/* scenarios_connect.c - what a connection is told when it is made: its traffic class, how many others there will be,
 * who the other one is. */
#include "tests/nccl_host/host.h"

#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_DESCRIPTORS = 1024 };

/* ---- the traffic class ----------------------------------------------------------- */

/* -1: it is no connected socket of the internet. */
static int class_of(int fd)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof peer, class_size;
	int class = -1;

	if (getpeername(fd, (struct sockaddr *)&peer, &size) || (peer.ss_family != AF_INET && peer.ss_family != AF_INET6))
		return -1;
	class_size = sizeof class;
	return getsockopt(fd, IPPROTO_IP, IP_TOS, &class, &class_size) ? -1 : class;
}

static void check_classes(struct host_rank *rank, int want)
{
	int sockets = 0, class;

	for (int fd = 0; fd < MOST_DESCRIPTORS; fd++) {
		class = class_of(fd);
		sockets += class >= 0;
		if (class >= 0 && class != want)
			host_fail(rank, "a socket has class %d instead of %d", class, want);
	}
	if (sockets < 2)
		host_fail(rank, "%d sockets for two connections", sockets);
}

/* One direction has its own socket, and both ends of it carry packets. */
void host_scenario_class(struct host_rank *rank)
{
	struct host_link link;

	if (rank->options->traffic_class < 0 || rank->version < 10)
		host_fail(rank, "needs --traffic-class, and version 10 or later");
	host_begin(rank);
	host_connect_pair(rank, rank->context, &link);
	check_classes(rank, rank->options->traffic_class);
	host_barrier(rank);
	host_close_pair(rank, &link);
	host_end(rank);
}

/* ---- hints ----------------------------------------------------------------------- */

/* Data flows on a thread of its own, as the hints come from both of NCCL's. */
static void hint_and_exchange(struct host_rank *rank, const struct host_link *link)
{
	static const size_t sizes[] = { 64, 4096, 131072, 1048576 };
	struct host_shape shape = { .seed = rank->seed + 60, .groups = 40, .depth = 8, .most_parts = 1, .sizes = sizes,
		.size_count = 4 };
	struct host_flow flows[2];
	struct host_work work = { .rank = rank, .flows = flows, .count = 2 };
	pthread_t thread;

	host_flow_open(&flows[0], rank, link->send, 1, &shape);
	host_flow_open(&flows[1], rank, link->recv, 0, &shape);
	if (pthread_create(&thread, NULL, host_work_thread, &work))
		host_fail(rank, "no thread");
	for (int peers = -1; pthread_tryjoin_np(thread, NULL); peers = peers < 100000 ? peers + 1 : -1)
		host_must(rank, host_set_attributes(&rank->net, rank->context, peers), "setNetAttr");
	host_flow_close(&flows[0]);
	host_flow_close(&flows[1]);
}

/* How many descriptors a connection each way takes when the plugin is told of @peers. */
static int connect_among(struct host_rank *rank, int peers)
{
	int before, took;
	struct host_link link;

	host_barrier(rank);
	before = host_descriptors();
	rank->peers = peers;
	host_connect_pair(rank, rank->context, &link);
	took = host_descriptors() - before;
	hint_and_exchange(rank, &link);
	host_barrier(rank);
	host_close_pair(rank, &link);
	return took;
}

void host_scenario_hints(struct host_rank *rank)
{
	int one, many;

	host_begin(rank);
	/* The first one may leave something open for all. */
	connect_among(rank, -1);
	one = connect_among(rank, 1);
	many = connect_among(rank, 1000);
	host_log(NCCL_LOG_INFO, NCCL_LOG_NET, "host", 0, "%d descriptors each among many, %d else", many, one);
	/* In one process the other rank's come and go in between. */
	if (many > one && !rank->options->threads)
		host_fail(rank, "a connection among many takes %d descriptors, else %d", many, one);
	host_end(rank);
}

/* ---- other versions -------------------------------------------------------------- */

/* Where they stand in a handle of sennit's: for ever, so that each version understands who another one is. */
enum { MAGIC_AT = 0, PROTOCOL_AT = 8, ADDRESS_SIZE_AT = 9, TRANSPORT_AT = 10, BUILD_AT = 40 };

static void connect_to_altered(struct host_rank *rank, int at, const char *must_say)
{
	unsigned char mine[NCCL_HANDLE_BYTES], theirs[NCCL_HANDLE_BYTES];
	void *listen, *comm;
	int result;

	host_must(rank, host_listen(&rank->net, rank->context, host_device(rank), mine, &listen), "listen");
	host_swap(rank, mine, theirs, sizeof mine);
	theirs[at] = (unsigned char)(theirs[at] + 100);
	result = host_connect(&rank->net, rank->context, host_device(rank), theirs, &comm);
	if (result == NCCL_SUCCESS || comm)
		host_fail(rank, "connect takes a handle that is another at %d", at);
	if (host_warnings() != 1 || !strstr(host_last_warning(), must_say))
		host_fail(rank, "%d warnings, without '%s', for a handle that is another at %d", host_warnings(), must_say, at);
	host_forget_warnings();
	host_must(rank, host_close_listen(&rank->net, listen), "closeListen");
}

/* Another build of the same protocol is told of and connects. */
static void connect_to_build(struct host_rank *rank)
{
	struct host_link link;

	rank->alters = BUILD_AT;
	host_connect_pair(rank, rank->context, &link);
	rank->alters = 0;
	host_barrier(rank);
	host_close_pair(rank, &link);
}

void host_scenario_kin(struct host_rank *rank)
{
	if (strcmp(rank->net.name, "Sennit"))
		host_fail(rank, "the handles of %s are not known", rank->net.name);
	host_begin(rank);
	connect_to_altered(rank, MAGIC_AT, "another network's");
	connect_to_altered(rank, PROTOCOL_AT, "install one version");
	connect_to_altered(rank, ADDRESS_SIZE_AT, "damaged");
	connect_to_altered(rank, TRANSPORT_AT, "damaged");
	connect_to_build(rank);
	host_end(rank);
}
