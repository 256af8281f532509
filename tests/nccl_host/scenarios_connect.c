/* SPDX-License-Identifier: BSD-3-Clause */
/* scenarios_connect.c - what a connection is told when it is made: its traffic class. */
#include "tests/nccl_host/host.h"

#include <netinet/in.h>
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
